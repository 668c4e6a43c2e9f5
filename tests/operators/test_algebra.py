"""Closed forms, simplified products and formulas, against dense matrices."""

import math
from typing import Any

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.guidance.base import NormalEquations
from invdiff.guidance.dds import proximal
from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators import (
    MRI,
    BandResponse,
    Blur,
    CodedAperture,
    Diagonal,
    Fourier,
    Identity,
    Inpainting,
    Matrix,
    Resample,
    Saturation,
    Separable,
    SliceProfile,
    Strided,
)
from invdiff.operators.algebra import Compose, Normal, StackNonlinear, stack


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


def dense(op):
    """The matrix of an operator, column by column."""
    count = math.prod(op.domain_shape)
    dtype = torch.complex128 if op.domain == "complex" else torch.float64
    columns = op.forward(torch.eye(count, dtype=dtype).reshape(count, *op.domain_shape))
    return columns.flatten(1).mT


IMAGE = (1, 6, 8)


def blur(domain="real", shape=IMAGE, channels=()):
    return Blur(randn(*channels, 3, 3), shape, domain=domain)


def mask():
    return torch.rand(6, 8, generator=rng(3)) < 0.5


CLOSED = {
    "identity": lambda: Identity(IMAGE),
    "diagonal": lambda: Diagonal(randn(6, 8, dtype=torch.complex128), IMAGE, "complex"),
    "inpainting": lambda: Inpainting(mask(), IMAGE),
    "fourier": lambda: Fourier(IMAGE),
    "rows of a unitary": lambda: Fourier(IMAGE)[mask()[None]],
    "index of a unitary": lambda: Fourier((6, 8))[[4, 0, 1]],
    "index of a diagonal": lambda: Diagonal(randn(6, 8), (6, 8))[[4, 0, 1]],
    "mask of coded aperture": lambda: CodedAperture(randn(6, 8), (3, 6, 8), 2)[mask()[:1, :1]],
    "single coil": lambda: Inpainting(mask(), IMAGE, "complex") @ Fourier(IMAGE),
    "blur": lambda: blur(),
    "complex blur": lambda: blur("complex"),
    "blur of channels": lambda: blur(shape=(2, 6, 8), channels=(2,)),
    "multiple of a blur": lambda: -3.0 * blur(),
    "complex multiple": lambda: 2j * blur("complex"),
    "blur after unitary": lambda: blur("complex") @ Fourier(IMAGE),
    "unitary after blur": lambda: (2 * Fourier(IMAGE)) @ blur("complex"),
    "strided": lambda: Strided(IMAGE, 2),
    "super-resolution": lambda: Strided(IMAGE, (2, 4), (1, 2)) @ blur(),
    "super-resolution of channels": lambda: Strided((2, 6, 8), 2) @ blur(shape=(2, 6, 8), channels=(2,)),
    "complex super-resolution": lambda: Strided(IMAGE, 2, domain="complex") @ blur("complex"),
    "area after blur": lambda: Resample(IMAGE, (3, 2), "area") @ blur(),
    "area": lambda: Resample(IMAGE, (3, 2), "area"),
    "uneven area": lambda: Resample(IMAGE, (4, 3), "area"),
    "bicubic": lambda: Resample((2, 6, 8), (3, 4)),
    "upsampling": lambda: Resample(IMAGE, (9, 16), "bilinear"),
    "separable": lambda: Separable([randn(3, 4), randn(7, 6)], (4, 5, 6), (0, 2)),
    "slices": lambda: SliceProfile((1, 9, 2, 2), 2.5, 2.0, "gaussian"),
    "bands": lambda: BandResponse(randn(2, 5).abs(), (5, 2, 3)),
    "snapshot": lambda: CodedAperture(randn(6, 8), (3, 6, 8), 2),
    "stack of diagonals": lambda: stack([Inpainting(mask(), IMAGE), 2.0 * Identity(IMAGE)]),
    "adjoint of sampling": lambda: Strided(IMAGE, 2).H,
}
OPEN = {
    "matrix": lambda: Matrix(randn(4, 6)),
    "zero-padded blur": lambda: Blur(randn(3, 3), IMAGE, "zero"),
    "masked blur": lambda: Inpainting(mask(), IMAGE) @ blur(),
    "sampling that leaves a rest": lambda: Strided(IMAGE, 5) @ blur(),
    "sum": lambda: blur() + Identity(IMAGE),
    "stack": lambda: stack([blur(), Identity(IMAGE)]),
}


@pytest.mark.parametrize("shift", [0.3, 20.0])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_are_those_of_the_dense_matrix(name, shift):
    op = CLOSED[name]().to(torch.float64)
    a = dense(op)
    v, z = randn(2, *op.range_shape, seed=5).to(a.dtype), randn(2, *op.domain_shape, seed=6).to(a.dtype)
    v = v if op.range_mask is None else v * op.range_mask
    gram = a.mH @ a + shift * torch.eye(a.shape[1], dtype=a.dtype)
    assert op.has_damped_inverse
    found, ridge = op.damped_inverse(v, shift), op.ridge(z, shift)
    expected = torch.linalg.solve(gram, a.mH @ v.flatten(1).mT).mT.reshape(z.shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(ridge.flatten(1).mT, torch.linalg.solve(gram, z.flatten(1).mT), rtol=0, atol=1e-11)
    assert found.dtype == a.dtype
    # closed form, or an iteration that comes from below
    assert 1 - 1e-4 <= op.norm() / float(torch.linalg.matrix_norm(a, 2)) <= 1 + 1e-6


@pytest.mark.parametrize("name", OPEN)
def test_without_a_closed_form_there_is_none(name):
    op = OPEN[name]()
    assert not op.has_damped_inverse
    x, y = randn(1, *op.domain_shape), randn(1, *op.range_shape)
    assert op.ridge(x, 1.0) is None and op.damped_inverse(y, 1.0) is None


def test_a_shift_must_be_positive_and_shapes_are_checked():
    op = blur()
    for shift in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="above 0"):
            op.damped_inverse(randn(1, *IMAGE), shift)
    with pytest.raises(ShapeError, match="damped_inverse got v"):
        op.damped_inverse(randn(1, 6, 8), 1.0)


@pytest.mark.parametrize("name", ["blur", "super-resolution", "inpainting", "bicubic"])
def test_proximal_step_takes_the_closed_form(name):
    op = CLOSED[name]().to(torch.float64)
    y = randn(*op.range_shape, seed=7)
    measurement = Measurement(y if op.range_mask is None else y * op.range_mask, op, Gaussian(0.1))
    equations, x0 = NormalEquations(measurement, "test"), randn(2, *op.domain_shape, seed=8)
    found = proximal(equations, x0, 0.5, iterations=1)
    rhs = 0.5 * (equations.information - equations.precision(x0))
    expected = x0 + cg(lambda d: d + 0.5 * equations.precision(d), rhs, iterations=300, tolerance=1e-12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_proximal_step_keeps_its_precision_for_nearly_exact_data():
    # 1e-6 for s: (A^H A + s)^-1 of an image in single precision would be wrong by 10 %.
    op: Any = Strided((1, 32, 32), 2) @ Blur(torch.ones(3, 3) / 9, (1, 32, 32))
    v = randn(1, *op.range_shape, dtype=torch.float32)
    exact = op.to(torch.float64).damped_inverse(v.double(), 1e-6)
    found = op.damped_inverse(v, 1e-6)
    assert float((found - exact).norm() / exact.norm()) < 1e-3


def test_products_simplify():
    m, f, b = Inpainting(mask(), IMAGE), Fourier(IMAGE), blur()
    op: Any
    assert isinstance(m.H @ m, Diagonal) and isinstance(f.H @ f, Identity) and isinstance(b.H @ b, Normal)
    twice = 2 * f
    assert vars(twice.H @ twice)["scalar"] == 4
    assert Identity(IMAGE) @ b is b and b @ Identity(IMAGE) is b
    assert vars(2 * (3 * b))["scalar"] == 6
    assert type(b.H @ blur()) is Compose  # another object: nothing is known
    x = randn(2, *IMAGE)
    for op in (m, b, 2 * b, m @ b):
        op = op.to(torch.float64)
        torch.testing.assert_close((op.H @ op).forward(x), op.adjoint(op.forward(x)), rtol=0, atol=1e-12)
    with pytest.raises(ShapeError, match="cannot combine"):
        Identity((1, 6, 9)) @ b  # simplified or not, they must fit


def test_formulas():
    m, b = Inpainting(mask(), IMAGE), blur()
    shapes = "[R^(1x6x8) -> R^(1x6x8)]"
    kept = int(mask().sum())
    for op, text in [
        (m @ b, "(Inpainting @ Blur)"),
        (m @ (b - 2 * m), "(Inpainting @ (Blur - 2 Inpainting))"),
        (b.H @ b, "(Blur^H @ Blur)"),
        ((m @ b).H, "((Inpainting @ Blur)^H)"),
        (-b, "(-Blur)"),
        (b.H, "Blur^H"),
        ((m + b)[mask()[None]], f"((Inpainting + Blur)[{kept}/48 data])"),
        (0.5 * (m + b), "(0.5 (Inpainting + Blur))"),
    ]:
        assert repr(op) == text + shapes, repr(op)
    assert repr(stack([b, 2 * m])).startswith("[Blur; 2 Inpainting][R^(1x6x8)")
    assert repr(2j * Fourier((1, 2, 2))).startswith("(2j Fourier)")


def test_operators_of_different_numbers_of_problems_do_not_combine():
    one, two, three = (MRI(randn(p, 2, 4, 4, dtype=torch.complex64), torch.ones(4)) for p in (1, 2, 3))
    assert (one + two).n_problems == 2
    for bad in (lambda: two + three, lambda: stack([two, three]), lambda: two.H @ three):
        with pytest.raises(ShapeError, match="problems"):
            bad()


def test_masks_of_several_problems_combine():
    maps, masks = (
        randn(3, 2, 4, 4, dtype=torch.complex64),
        torch.tensor([[[1, 1, 0, 1]], [[0, 1, 1, 0]], [[1, 1, 1, 1]]]),
    )
    many, x = MRI(maps, masks), randn(3, 1, 4, 4, dtype=torch.complex64)
    singles = [many.take([p]) for p in range(3)]
    for build in (lambda op: stack([op, 2 * op]), lambda op: op[[0]], lambda op: op[torch.arange(4) > 1]):
        one, each = build(many), [build(op) for op in singles]
        assert one.sizes == [op.size for op in each]
        torch.testing.assert_close(one.forward(x), torch.cat([op.forward(x[p : p + 1]) for p, op in enumerate(each)]))


def test_rows_are_chosen_as_of_a_list_and_numbers_divide():
    op = Matrix(randn(5, 3))
    torch.testing.assert_close(
        op[::-1].forward(torch.ones(1, 3).double()), op.forward(torch.ones(1, 3).double()).flip(1)
    )
    torch.testing.assert_close((op / 4).forward(torch.ones(1, 3).double()), op.forward(torch.ones(1, 3).double()) / 4)
    for rows in (..., (slice(2), 1), "all", None):
        with pytest.raises(ShapeError, match="expects a 1-D integer index, a slice or a boolean mask"):
            op[rows]


def test_support_of_a_sum_is_where_either_sees():
    left, right = (torch.zeros(2, 4, 4, dtype=torch.complex64) for _ in range(2))
    left[:, :2], right[:, 1:3] = 1, 1
    ops = [MRI(maps, torch.ones(4)) for maps in (left, right)]
    seen = torch.tensor([True, True, True, False])[:, None].expand(4, 4)
    for both in (ops[0] + ops[1], stack(ops)):
        assert both.support is not None
        assert torch.equal(both.support[0] if both.support.ndim == 3 else both.support, seen)
    assert stack([ops[0], Identity((1, 4, 4), "complex") @ Identity((1, 4, 4), "complex")]).support is None


def test_nonlinear_instruments_stack():
    b = blur().to(torch.float64)
    both = stack([b, Saturation(IMAGE, high=0.5)])
    assert isinstance(both, StackNonlinear)
    x, u, v = randn(2, *IMAGE), randn(2, *IMAGE, seed=1), randn(2, 96, seed=2)
    torch.testing.assert_close(both.split(both.forward(x))[1], x.clamp(max=0.5), rtol=0, atol=0)
    gap = (both.jvp(x, u) * v).sum() - (u * both.vjp(x, v)).sum()
    assert abs(float(gap)) < 1e-10


def test_everything_can_be_saved(tmp_path):
    b = blur()
    op: Any = stack([Saturation(IMAGE, high=0.5) @ b, b.H @ b, b.H])
    x = randn(1, *IMAGE, dtype=torch.float32)
    op = op.to(torch.float32)
    path = Measurement(op.forward(x)[0], op, Gaussian(1.0)).save(tmp_path / "m.h5")
    assert torch.equal(Measurement.load(path).operator.forward(x), op.forward(x))
