"""Filtered backprojection: known objects come back in their unit, and gradients are the transpose."""

import math
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.errors import DTypeError, InputError, ShapeError, UnknownNameError
from invdiff.operators.ct import ConeCT, FanCT, ParallelCT, backprojection, fbp, from_hu, helix, joseph, to_hu
from invdiff.operators.ct.coverage import weights
from invdiff.operators.ct.filters import WINDOWS, ramp

N = 48
TURN = torch.arange(180, dtype=torch.float64) * (2 * math.pi / 180)
FAN: dict[str, Any] = {"source_axis": 90.0, "source_detector": 140.0}
SHORT = torch.deg2rad(torch.linspace(35, 35 + 235, 200, dtype=torch.float64))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path))


def plane(n=N):
    y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2.0,) * 2, indexing="ij")
    image = 0.02 * torch.exp(-((x - 7) ** 2 + (y + 5) ** 2) / 32) + 0.01 * torch.exp(-(x**2 + (y - 9) ** 2) / 18)
    return image[None, None], torch.hypot(x, y) < 0.4 * n


def solid(n=24):
    z, y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2.0,) * 3, indexing="ij")
    volume = torch.exp(-((x - 3) ** 2 + (y + 2) ** 2 + (z - 1) ** 2) / 18)
    return volume[None, None], (torch.hypot(x, y) < 10) & (z.abs() < 7)


PLANAR = {
    "parallel": lambda: ParallelCT((N, N), TURN[:90], 72),
    "parallel, full turn, unequal steps": lambda: ParallelCT((N, N), TURN + 0.01 * torch.sin(7 * TURN), 72),
    "parallel, fine and off centre": lambda: ParallelCT(
        (N, N), -TURN[:90], 150, detector_spacing=0.5, detector_offset=1.3
    ),
    "flat fan": lambda: FanCT((N, N), TURN, 120, **FAN),
    "flat fan, short scan": lambda: FanCT((N, N), SHORT, 120, **FAN),
    "curved fan": lambda: FanCT((N, N), TURN, 120, curved=True, detector_offset=0.7, **FAN),
    "curved fan, short scan backwards": lambda: FanCT((N, N), -SHORT, 120, curved=True, **FAN),
}


@pytest.mark.parametrize("beam", PLANAR)
def test_an_image_comes_back(beam):
    op, (image, inside) = PLANAR[beam](), plane()
    found = fbp(op, op.forward(image))
    assert found.shape == image.shape and found.dtype == image.dtype
    error = (found - image)[..., inside].norm() / image[..., inside].norm()
    # Interpolation on pixel and detector smooths by h^2/6 each: about 2 % for blobs of width 3 and 4.
    assert error < 0.03
    assert (found - image)[..., inside].sum().abs() < 0.01 * image[..., inside].sum()


# a matrix for one projection takes longer
QUICK: dict[str, Any] = {"backend": "numba" if find_spec("numba") else "torch"}
CONE: dict[str, Any] = {**FAN, **QUICK, "detector_spacing": 1.5}
VOLUMES = {
    "parallel": (lambda: ParallelCT((24,) * 3, TURN[:90:2], (24, 36)), 0.03),
    "flat cone": (lambda: ConeCT((24,) * 3, TURN[::2], (30, 40), **CONE), 0.03),
    "curved cone": (lambda: ConeCT((24,) * 3, TURN[::2], (30, 40), curved=True, **CONE), 0.03),
    "tilted cone": (lambda: ConeCT((24,) * 3, TURN[::2], (33, 40), detector_tilt=0.1, **CONE), 0.04),
    "helix": (lambda: ConeCT((24,) * 3, helix(4, 45, 9.0)[0], (30, 40), z=helix(4, 45, 9.0)[1], **CONE), 0.05),
}


@pytest.mark.parametrize("beam", VOLUMES)
def test_a_volume_comes_back(beam):
    make, limit = VOLUMES[beam]
    op, (volume, inside) = make(), solid()
    found = fbp(op, op.forward(volume))
    assert (found - volume)[..., inside].norm() < limit * volume[..., inside].norm()


def test_attenuation_is_per_length_unit():
    # The same object on pixels of half a millimetre: half as long, so mu comes back only if lengths are counted.
    image, inside = plane()
    op = ParallelCT((N, N), TURN[:90], 72, pixel_size=0.5)
    found = fbp(op, op.forward(image))
    assert (found - image)[..., inside].norm() < 0.03 * image[..., inside].norm()


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_keep_the_mean_and_lose_detail_in_order(window):
    image, inside = plane()
    op = PLANAR["flat fan"]()
    found = fbp(op, op.forward(image), window=window, cutoff=0.8)
    assert float(found[..., inside].mean()) == pytest.approx(float(image[..., inside].mean()), rel=0.03)
    response = ramp(60, 1.0, window)
    assert response[0] < 1e-2 and response.max() <= 0.5 + 1e-6
    assert float(response[5]) == pytest.approx(5 / (2 * (len(response) - 1)), rel=0.1)


def test_ramp_is_that_of_frequency():
    response = ramp(256, 0.5)
    f = torch.arange(len(response)) / (2 * (len(response) - 1)) / 0.5
    assert (response - f).abs()[1:].max() < 2e-3


def test_parkers_weights_of_a_line_add_to_one():
    op = FanCT((N, N), torch.linspace(0, math.radians(240), 481, dtype=torch.float64), 121, curved=True, **FAN)
    g = op.geometry
    step = float(torch.tensor(g.angles)[1])
    w = torch.from_numpy(weights(g)) / step
    gamma = torch.from_numpy(g.u()) / g.source_detector
    for k, j in ((20, 50), (40, 70), (3, 65), (70, 75)):
        again = (g.angles[k] + math.pi - 2 * float(gamma[j])) / step
        total = w[k, j]
        if again <= 480:
            low = int(again)
            part = again - low
            total = total + (1 - part) * w[low, 120 - j] + part * w[low + 1, 120 - j]
        assert float(total) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FanCT((9, 8), TURN[::20], 18, curved=True, detector_offset=0.7, **FAN),
        lambda: ConeCT((5, 6, 7), TURN[::20], (9, 14), **FAN),
    ],
)
def test_kernel_and_plain_torch_agree_and_transpose(make, monkeypatch):
    pytest.importorskip("numba")
    g = make().geometry
    rng = torch.Generator().manual_seed(0)
    q = torch.randn(2, g.views, g.rows, g.channels, generator=rng, dtype=torch.float64)
    x = torch.randn(2, *g.shape, generator=rng, dtype=torch.float64)
    gathered, scattered = (f(v, g, 3.0) for f, v in ((backprojection._gather, q), (backprojection._scatter, x)))
    torch.testing.assert_close((gathered * x).sum(), (q * scattered).sum(), rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(backprojection, "chosen", lambda *_: "torch")
    torch.testing.assert_close(backprojection._gather(q, g, 3.0), gathered)
    torch.testing.assert_close(backprojection._scatter(x, g, 3.0), scattered)


def test_gradients_pass_through():
    op = FanCT((8, 9), TURN[::15], 14, **FAN, truncated=True)
    y = torch.randn(2, *op.range_shape, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda v: fbp(op, v, window="hann"), y, fast_mode=True)


def test_some_views_reconstruct_too():
    image, inside = plane()
    op = PLANAR["parallel"]()[::2]
    found = fbp(op, op.forward(image))
    assert (found - image)[..., inside].norm() < 0.04 * image[..., inside].norm()


def test_what_cannot_be_reconstructed_is_refused():
    op = ParallelCT((N, N), TURN[:60], 72)
    y = torch.zeros(1, *op.range_shape)
    with pytest.raises(InputError, match="gap of 62 degrees"):
        fbp(op, y)
    assert fbp(op, y, limited=True).shape == (1, 1, N, N)
    fan = FanCT((N, N), TURN[:95], 120, **FAN)
    with pytest.raises(InputError, match="turns by 188 degrees"):
        fbp(fan, torch.zeros(1, *fan.range_shape))
    with pytest.raises(ShapeError):
        fbp(op, y[0])
    with pytest.raises(UnknownNameError, match="hann"):
        fbp(op, y, window="box", limited=True)
    with pytest.raises(InputError, match="cutoff"):
        fbp(op, y, cutoff=0.0, limited=True)
    with pytest.raises(DTypeError, match="ParallelCT"):
        fbp(op.H, torch.zeros(1, *op.range_shape))


def test_hounsfield_units():
    assert to_hu(0.0) == pytest.approx(-1000) and to_hu(0.0206) == pytest.approx(0)
    mu = torch.tensor([0.0, 0.02, 0.05])
    torch.testing.assert_close(from_hu(to_hu(mu, 0.019), 0.019), mu, atol=1e-8, rtol=1e-5)
    with pytest.raises(InputError, match="mu_water"):
        to_hu(mu, 20.6)


def test_threads_are_given_back():
    numba = pytest.importorskip("numba")
    before = numba.get_num_threads()
    with joseph.threads() as count:
        assert count <= max(before, torch.get_num_threads())
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("curved", [False, True], ids=["flat", "curved"])
@pytest.mark.parametrize("height", [None, 0.0, 9.0], ids=["fan", "cone, in the middle", "cone, high up"])
def test_a_blob_where_rays_are_steep_keeps_its_mass(height, curved):
    # Each ray counts by the cosine of its angle to the central one, 0.93 at the least here. Blurring by the pixels
    # keeps the sum, and what a cone's formula gets wrong it moves along the axis.
    beam: dict[str, Any] = {"source_axis": 50.0, "source_detector": 80.0, "curved": curved}
    if height is None:
        op: Any = FanCT((N, N), TURN, 150, **beam)
        y, x = torch.meshgrid(*(torch.arange(N) - (N - 1) / 2.0,) * 2, indexing="ij")
        away, inside = (x - 17) ** 2 + y**2, torch.hypot(x - 17, y) < 6.5
    else:
        op = ConeCT((33, 25, 25), TURN[::4], (100, 90), **beam, **QUICK)
        z, y, x = torch.meshgrid(torch.arange(33) - 16.0, *(torch.arange(25) - 12.0,) * 2, indexing="ij")
        away, inside = (x - 3) ** 2 + y**2 + (z - height) ** 2, torch.hypot(x - 3, y) < 6.5
    image = torch.exp(-away / 8)[None, None]
    found = fbp(op, op.forward(image))
    assert float(found[..., inside].sum() / image[..., inside].sum()) == pytest.approx(1, abs=0.01)


ASIDE: dict[str, Any] = {
    "parallel": lambda off: ParallelCT((N, N), TURN, 46, detector_offset=off, truncated=True),
    "flat fan": lambda off: FanCT((N, N), TURN, 76, detector_offset=1.5 * off, truncated=True, **FAN),
    "curved fan": lambda off: FanCT((N, N), TURN, 76, detector_offset=1.5 * off, truncated=True, curved=True, **FAN),
}


@pytest.mark.parametrize("off", [14.3, -14.3])
@pytest.mark.parametrize("beam", ASIDE)
def test_a_detector_aside_sees_everything_in_a_full_turn(beam, off):
    op, (image, inside) = ASIDE[beam](off), plane()
    found = fbp(op, op.forward(image))
    assert (found - image)[..., inside].norm() < 0.03 * image[..., inside].norm()
    at, w = op.geometry.u(), weights(op.geometry).sum(0)  # over the views
    both = abs(at) < min(-at.min(), at.max())
    again = np.interp(-at[both], at, w)  # the same lines from behind
    # Linear interpolation of the sine over a channel is within (pi / 16)^2 / 8 = 0.5 %.
    np.testing.assert_allclose(w[both] + again, 2 * math.pi, rtol=5e-3)


def test_a_detector_aside_needs_a_full_turn_and_the_axis():
    half = ParallelCT((N, N), TURN[:90], 46, detector_offset=14.3, truncated=True)
    with pytest.raises(InputError, match="expected a full turn"):
        fbp(half, torch.zeros(1, *half.range_shape))
    away = ParallelCT((N, N), TURN, 46, detector_offset=24.0, truncated=True)
    with pytest.raises(InputError, match="before the projection of the axis"):
        fbp(away, torch.zeros(1, *away.range_shape))


def test_a_detector_a_little_off_is_not_aside():
    op, (image, inside) = ParallelCT((N, N), TURN[:90], 48, detector_offset=0.7, truncated=True), plane()
    found = fbp(op, op.forward(image))
    assert (found - image)[..., inside].norm() < 0.03 * image[..., inside].norm()
