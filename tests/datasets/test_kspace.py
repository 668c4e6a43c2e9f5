"""Raw k-space: checks, masks found, the readout cut, and the measurement made of it."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from invdiff.datasets.kspace import RawKspace, as_kspace, chosen_slices, sampled, to_measurement, without_oversampling
from invdiff.datasets.phantoms.coils import coil_maps
from invdiff.errors import FormatError, InputError, ShapeError
from invdiff.operators.fourier import fft2c, ifft2c
from invdiff.operators.mri.masks import equispaced_mask, gaussian_mask


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small problems: threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disc(height: int, width: int, radius: float = 0.7) -> Tensor:
    """A complex image with some structure, zero beyond `radius` of the half sides."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    size = (x**2 + y**2 < radius**2) * (1 + 0.5 * torch.cos(9 * x) * torch.sin(7 * y + 1))
    return torch.polar(size, 0.5 * x - 0.8 * y)


def acquire(image: Tensor, maps: Tensor, mask: Tensor, sigma: float, seed: int = 0) -> Tensor:
    clean = fft2c(maps * image)
    noise = torch.randn(*clean.shape, 2, generator=rng(seed))
    return (clean + sigma * torch.view_as_complex(noise)) * mask


def test_sampled_in_its_smallest_shape() -> None:
    kspace = torch.randn(2, 3, 6, 8, generator=rng(), dtype=torch.complex64)
    columns = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1]).bool()
    points = torch.rand(6, 8, generator=rng()) < 0.5
    assert torch.equal(sampled(kspace * columns), columns)
    assert torch.equal(sampled((kspace * columns)[0]), columns)
    assert torch.equal(sampled(kspace * points), points)
    kspace[:, 1:] = 0  # one coil is enough
    assert torch.equal(sampled(kspace * columns), columns)
    different = kspace * torch.stack([columns, ~columns])[:, None, None]
    assert torch.equal(sampled(different), torch.stack([columns, ~columns])[:, None])
    different[0, :, 0] = 0
    assert sampled(different).shape == (2, 6, 8)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (1, 1, 5), (2, 4, 5)])
def test_masks_that_fit(shape: tuple[int, ...]) -> None:
    mask = torch.ones(shape, dtype=torch.bool)
    kspace = torch.ones(2, 3, 4, 5, dtype=torch.complex64)
    if shape == (1, 1, 5):
        kspace = kspace[:1]
    assert RawKspace(kspace, mask).mask is mask


@pytest.mark.parametrize(
    ("kspace", "mask", "said"),
    [
        ((3, 4, 5), (4,), r"mask is torch.bool \(4,\); kspace \(3, 4, 5\) needs"),
        ((3, 4, 5), (1, 4, 5), "needs bool"),
        ((2, 3, 4, 5), (3, 1, 5), "needs bool"),
        ((4, 5), (5,), r"kspace has shape \(4, 5\); expected \(coils, H, W\)"),
    ],
)
def test_masks_that_do_not(kspace: tuple[int, ...], mask: tuple[int, ...], said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        RawKspace(torch.ones(kspace, dtype=torch.complex64), torch.ones(mask, dtype=torch.bool))


def bad(place: tuple[int, ...], value: complex) -> np.ndarray:
    values = np.ones((2, 3, 4, 5), np.complex128)
    values[place] = value
    return values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (bad((1, 2, 3, 4), complex(0, np.nan)), "f.h5: kspace.*slice 8, coil 2, row 3, column 4"),
        (bad((0, 1), np.inf), "in 20 places, the first in slice 7, coil 1, row 0, column 0"),
        (bad((0, 1), 1e200), r"within complex64.*in 20 places"),
        (bad((1,), 0), "zero everywhere in slice 8"),
        (np.ones((2, 3, 4, 5)), "is float64; expected complex"),
        (np.ones((2, 3, 4, 5), int), "is int64; expected complex"),
        (np.ones((4, 5), complex), r"shape \(4, 5\)"),
        (np.ones((2, 0, 4, 5), complex), r"shape \(2, 0, 4, 5\)"),
    ],
)
def test_bad_values(values: np.ndarray, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        as_kspace(values, "f.h5: kspace", [7, 8])


def test_values_are_converted() -> None:
    values = (np.arange(24.0).reshape(2, 3, 4) + 1j).astype(">c16").transpose(1, 0, 2)
    kspace = as_kspace(values, "f", 0)
    assert kspace.dtype == torch.complex64
    assert torch.equal(kspace, torch.from_numpy(values.astype(np.complex64)))


def test_chosen_slices(tmp_path) -> None:
    assert chosen_slices(tmp_path, None, 3) == [0, 1, 2]
    assert chosen_slices(tmp_path, None, 1) == 0
    assert chosen_slices(tmp_path, 2, 3) == 2
    assert chosen_slices(tmp_path, range(1, 3), 3) == [1, 2]
    for wrong in (3, -1, [0, 3], [], 1.0):
        with pytest.raises(InputError, match="from 0 to 2"):
            chosen_slices(tmp_path, wrong, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "height"), [(32, 16), (33, 16), (32, 15), (33, 17)])
def test_readout_is_cut_about_its_centre(rows: int, height: int) -> None:
    first = rows // 2 - height // 2
    image = torch.randn(3, rows, 12, generator=rng(), dtype=torch.complex64)
    mask = equispaced_mask(12, 3, 0.2)
    raw = RawKspace(fft2c(image) * mask, mask, recon_size=(height, 12))
    cut = without_oversampling(raw)
    assert cut.kspace.shape == (3, height, 12)
    # Whole columns commute with the transform along the readout: the k-space of the cut image, the same columns.
    expected = fft2c(image[:, first : first + height]) * mask
    torch.testing.assert_close(cut.kspace, expected, atol=3e-6, rtol=0)
    assert torch.equal(sampled(cut.kspace), mask)
    assert cut.meta["readout_oversampling_removed"] == [rows, height]


def test_readout_is_cut_with_white_noise_kept() -> None:
    noise = torch.randn(4, 64, 32, generator=rng(), dtype=torch.complex64)
    cut = without_oversampling(RawKspace(noise, torch.ones(32, dtype=torch.bool), recon_size=(32, 32))).kspace
    # 4096 complex values, E|n|^2 = 1: the mean square is known to 1 / sqrt(4096) = 1.6 %.
    assert cut.abs().square().mean().item() == pytest.approx(1, abs=0.06)
    lag = (cut[:, 1:].conj() * cut[:, :-1]).mean()
    assert abs(lag) < 0.06


def test_readout_is_left_where_it_cannot_be_cut() -> None:
    points = gaussian_mask((16, 16), 3, 4)
    raw = RawKspace(torch.ones(1, 16, 16) * points + 0j, points, recon_size=(8, 8))
    assert without_oversampling(raw) is raw
    whole = RawKspace(raw.kspace, torch.ones(16, dtype=torch.bool))
    assert without_oversampling(whole) is whole


@pytest.mark.parametrize("kind", ["columns", "points"])
@pytest.mark.parametrize("slices", [None, 2])
def test_truth_explains_the_measurement(kind: str, slices: int | None) -> None:
    maps, image, sigma = coil_maps(rng(1), 4, (40, 48)), disc(40, 48), 0.01
    mask = equispaced_mask(48, 3, 0.2) if kind == "columns" else gaussian_mask((40, 48), 3, 8)
    kspace = acquire(image, maps, mask, sigma)
    if slices:
        kspace = torch.stack([kspace, acquire(0.5 * image, maps, mask, sigma, 1)])
    raw = RawKspace(kspace, mask, {"file": "a.h5", "slice": [3, 4] if slices else 3}, spacing=(0.5, 0.7))
    m = to_measurement(raw, sigma, coil_maps=maps)
    assert m.batched == bool(slices)
    x = torch.stack([image, 0.5 * image])[:, None] if slices else image[None, None]
    # chi2 of n real data has mean n and variance 2 n.
    chi2 = m.chi2(x)
    assert (chi2 / m.count - 1).abs().max() < 4 * math.sqrt(2 / m.count)
    assert m.count == 2 * 4 * int(mask.expand(40, 48).sum())
    assert m.meta["acceleration"] == pytest.approx(mask.numel() / int(mask.sum()))
    assert m.meta["estimated"] == [] and m.meta["file"] == "a.h5"
    assert m.meta["sigma"] == pytest.approx(sigma)
    assert ("problem" in m.coords) == bool(slices)
    dims, values, attrs = m.coords["x"]
    assert dims == ("x",) and attrs == {"units": "mm"} and len(values) == 48
    assert values[24] == 0 and values[25] == pytest.approx(0.7)
    assert m.coords["y"][1][0] == pytest.approx(-20 * 0.5)


def test_maps_are_estimated() -> None:
    maps, image = coil_maps(rng(1), 4, (32, 32)), disc(32, 32)
    mask = gaussian_mask((32, 32), 2.5, 16)
    kspace = acquire(image, maps, mask, 1e-3)
    m = to_measurement(RawKspace(kspace, mask, {"file": "a.npy"}), sigma=1e-3)
    assert m.meta["estimated"] == ["coil_maps"]
    assert m.meta["calibration_region"] == [16, 16]
    assert m.operator.domain_shape == (1, 32, 32)
    # The maps are known up to a phase; the image that goes with them predicts the data within a few percent.
    found = m.operator.coil_maps[0, 0]  # type: ignore[attr-defined]
    combined = (found.conj() * ifft2c(acquire(image, maps, torch.ones_like(mask), 0.0))).sum(0)
    residual = m.residual(combined[None, None])
    assert residual.norm() < 0.03 * m.y.norm()
    two = to_measurement(RawKspace(kspace, mask), sigma=1e-3, n_sets=2, calibration=12)
    assert two.operator.domain_shape == (2, 32, 32)


def test_noise_is_estimated() -> None:
    maps, image, sigma = coil_maps(rng(1), 4, (48, 48)), disc(48, 48), 0.05
    mask = equispaced_mask(48, 2, 0.3)
    levels = (0.2 * sigma, sigma, sigma)  # a slice that is odd does not decide
    kspace = torch.stack([acquire(image, maps, mask, level, i) for i, level in enumerate(levels)])
    m = to_measurement(RawKspace(kspace, mask), coil_maps=maps)
    assert m.meta["estimated"] == ["sigma"]
    assert m.noise.sigma == m.meta["sigma"]  # type: ignore[attr-defined]
    # 4 * 31 * 48 complex data less 48 * 48 unknowns: sigma is known to 0.5 / sqrt(3648) = 0.9 %.
    assert m.meta["sigma"] == pytest.approx(sigma, rel=0.04)
    assert 0 < m.meta["sigma_uncertainty"] < 0.1 * sigma
    one = to_measurement(RawKspace(kspace[1, :1], mask))  # a single coil has no residual
    assert 0 < one.meta["sigma"] < 1
    with pytest.raises(InputError, match="a.npy: .*give sigma"):
        to_measurement(RawKspace(kspace[1, :1, :8, :8], torch.ones(8).bool(), {"file": "a.npy"}))


def test_single_coil_is_uniform() -> None:
    mask = equispaced_mask(32, 2, 0.2)
    kspace = torch.randn(1, 32, 32, generator=rng(), dtype=torch.complex64) * mask
    m = to_measurement(RawKspace(kspace, mask), sigma=1.0)
    assert torch.equal(m.operator.coil_maps, torch.ones(1, 1, 1, 32, 32) + 0j)  # type: ignore[attr-defined]


def test_oversampling_is_removed_unless_kept() -> None:
    mask = equispaced_mask(16, 2, 0.2)
    kspace = torch.randn(1, 32, 16, generator=rng(), dtype=torch.complex64) * mask
    raw = RawKspace(kspace, mask, spacing=(2.0, 3.0), recon_size=(16, 12))
    cut, kept = to_measurement(raw, 1.0), to_measurement(raw, 1.0, keep_oversampling=True)
    assert cut.operator.range_shape == (1, 16, 16) and kept.operator.range_shape == (1, 32, 16)
    assert cut.coords["y"][1].tolist() == kept.coords["y"][1][8:24].tolist()  # the pixels stay where they are
    assert cut.meta["recon_size"] == [16, 12]


def test_data_outside_the_mask_are_left_out() -> None:
    mask = equispaced_mask(16, 2, 0.2, offset=0)
    m = to_measurement(RawKspace(torch.ones(1, 16, 16) + 0j, mask), 1.0)
    assert torch.equal(m.y[0, 0] != 0, mask)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"sigma": 0.0}, InputError, "sigma is 0.0; expected a number above 0.*a.h5"),
        ({"sigma": math.nan}, InputError, "sigma is nan"),
        ({"coil_maps": torch.ones(4, 16, 16) + 0j}, ShapeError, "a.h5: coil_maps.*needs 2 coils of 16 x 16"),
        ({"coil_maps": torch.ones(3, 2, 16, 15) + 0j}, ShapeError, "coil_maps"),
        ({"coil_maps": torch.ones(16, 16) + 0j}, ShapeError, "coil_maps"),
        ({"calibration": 12}, InputError, "a.h5: .*centre of"),
    ],
)
def test_options_that_cannot_be_used(options: dict, error: type[Exception], said: str) -> None:
    mask = gaussian_mask((16, 16), 3, 8)
    kspace = torch.randn(2, 16, 16, generator=rng(), dtype=torch.complex64) * mask
    with pytest.raises(error, match=said):
        to_measurement(RawKspace(kspace, mask, {"file": "a.h5"}), **{"sigma": 1.0, **options})


def test_one_set_for_one_coil() -> None:
    raw = RawKspace(torch.ones(1, 8, 8) + 0j, torch.ones(8, dtype=torch.bool))
    with pytest.raises(InputError, match="single coil"):
        to_measurement(raw, 1.0, n_sets=2)
