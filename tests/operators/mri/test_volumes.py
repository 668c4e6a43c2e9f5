"""MRI of volumes and series against transforms written out with fftn, and against the operator of the plane."""

import math

import pytest
import torch

import invdiff.operators.mri.cartesian as module
from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.mri.sense import MRI
from invdiff.operators.mri.volumes import MRI3D, DynamicMRI
from invdiff.validation.operator_suite import check_operator

COILS = 3
GRID = (4, 5, 6)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


def mask(*shape, seed=3):
    out = torch.rand(shape, generator=rng(seed)) < 0.5
    out[..., -1, -1] = True
    return out


def apart(a, b):
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def dft(n):
    k = torch.arange(n, dtype=torch.float64) - n // 2
    return torch.exp(-2j * math.pi * torch.outer(k, k) / n) / math.sqrt(n)


def by_definition(maps, kept, x, axes):
    z = (maps[:, :, None] if maps.ndim < x.ndim else maps) * x[:, None]
    for a in axes:
        z = torch.movedim(torch.movedim(z, a, -1) @ dft(z.shape[a]).mT, -1, a)
    return z.sum(0) * kept


@pytest.fixture(params=[None, 1], ids=["whole", "smallest slabs"])
def slabs(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(module, "_PIECE", request.param)


@pytest.mark.parametrize("problems", [1, 2])
@pytest.mark.parametrize("kind", [(6,), (5, 1), (4, 5, 1), (4, 1, 6), (4, 5, 6), (1, 1, 1)])
def test_volume_is_the_definition(kind, problems, slabs):
    maps, kept = randn(problems, 2, COILS, *GRID), mask(*(1,) * (2 - len(kind)), *kind).reshape(kind)
    op, x = MRI3D(maps, kept), randn(2, 2, *GRID, seed=1)
    y = randn(2, COILS, *GRID, seed=2)
    ax = torch.stack([by_definition(maps[i % problems], kept, x[i], (-3, -2, -1)) for i in range(2)])
    assert apart(op.forward(x), ax) < 1e-13
    gap = torch.vdot(ax.flatten(), y.flatten()) - torch.vdot(x.flatten(), op.adjoint(y).flatten())
    assert abs(gap) / (ax.norm() * y.norm()) < 1e-14
    assert apart(op.normal(x), op.adjoint(ax)) < 1e-13
    assert op.size == COILS * int(kept.expand(GRID).sum())


@pytest.mark.parametrize("kind", [(4, 1, 6), (4, 5, 6), (4, 5, 1), (4, 1, 1)])
def test_series_is_the_plane_frame_by_frame(kind, slabs):
    maps, kept = randn(1, 2, COILS, 5, 6), mask(*kind)
    op, x = DynamicMRI(maps, kept), randn(2, 2, *GRID, seed=1)
    assert op.domain_shape == (2, 4, 5, 6) and op.range_shape == (COILS, 4, 5, 6)
    y = op.forward(x)
    for t in range(4):
        if not bool(kept[t].any()):
            assert not bool(y[:, :, t].any())
            continue
        frame = MRI(maps, kept[t].expand(5, 6))
        assert apart(y[:, :, t], frame.forward(x[:, :, t])) < 1e-13
        assert apart(op.normal(x)[:, :, t], frame.normal(x[:, :, t])) < 1e-13
        assert apart(op.adjoint(y)[:, :, t], frame.adjoint(y[:, :, t])) < 1e-13


def test_series_of_volumes():
    maps, kept = randn(COILS, 3, 4, 5), mask(2, 3, 4, 1)
    op, x = DynamicMRI(maps, kept, dims=3), randn(1, 1, 2, 3, 4, 5, seed=1)
    for t in range(2):
        assert apart(op.forward(x)[:, :, t], MRI3D(maps, kept[t]).forward(x[:, :, t])) < 1e-13


VARIANTS = {
    "volume each": lambda: MRI3D(randn(2, COILS, 3, 4, 5, dtype=torch.complex64), mask(2, 3, 4, 1)),
    "shared maps": lambda: MRI3D(randn(COILS, 3, 4, 5, dtype=torch.complex64), mask(2, 3, 4, 5)),
    "all sampled": lambda: MRI3D(randn(COILS, 3, 4, 5, dtype=torch.complex64), torch.ones(1)),
    "cropped maps": lambda: MRI3D(randn(COILS, 3, 4, 5, dtype=torch.complex64) * (torch.arange(5) > 1), mask(3, 4, 5)),
    "series each": lambda: DynamicMRI(randn(2, COILS, 4, 5, dtype=torch.complex64), mask(2, 3, 4, 5)),
    "series of volumes": lambda: DynamicMRI(randn(COILS, 2, 3, 4, dtype=torch.complex64), mask(2, 2, 3, 1), 3),
    "one frame": lambda: DynamicMRI(randn(COILS, 3, 4, dtype=torch.complex64), mask(1, 3, 4)),
    "equal frames": lambda: DynamicMRI(randn(COILS, 3, 4, dtype=torch.complex64), mask(1, 3, 4).expand(3, 3, 4)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_conform(name):
    report = check_operator(VARIANTS[name]())
    assert report.ok, str(report)


def test_bad_input_is_refused():
    maps = randn(COILS, 3, 4, 5)
    for wrong in (mask(3, 4, 4), mask(2, 2, 3, 4, 5)):
        with pytest.raises(ShapeError, match="MRI3D got a mask"):
            MRI3D(maps, wrong)
    with pytest.raises(ShapeError, match="T, H, W"):
        DynamicMRI(maps[:, 0], mask(4, 5))  # a mask without a time axis would be taken for something else
    with pytest.raises(ShapeError, match="coils, D, H, W"):
        MRI3D(maps[0], mask(3, 4, 5))
    with pytest.raises(DTypeError, match="complex"):
        MRI3D(maps.real, mask(3, 4, 5))
    with pytest.raises(InputError, match="0 and 1"):
        MRI3D(maps, torch.full((3, 4, 5), 0.5))
    with pytest.raises(InputError, match="false everywhere"):
        MRI3D(maps, torch.zeros(3, 4, 5))
    with pytest.raises(InputError, match="dims"):
        DynamicMRI(maps, mask(2, 4, 5), dims=4)
    with pytest.raises(InputError, match="0 to 1"):
        MRI3D(maps, mask(2, 3, 4, 5)).take([2])
