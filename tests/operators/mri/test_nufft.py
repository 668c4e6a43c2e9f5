"""Non-Cartesian MRI against sums written out, and against the Cartesian operator where the two meet."""

import math
import sys

import pytest
import torch

from invdiff.errors import DTypeError, InputError, MissingExtraError, ShapeError
from invdiff.operators.mri import nonuniform
from invdiff.operators.mri.density import density_weights
from invdiff.operators.mri.nufft import NonCartesianMRI
from invdiff.operators.mri.offresonance import time_segments
from invdiff.operators.mri.sense import MRI
from invdiff.validation.operator_suite import check_operator

COILS, SAMPLES = 2, 30


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


def points(*shape, seed=9):
    return torch.rand(*shape, generator=rng(seed), dtype=torch.float64) - 0.5


def dense(spatial, trajectory, phase=None):
    """Matrix (samples, pixels) of one perfect coil; `phase` (samples, *spatial) in turns is subtracted."""
    grids = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - n // 2 for n in spatial), indexing="ij")
    turns = sum(k[:, None] * g.flatten() for k, g in zip(trajectory.unbind(1), grids, strict=True))
    turns = turns if phase is None else turns + phase.flatten(1)
    return torch.exp(-2j * math.pi * turns) / math.sqrt(math.prod(spatial))


def apart(a, b):
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def grid(height, width):
    """Positions of the Cartesian samples, row by row."""
    k = [(torch.arange(n, dtype=torch.float64) - n // 2) / n for n in (height, width)]
    return torch.stack(torch.meshgrid(*k, indexing="ij"), -1).reshape(-1, 2)


@pytest.fixture(params=["finufft", "direct"])
def backend(request, monkeypatch):
    if request.param == "finufft":
        pytest.importorskip("finufft")
    else:
        monkeypatch.setitem(sys.modules, "finufft", None)


@pytest.mark.parametrize("spatial", [(6, 8), (5, 7), (4, 5, 6)])
def test_equals_the_sum(spatial, backend):
    maps, k = randn(2, COILS, *spatial)[None], points(SAMPLES, len(spatial))
    op = NonCartesianMRI(maps, k)
    x, y = randn(3, 2, *spatial, seed=1), randn(3, COILS, SAMPLES, seed=2)
    f = dense(spatial, k)
    a = torch.cat([torch.cat([f * maps[0, e, c].flatten() for e in range(2)], 1) for c in range(COILS)])
    ax = (x.flatten(1) @ a.mT).reshape(y.shape)
    assert apart(op.forward(x), ax) < 1e-12
    assert apart(op.adjoint(y).flatten(1), y.flatten(1) @ a.conj()) < 1e-12
    assert apart(op.normal(x).flatten(1), ax.flatten(1) @ a.conj()) < 1e-12


@pytest.mark.parametrize(("height", "width"), [(6, 5), (16, 12)])
def test_a_cartesian_trajectory_gives_the_cartesian_data(height, width, backend):
    maps = randn(3, height, width, dtype=torch.complex64)
    mask = torch.rand(height, width, generator=rng(3)) < 0.5
    cartesian = MRI(maps, mask)
    op = NonCartesianMRI(maps, grid(height, width)[mask.flatten()])
    x = randn(2, 1, height, width, seed=1, dtype=torch.complex64)
    assert apart(op.forward(x), cartesian.forward(x)[..., mask]) < 1e-6
    assert apart(op.normal(x), cartesian.normal(x)) < 1e-6


def test_single_precision_at_a_usual_size():
    pytest.importorskip("finufft")
    maps, k = randn(2, 96, 80, dtype=torch.complex64), points(4000, 2)
    op, x, y = (
        NonCartesianMRI(maps, k),
        randn(2, 1, 96, 80, seed=1, dtype=torch.complex64),
        randn(2, 2, 4000, seed=2, dtype=torch.complex64),
    )
    ax, ahy = op.forward(x), op.adjoint(y)
    gap = torch.vdot(ax.flatten(), y.flatten()) - torch.vdot(x.flatten(), ahy.flatten())
    assert float(gap.abs() / (ax.norm() * y.norm())) < 1e-6
    assert apart(op.normal(x), op.adjoint(ax)) < 1e-6
    assert apart(ax, op.to(torch.float64).forward(x.to(torch.complex128))) < 1e-6
    coarse = NonCartesianMRI(maps, k, accuracy=1e-3)
    error = apart(coarse.forward(x), ax)
    assert 1e-5 < error < 3e-3  # finufft's accuracy is nominal


VARIANTS = {
    "volume": lambda: NonCartesianMRI(randn(2, 4, 5, 6, dtype=torch.complex64), points(SAMPLES, 3)),
    "maps each": lambda: NonCartesianMRI(randn(3, COILS, 6, 5, dtype=torch.complex64), points(SAMPLES, 2)),
    "all each": lambda: NonCartesianMRI(randn(3, COILS, 6, 5, dtype=torch.complex64), points(3, SAMPLES, 2)),
    "trajectory each, field": lambda: NonCartesianMRI(
        randn(COILS, 6, 5, dtype=torch.complex64),
        points(2, SAMPLES, 2),
        30 * points(6, 5),
        torch.linspace(0, 0.01, SAMPLES),
        3,
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_conform(name):
    report = check_operator(VARIANTS[name]())
    assert report.ok, str(report)


def test_cut_into_pieces_it_is_the_same(monkeypatch):
    op, x = VARIANTS["volume"](), randn(4, 1, 4, 5, 6, dtype=torch.complex64)
    whole = op.forward(x), op.normal(x)
    monkeypatch.setattr("invdiff.operators.mri.nufft._SAMPLED", 1)
    monkeypatch.setattr("invdiff.operators.mri.nufft._CONVOLVED", 1)
    assert apart(op.forward(x), whole[0]) < 1e-6 and apart(op.normal(x), whole[1]) < 1e-6


def test_off_resonance_is_the_phase_of_each_time_and_place():
    spatial = (6, 8)
    k, times = points(SAMPLES, 2), torch.linspace(0.001, 0.02, SAMPLES, dtype=torch.float64)
    field = 100 * points(*spatial, seed=4)
    op = NonCartesianMRI(torch.ones(1, *spatial, dtype=torch.complex128), k, field, times)
    x = randn(2, 1, *spatial, seed=1)
    exact = dense(spatial, k, times[:, None, None] * field)
    found = op.forward(x)[:, 0]
    assert apart(found, x.flatten(1) @ exact.mT) < 3e-4  # 1e-4 at each time over frequencies; some pixels fare worse
    assert apart(found, x.flatten(1) @ dense(spatial, k).mT) > 0.1
    one = NonCartesianMRI(torch.ones(1, *spatial, dtype=torch.complex128), k, field, times, segments=1)
    assert apart(one.forward(x)[:, 0], found) > 0.1


def test_segments_grow_with_the_field_and_a_constant_one_needs_one():
    times = torch.linspace(0, 0.02, 50)
    narrow, wide = (time_segments(f * points(8, 8), times) for f in (20, 200))
    assert len(narrow.times) < len(wide.times) <= 20
    assert max(narrow.error, wide.error) <= 1e-4
    constant = time_segments(torch.full((4, 4), 35.0), times)
    assert len(constant.times) == 1 and constant.error < 1e-11
    with pytest.raises(InputError, match="64 time segments leave .* check the units"):
        time_segments(9e3 * points(20, 20), torch.linspace(0, 0.02, 200))
    for unit in (1e6, 1e12):  # takes no more memory the more absurd it is
        with pytest.raises(InputError, match="turns over 0.02 s; check the units"):
            time_segments(unit * points(20, 20), torch.linspace(0, 0.02, 200))
    with pytest.raises(InputError, match="at least 1"):
        time_segments(points(4, 4), times, 0)
    with pytest.raises(InputError, match="divide ms by 1000"):
        time_segments(points(4, 4), 1000 * times)
    with pytest.raises(InputError, match="NaN"):
        time_segments(points(4, 4) * math.nan, times)


def fields():
    """Field maps in Hz, 48 x 48, that occur: a smooth one, fat beside water, two values only, one wrong pixel."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 48, dtype=torch.float64)] * 2, indexing="ij")
    island = ((x - 0.4) ** 2 + y**2 < 0.02).double() * -440
    noisy = island + 3 * torch.randn(48, 48, dtype=torch.float64, generator=rng())
    wrong = noisy.clone()
    wrong[5, 5] = 900
    return {"smooth": 40 * x + 30 * y**2, "fat": noisy, "two values": island, "a wrong pixel": wrong}


@pytest.mark.parametrize("name", fields())
def test_the_error_of_the_segments_is_that_of_the_pixels(name):
    field, times = fields()[name], torch.linspace(0, 0.02, 300, dtype=torch.float64)
    found = time_segments(field, times)
    exact = torch.exp(-2j * math.pi * times[:, None] * field.flatten())
    error = (torch.einsum("lt,lp->tp", found.times, found.places.flatten(1)) - exact).abs()
    true = float(error.square().mean(1).sqrt().max())
    assert true <= 1.2 * found.error + 1e-9 <= 1.2e-4 and found.error <= 1.2 * true + 1e-9
    assert float(found.times.abs().max()) < 50  # else single precision would be lost in their differences


def test_the_times_of_a_long_readout_are_all_fitted():
    field = fields()["fat"][::4, ::4]
    many, few = torch.linspace(0, 0.02, 3001, dtype=torch.float64), torch.linspace(0, 0.02, 301, dtype=torch.float64)
    whole, part = time_segments(field, many), time_segments(field, few)
    assert len(whole.times) == len(part.times)
    torch.testing.assert_close(whole.times[:, ::10], part.times, rtol=1e-9, atol=1e-9)
    shuffled = torch.randperm(3001, generator=rng())
    torch.testing.assert_close(time_segments(field, many[shuffled]).times, whole.times[:, shuffled])


def test_air_needs_no_segments():
    maps = torch.ones(1, 8, 8, dtype=torch.complex64)
    maps[:, :, 5:] = 0
    field = 10 * torch.rand(8, 8)
    k, times = torch.rand(50, 2, dtype=torch.float64) - 0.5, torch.linspace(0, 0.02, 50)
    plain = NonCartesianMRI(maps, k, field, times)
    field[:, 5:] = torch.tensor([1e6, -300, math.nan])
    noisy = NonCartesianMRI(maps, k, field, times)
    x = torch.randn(1, 1, 8, 8, dtype=torch.complex64)
    torch.testing.assert_close(noisy.forward(x), plain.forward(x), rtol=2e-4, atol=2e-4)


def test_density_weights():
    full = density_weights(grid(6, 5), (6, 5))
    torch.testing.assert_close(full, torch.ones(30, dtype=torch.float64), rtol=0, atol=1e-5)
    # twice the spokes, twice the samples: half the weight
    twice = density_weights(grid(6, 5).repeat(2, 1), (6, 5))
    torch.testing.assert_close(twice, torch.full((60,), 0.5, dtype=torch.float64), rtol=0, atol=1e-5)
    angle, radius = torch.arange(24) * math.pi / 24, (torch.arange(32) - 16) / 32
    spokes = torch.stack([torch.outer(angle.sin(), radius), torch.outer(angle.cos(), radius)], -1).reshape(-1, 2)
    w = density_weights(spokes, (16, 16)).reshape(24, 32)
    assert bool((w > 0).all()) and float(w[:, 30].mean() / w[:, 16].mean()) > 8
    op = NonCartesianMRI(torch.ones(1, 16, 16, dtype=torch.complex128), spokes)
    image = torch.zeros(1, 1, 16, 16, dtype=torch.complex128)
    image[..., 5:11, 6:9] = 1
    y = op.forward(image)
    seen = op.adjoint(y * w.flatten())
    assert apart(seen, image) < 0.35 < apart(op.adjoint(y), image)
    assert 0.9 < float((seen.conj() * image).sum().real / (image.abs() ** 2).sum()) < 1.1


@pytest.mark.parametrize(
    ("k", "error", "message"),
    [
        (points(4, 2) * 20, InputError, "divide grid indices"),
        (points(4, 2) * math.nan, InputError, "NaN"),
        (points(4), ShapeError, "samples, dims"),
        (points(3, 4, 5, 2), ShapeError, "flatten spokes"),
        (points(4, 2) * 1j, DTypeError, "real coordinates"),
        (points(3, 4, 2), ShapeError, "3; they must agree"),
    ],
)
def test_a_bad_trajectory_is_refused(k, error, message):
    with pytest.raises(error, match=message):
        NonCartesianMRI(randn(2, COILS, 4, 4), k)


def test_bad_arguments_are_refused():
    maps, k = randn(COILS, 4, 4), points(5, 2)
    with pytest.raises(DTypeError, match="complex"):
        NonCartesianMRI(maps.real, k)
    with pytest.raises(ShapeError, match="coils, D, H, W"):
        NonCartesianMRI(maps, points(5, 3))
    with pytest.raises(ShapeError, match="times of shape None"):
        NonCartesianMRI(maps, k, points(4, 4))
    with pytest.raises(ShapeError, match="field_map of shape"):
        NonCartesianMRI(maps, k, points(4, 5), points(5))
    with pytest.raises(InputError, match="without a field_map"):
        NonCartesianMRI(maps, k, None, points(5))
    with pytest.raises(InputError, match="accuracy"):
        NonCartesianMRI(maps, k, accuracy=0.0)
    with pytest.raises(ShapeError, match="density_weights"):
        density_weights(k, (4, 4, 4))
    with pytest.raises(InputError, match="iterations"):
        density_weights(k, (4, 4), 0)


def test_without_finufft_a_large_problem_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "finufft", None)
    monkeypatch.setattr(nonuniform, "DIRECT_LIMIT", 100)
    op = NonCartesianMRI(randn(COILS, 4, 4), points(50, 2))
    with pytest.raises(MissingExtraError, match=r"invdiff\[mri\]"):
        op.forward(randn(1, 1, 4, 4))
