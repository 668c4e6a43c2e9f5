"""Saturation, rounding, block coding and attenuation."""

import math
from typing import Any

import pytest
import torch
from scipy.fft import dctn, idctn

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators import JPEG, BeerLambert, Identity, Matrix, Quantisation, Saturation


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_saturation():
    x = torch.tensor([[-2.0, 0.3, 4.0]])
    op = Saturation((3,), -1.0, 1.0)
    assert op.forward(x).tolist() == [[-1.0, pytest.approx(0.3), 1.0]]
    assert op.vjp(x, torch.ones(1, 3)).tolist() == [[0.0, 1.0, 0.0]]
    assert Saturation((3,), high=1.0).forward(x)[0, 0] == -2
    for limits in [(1.0, 1.0), (2.0, 1.0), (None, None), (math.nan, 1.0)]:
        with pytest.raises(InputError, match="low"):
            Saturation((3,), *limits)


def test_rounding_with_the_derivative_of_the_identity():
    op, x = Quantisation((5,), 0.25), randn(2, 5)
    y = op.forward(x)
    assert torch.equal(y, torch.round(x / 0.25) * 0.25)  # to the bit
    u, v = randn(2, 5, seed=1), randn(2, 5, seed=2)
    assert torch.equal(op.jvp(x, u), u) and torch.equal(op.vjp(x, v), v)
    after: Any = op @ Matrix(randn(5, 3))
    assert not after.exact_derivative and after.inner.exact_derivative
    for step in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="step"):
            Quantisation((5,), step)


def test_jpeg_of_a_block():
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    op: Any = JPEG((1, 8, 8), 50).to(torch.float64)  # quality 50: the table as it is in the standard
    levels = x[0, 0].numpy() * 255 - 128
    coefficients = dctn(levels, norm="ortho")
    table = op.table.numpy()
    expected = (idctn((coefficients / table).round() * table, norm="ortho") + 128) / 255
    torch.testing.assert_close(op.forward(x)[0, 0], torch.as_tensor(expected), rtol=0, atol=1e-6)
    assert table[0, 0] == 16 and table[7, 7] == 99 and table[0, 7] == 61 and table[7, 0] == 72
    assert JPEG((1, 8, 8), 25).table[0, 0] == 32 and JPEG((1, 8, 8), 100).table.max() == 1


def test_jpeg_of_images_of_any_size():
    x = torch.rand(2, 3, 19, 21, generator=torch.Generator().manual_seed(1)) * 5 - 2
    fine, coarse = (JPEG((3, 19, 21), q, -2.0, 3.0).forward(x) for q in (100, 10))
    # steps of 1/255 of the range: 64 coefficients of variance 1/12 spread over 64 pixels
    assert float((fine - x).square().mean().sqrt()) < 5 / 255 / math.sqrt(12) * 1.2
    assert float((coarse - x).square().mean().sqrt()) > 10 * float((fine - x).square().mean().sqrt())
    corner = JPEG((3, 16, 16), 10, -2.0, 3.0).forward(x[..., :16, :16])
    torch.testing.assert_close(coarse[..., :8, :8], corner[..., :8, :8], rtol=0, atol=1e-5)  # blocks are independent
    smooth = torch.full((1, 3, 19, 21), 0.5)
    torch.testing.assert_close(JPEG((3, 19, 21), 30).forward(smooth), smooth, rtol=0, atol=0.01)
    op, u = JPEG((3, 19, 21), 30), torch.rand(2, 3, 19, 21)
    torch.testing.assert_close(op.jvp(x, u), u, rtol=0, atol=1e-5)
    for bad in [(0, 0.0, 1.0), (101, 0.0, 1.0), (50, 1.0, 1.0)]:
        with pytest.raises(InputError, match="quality"):
            JPEG((1, 8, 8), *bad)
    with pytest.raises(ShapeError, match=r"\(C, H, W\)"):
        JPEG((8, 8), 50)


def test_attenuation():
    a, x = torch.rand(4, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    blank = torch.tensor([1e3, 2e3, 3e3, 4e3], dtype=torch.float64)
    op = BeerLambert(Matrix(a), blank)
    torch.testing.assert_close(op.forward(x), blank * torch.exp(-x @ a.mT))
    u = randn(2, 3)
    torch.testing.assert_close(op.jvp(x, u), -op.forward(x) * (u @ a.mT))
    assert "BeerLambert(Matrix)" in repr(op)
    masked = BeerLambert(Matrix(a)[torch.tensor([True, False, True, True])])
    assert masked.size == 3 and bool((masked.forward(x)[:, 1] == 0).all())
    with pytest.raises(InputError, match="above 0"):
        BeerLambert(Matrix(a), 0.0)
    with pytest.raises(ShapeError, match="blank"):
        BeerLambert(Matrix(a), torch.ones(3))
    with pytest.raises(DTypeError, match="real linear"):
        BeerLambert(Identity((3,), "complex"))
