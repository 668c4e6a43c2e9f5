import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.datasets.projections import RawProjections, to_measurement
from invdiff.errors import FormatError, InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import FanCT, ParallelCT, fbp
from invdiff.operators.ct.tomography import Tomography

GAIN, CENTRE = 2.5, 33.4  # counts a photon; channel of the axis, of 64


def disc(height: float = 0.04) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(40.0) - 19.5, torch.arange(40.0) - 19.5, indexing="ij")
    return height * ((y - 4) ** 2 + (x + 3) ** 2 < 90).float() + height * ((y + 6) ** 2 + (x - 5) ** 2 < 16).float()


def scan(rows: int = 2, views: int = 90, photons: float = 2e4, seed: int = 0, read_out: float = 3) -> RawProjections:
    """Counts of two slices with flats and darks, an uneven beam and a detector off its centre."""
    rng = np.random.default_rng(seed)
    angles = np.arange(views) * math.pi / views
    op = ParallelCT((40, 40), angles, 64, unit="pixel", detector_offset=31.5 - CENTRE)
    lines = np.stack([op.forward(disc(0.04 * (1 + r))[None, None])[0].numpy() for r in range(rows)], 1)
    beam = photons * (1 + 0.2 * np.cos(np.arange(64) / 9))[None]
    counts = GAIN * rng.poisson(beam * np.exp(-lines)) + 100 + rng.normal(0, read_out, lines.shape)
    flats = GAIN * rng.poisson(np.broadcast_to(beam, (12, rows, 64))) + 100 + rng.normal(0, read_out, (12, rows, 64))
    darks = 100 + rng.normal(0, read_out, (12, rows, 64))
    return RawProjections(counts, angles, flats, darks)


def tomograph(m: Measurement) -> Tomography:
    assert isinstance(m.operator, Tomography)
    return m.operator


def test_line_integrals_are_as_noisy_as_they_say() -> None:
    raw = scan()
    m = to_measurement(raw)
    assert m.y.shape == (2, 90, 64) and m.batched and m.meta["estimated"] == ["counts_per_photon", "rotation_centre"]
    # 12 flats of 128 pixels: the median of their variances is good to a few percent.
    assert m.meta["counts_per_photon"] == pytest.approx(GAIN, rel=0.15)
    assert m.meta["rotation_centre"] == pytest.approx(CENTRE, abs=0.1)
    op = ParallelCT((40, 40), raw.angles, 64, unit="pixel", detector_offset=31.5 - CENTRE)
    clean = torch.stack([op.forward(disc(0.04 * (1 + r))[None, None])[0] for r in range(2)])
    assert isinstance(m.noise, Gaussian) and isinstance(m.noise.sigma, torch.Tensor)
    ratio = float(((m.y - clean) / m.noise.sigma).square().mean())
    assert abs(ratio - 1) < 0.15  # 11 520 data; the gain is known to that


@pytest.mark.parametrize("bin", [1, 2])
def test_read_out_noise_counts_where_photons_are_few(bin: int) -> None:
    clean, raw = (scan(photons=p, read_out=e) for p, e in ((1e9, 0.0), (2e3, 60.0)))  # 24 photons, of 500 or more
    exact, m = (to_measurement(r, centre=CENTRE, bin=bin) for r in (clean, raw))
    ratio = float(((m.y - exact.y) / m.noise.sigma).square().mean())  # type: ignore[attr-defined]
    assert abs(ratio - 1) < 0.15


def test_reconstruction_is_the_object_where_it_is() -> None:
    m = to_measurement(scan(photons=1e6), 0)
    assert not m.batched and m.meta["slice"] == 0
    x = fbp(tomograph(m), m.data, window="hann")[0, 0]  # strict: the grid is what all views see
    side = (x.shape[-1] - 40) // 2
    inner = x[side : side + 40, side : side + 40]
    truth = disc()
    assert float((inner - truth).norm() / truth.norm()) < 0.25  # edges of discs
    assert float((torch.roll(inner, 1, -1) - truth).norm() / truth.norm()) > 0.27  # not one pixel off


def test_views_bins_and_rows_are_chosen() -> None:
    raw = scan()
    m = to_measurement(raw, [1], views=30, bin=2)
    assert m.y.shape == (1, 30, 32) and m.meta["bin"] == 2 and tomograph(m).geometry.views == 30
    whole = to_measurement(raw, [1], bin=2)
    np.testing.assert_allclose(m.y, whole.y[:, ::3])  # a third of the views, evenly
    assert m.meta["rotation_centre"] == whole.meta["rotation_centre"]  # found from all views
    small = to_measurement(raw, 1, size=20)
    assert small.operator.domain_shape == (1, 20, 20)
    given = to_measurement(raw, 1, centre=30.0, sigma=0.1)
    assert given.meta["rotation_centre"] == pytest.approx(30.0) and given.meta["sigma"] == 0.1


def test_binned_data_describe_the_same_object() -> None:
    full, half = (to_measurement(scan(photons=1e6), 0, bin=b) for b in (1, 2))
    total = [float(fbp(tomograph(m), m.data).sum()) for m in (full, half)]
    # mu per channel is half as large as mu per two, on a quarter of the pixels.
    assert total[1] / total[0] == pytest.approx(0.5, rel=0.02)


def test_dead_channels_say_nothing() -> None:
    raw = scan()
    assert raw.flats is not None and raw.darks is not None
    flats, counts = raw.flats.copy(), raw.projections.copy()
    flats[:, 0, 20], counts[:, 0, 20] = 100, 100  # as dark as without a beam; its noise decides on the sign
    flats[:, 0, 20] -= 20
    m = to_measurement(replace(raw, flats=flats, projections=counts))
    assert m.meta["dead_channels"] == 1
    sigma = m.noise.sigma  # type: ignore[attr-defined]
    assert float(sigma[0, :, 20].min()) > 100 * float(sigma[0, :, 19].max())
    torch.testing.assert_close(m.y[0, :, 20], (m.y[0, :, 19] + m.y[0, :, 21]) / 2)


def test_wrong_readings_say_nothing() -> None:
    raw = scan()
    counts = raw.projections.copy()
    counts[7], counts[3, 1, 30] = 0, 0  # a dropped frame and one reading, far below the dark
    with pytest.warns(RuntimeWarning, match=r"129 of 11520 readings are below the dark"):
        m = to_measurement(replace(raw, projections=counts))
    whole = to_measurement(raw)
    assert m.meta["wrong_readings"] == 129 and m.meta["rotation_centre"] == pytest.approx(CENTRE, abs=0.1)
    sigma = m.noise.sigma  # type: ignore[attr-defined]
    assert float(sigma[:, 7].min()) > 100 * float(sigma[:, 6].max())
    torch.testing.assert_close(m.y[1, 3, 30], (m.y[1, 3, 29] + m.y[1, 3, 31]) / 2)
    torch.testing.assert_close(m.y[:, 7], whole.y[:, 6], atol=1e-4, rtol=1e-4)
    counts[:40] = 0
    with pytest.raises(FormatError, match=r"4\d% of the counts are below the dark"):
        to_measurement(replace(raw, projections=counts))


def test_few_photons_with_one_dark_frame() -> None:
    raw = scan(photons=20)
    assert raw.darks is not None
    m = to_measurement(replace(raw, darks=raw.darks.mean(0, keepdims=True)), centre=CENTRE)
    assert "wrong_readings" not in m.meta and bool(torch.isfinite(m.y).all())


def test_slices_of_known_size_have_a_place(tmp_path: Path) -> None:
    from invdiff.datasets.volume import from_attributes
    from invdiff.posterior import Posterior

    m = to_measurement(replace(scan(rows=5), spacing=(0.2, 0.1)), [1, 3])
    place = from_attributes(m.meta)
    assert place is not None and place.spacing == pytest.approx((0.4, 0.1, 0.1))
    middle = [(n - 1) / 2 for n in place.values.shape]
    np.testing.assert_allclose(place.world(middle), 0, atol=1e-9)  # rows 1 and 3 of five stand about the middle
    pytest.importorskip("nibabel", reason="NIfTI needs nibabel (extra imaging)")
    x = torch.zeros(2, 2, *m.operator.domain_shape)
    Posterior.from_draws(x, m.coords, m.meta, batched=True).save(tmp_path / "a.nii")
    assert "geometry" not in to_measurement(replace(scan(rows=5), spacing=(0.2, 0.1)), [0, 1, 3]).meta


def test_fan_beams_and_line_integrals() -> None:
    angles = np.arange(100) * 2 * math.pi / 100
    op = FanCT((40, 40), angles, 80, source_axis=120.0, source_detector=200.0, detector_spacing=1.5)
    y, x = torch.meshgrid(torch.arange(40.0) - 19, torch.arange(40.0) - 22, indexing="ij")
    clean = op.forward(0.05 * torch.exp(-(y**2 + x**2) / 60)[None, None])[0]
    lines = clean + 0.002 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    raw = RawProjections(lines[:, None].numpy(), angles, spacing=(1.5, 1.5), source_axis=120.0, source_detector=200.0)
    m = to_measurement(raw)
    assert isinstance(m.operator, FanCT) and m.operator.unit == "mm" and "sigma" in m.meta["estimated"]
    assert m.meta["sigma"] == pytest.approx(0.002, rel=0.1)  # of 8000 data and a smooth object
    assert m.operator.geometry.channel_offset == pytest.approx(0.0, abs=0.05)
    counted = to_measurement(replace(raw, blank=1e4))
    expected = (1e4 * torch.exp(-lines)).rsqrt().float()
    torch.testing.assert_close(counted.noise.sigma, expected)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"angles": np.zeros(3)}, ShapeError, "angles has shape"),
        ({"flats": np.ones((2, 2, 5))}, ShapeError, "flats have shape"),
        ({"darks": np.full((2, 2, 64), 1e9)}, FormatError, "not brighter"),
        ({"projections": np.full((90, 2, 64), np.nan)}, FormatError, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replace(scan(), **change)


@pytest.mark.parametrize(
    "options", [{"slice": 5}, {"views": 0}, {"views": 91}, {"bin": 40}, {"size": 1}, {"sigma": 0.0}]
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(InputError):
        to_measurement(scan(), **options)


@pytest.mark.skipif(
    not (Path(os.environ.get("INVDIFF_DATA", "")) / "ct/tooth_counts.h5").is_file(), reason="INVDIFF_DATA is not set"
)
def test_real_counts_of_a_tooth() -> None:
    import invdiff

    m = invdiff.read(Path(os.environ["INVDIFF_DATA"]) / "ct/tooth_counts.h5", slice=0, bin=4)
    assert m.y.shape == (181, 160) and m.meta["rotation_centre"] == pytest.approx(296, abs=1)
    x = fbp(tomograph(m), m.data)[0, 0]
    assert float(x[:20].abs().mean()) < 0.03 * float(x.max())  # air around it
