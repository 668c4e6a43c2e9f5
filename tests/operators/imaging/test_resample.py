"""Resampling against torch's antialiased interpolation, slices and sampling against their definitions."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from invdiff.errors import InputError, ShapeError
from invdiff.operators import Resample, Separable, SliceProfile, Strided


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(4, 5), (16, 6), (7, 31), (3, 15)])
def test_equals_antialiased_interpolation(method, size):
    x = randn(2, 3, 16, 15)
    found = Resample((3, 16, 15), size, method).forward(x)
    # torch takes a = -1/2 and widens the kernel where antialias=True; 1e-6: weights are kept in single precision
    expected = F.interpolate(x, size=size, mode=method, antialias=True, align_corners=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(4, 5), (16, 3), (8, 15)])
def test_area_is_the_mean_over_new_pixels(size):
    x = randn(2, 1, 16, 15)
    found = Resample((1, 16, 15), size, "area").forward(x)
    torch.testing.assert_close(found, F.adaptive_avg_pool2d(x, size), rtol=0, atol=1e-6)
    uneven = Resample((1, 5), (2,), "area").forward(torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]]))
    torch.testing.assert_close(uneven, torch.tensor([[[(1 + 2 + 1.5) / 2.5, (1.5 + 4 + 5) / 2.5]]]))


def test_constants_and_volumes():
    for method in ("area", "bicubic", "bilinear"):
        op = Resample((1, 6, 7, 8), (3, 7, 10), method)
        torch.testing.assert_close(op.forward(torch.ones(1, 1, 6, 7, 8)), torch.ones(1, 1, 3, 7, 10))
        assert set(op.matrices) == {1, 3}  # an axis that stays costs nothing
    same = Resample((1, 6, 7), (6, 7))
    x = randn(1, 1, 6, 7)
    torch.testing.assert_close(same.forward(x), x, rtol=0, atol=1e-7)


def test_complex_images():
    x = torch.complex(randn(2, 1, 8, 9), randn(2, 1, 8, 9, seed=1))
    real, op = Resample((1, 8, 9), (4, 3)), Resample((1, 8, 9), (4, 3), domain="complex")
    expected = torch.complex(real.forward(x.real), real.forward(x.imag))
    torch.testing.assert_close(op.forward(x), expected, rtol=0, atol=1e-12)


def test_separable_is_the_kronecker_product():
    a, b = randn(3, 4), randn(7, 6, seed=1)
    x = randn(2, 4, 5, 6, seed=2)
    op = Separable([a, b], (4, 5, 6), (0, -1))
    torch.testing.assert_close(op.forward(x), torch.einsum("ia,jb,nacb->nicj", a, b, x), rtol=0, atol=1e-12)
    for bad, error in [
        (lambda: Separable([a], (5, 4), (0,)), ShapeError),
        (lambda: Separable([a, a], (4, 4), (0, -2)), InputError),
        (lambda: Separable([a * math.nan], (4, 4), (0,)), InputError),
        (lambda: Separable([a], (4, 4), (2,)), InputError),
    ]:
        with pytest.raises(error):
            bad()


def test_strided_keeps_every_fth_pixel():
    x = randn(2, 2, 7, 9)
    op = Strided((2, 7, 9), (3, 2), (1, 0))
    assert torch.equal(op.forward(x), x[:, :, 1::3, ::2])
    y = op.forward(x)
    assert torch.equal(op.forward(op.adjoint(y)), y)
    bad: list[tuple[Any, Any]] = [(3, 3), (0, 0), ((2, 2), (2, 0))]
    for factor, offset in bad:
        with pytest.raises(InputError, match="offset"):
            Strided((1, 7, 9), factor, offset)
    with pytest.raises(ShapeError):
        Strided((1, 7, 9), (2, 2, 2))


def test_thick_slices_are_means_over_their_extent():
    z = torch.arange(12.0).reshape(1, 1, 12, 1, 1).double()
    op = SliceProfile((1, 12, 1, 1), 3.0)
    torch.testing.assert_close(op.forward(z).flatten(), torch.tensor([1.0, 4.0, 7.0, 10.0]).double())
    # overlapping slices of 5 voxels, 2.5 apart, centred in 12: centres at 3.5, 6 and 8.5 (voxel j covers [j, j + 1])
    op = SliceProfile((1, 12, 1, 1), 5.0, 2.5)
    torch.testing.assert_close(op.forward(z).flatten(), torch.tensor([3.0, 5.5, 8.0]).double(), rtol=0, atol=1e-6)
    gaps = SliceProfile((1, 12, 1, 1), 1.0, 4.0)
    torch.testing.assert_close(gaps.forward(z).flatten(), torch.tensor([1.5, 5.5, 9.5]).double(), rtol=0, atol=1e-6)


def test_gaussian_slices_have_their_width():
    n, thickness = 101, 9.0
    (matrix,) = SliceProfile((1, n, 1, 1), thickness, 50.0, "gaussian").matrices.values()
    line = matrix[len(matrix) // 2].double()
    half = line > line.max() / 2
    assert abs(int(half.sum()) - thickness) <= 1
    assert float(line.sum()) == pytest.approx(1, abs=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="method is 'cubic'"):
        Resample((1, 8, 8), (4, 4), "cubic")
    with pytest.raises(ShapeError, match="size"):
        Resample((1, 8, 8), (4,))
    with pytest.raises(InputError, match="1 or more"):
        Resample((1, 8, 8), (4, 0))
    for thickness, spacing in [(0.0, 1.0), (13.0, 1.0), (2.0, 0.0), (math.nan, 1.0)]:
        with pytest.raises(InputError, match="thickness"):
            SliceProfile((1, 12, 1, 1), thickness, spacing)
