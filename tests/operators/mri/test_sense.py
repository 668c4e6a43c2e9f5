"""The MRI operator against dense matrices written out from the definition, and against sigpy."""

import math

import pytest
import torch

import invdiff.operators.mri.sense as module
from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.mri.sense import MRI

SIZES = [(4, 6), (5, 3), (1, 4)]
# Shapes of masks, from (problems, H, W)
KINDS = {
    "any": lambda p, h, w: (h, w),
    "columns": lambda p, h, w: (w,),
    "row of columns": lambda p, h, w: (1, w),
    "rows": lambda p, h, w: (h, 1),
    "all": lambda p, h, w: (1, 1),
    "any each": lambda p, h, w: (p, h, w),
    "columns each": lambda p, h, w: (p, 1, w),
    "rows each": lambda p, h, w: (p, h, 1),
}
COILS = 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def complex_normal(*shape, seed=0, dtype=torch.complex64):
    return torch.randn(*shape, dtype=dtype, generator=generator(seed))


def random_mask(shape, seed=0):
    mask = torch.rand(shape, generator=generator(seed)) < 0.5
    mask[-1 if mask.ndim == 1 else (..., -1, -1)] = True  # never empty, and not symmetric about the centre
    return mask


def dft(n):
    k = torch.arange(n, dtype=torch.float64) - n // 2
    return torch.exp(-2j * math.pi * torch.outer(k, k) / n) / math.sqrt(n)


def dense(maps, mask):
    """Matrix (coils H W, sets H W) of one problem: maps (sets, coils, H, W), mask that broadcasts to (H, W)."""
    sets, coils, height, width = maps.shape
    transform = torch.kron(dft(height), dft(width))
    kept = mask.expand(height, width).reshape(-1, 1) * transform
    rows = [torch.cat([kept * maps[e, c].reshape(-1) for e in range(sets)], 1) for c in range(coils)]
    return torch.cat(rows, 0)


def relative(a, b):
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


@pytest.fixture(params=[None, 1, 2000], ids=["whole", "smallest pieces", "small pieces"])
def pieces(request, monkeypatch):
    if request.param:
        monkeypatch.setitem(module._PIECE, "cpu", request.param)


@pytest.mark.parametrize(("problems", "sets"), [(1, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equals_the_dense_matrix(height, width, kind, problems, sets, pieces):
    maps = complex_normal(problems, sets, COILS, height, width, dtype=torch.complex128)
    mask = random_mask(KINDS[kind](problems, height, width))
    op = MRI(maps, mask)
    batch = 3
    x = complex_normal(batch, sets, height, width, seed=1, dtype=torch.complex128)
    y = complex_normal(batch, COILS, height, width, seed=2, dtype=torch.complex128)
    forward, adjoint, normal = op.forward(x), op.adjoint(y), op.normal(x)
    for i in range(batch):
        own = mask if mask.ndim < 3 else mask[i % len(mask)]
        a = dense(maps[i % problems], own)
        assert relative(forward[i].flatten(), a @ x[i].flatten()) < 1e-13
        assert relative(adjoint[i].flatten(), a.mH @ y[i].flatten()) < 1e-13
        assert relative(normal[i].flatten(), a.mH @ (a @ x[i].flatten())) < 1e-13
    assert op.range_mask is not None and bool((forward == forward * op.range_mask).all())
    assert float(forward.abs().amax((0, 1))[own.expand(height, width)].min()) > 0


@pytest.mark.parametrize("size", [(64, 48), (45, 63), (33, 32)])
@pytest.mark.parametrize("kind", ["any", "columns", "rows"])
def test_float32_adjoint_and_normal(size, kind, pieces):
    op = MRI(complex_normal(2, 5, *size)[None], random_mask(KINDS[kind](1, *size)))
    x, y = complex_normal(2, 2, *size, seed=1), complex_normal(2, 5, *size, seed=2)
    ax, ahy = op.forward(x), op.adjoint(y)
    norms = torch.linalg.vector_norm(ax) * torch.linalg.vector_norm(y)
    assert float((torch.vdot(ax.flatten(), y.flatten()) - torch.vdot(x.flatten(), ahy.flatten())).abs() / norms) < 1e-6
    assert relative(op.normal(x), op.adjoint(ax)) < 1e-6


@pytest.mark.parametrize("kind", ["any each", "columns each", "rows each", "columns"])
def test_problems_are_independent_and_can_be_taken(kind, pieces):
    maps, mask = complex_normal(4, 2, COILS, 6, 5), random_mask(KINDS[kind](4, 6, 5))
    op, x = MRI(maps, mask), complex_normal(4, 2, 6, 5, seed=1)
    assert op.n_problems == 4
    for i in range(4):
        one = MRI(maps[i : i + 1], mask if mask.ndim < 3 else mask[i])
        torch.testing.assert_close(op.normal(x)[i], one.normal(x[i : i + 1])[0], rtol=1e-5, atol=1e-5)
    order = [3, 0, 3]
    torch.testing.assert_close(op.take(order).forward(x[order]), op.forward(x)[order], rtol=1e-5, atol=1e-5)
    with pytest.raises(ShapeError, match="4 problems"):
        op.forward(x[:2])
    for wrong in ([4], [-1], []):
        with pytest.raises(InputError, match="0 to 3"):
            op.take(wrong)


def test_masks_of_each_problem_with_shared_maps():
    maps, mask = complex_normal(COILS, 4, 6), random_mask((2, 4, 6))
    mask[0] = True
    op, x = MRI(maps, mask), complex_normal(2, 1, 4, 6, seed=1)
    assert op.n_problems == 2
    assert relative(op.forward(x)[1:], MRI(maps, mask[1]).forward(x[1:])) < 1e-6
    assert op.range_mask is not None and tuple(op.range_mask.shape) == (2, 1, 4, 6)
    assert op.sizes == [COILS * 24, COILS * int(mask[1].sum())]
    assert op.take([1]).size == op.sizes[1]


@pytest.mark.parametrize("problems", [1, 2])
def test_support_is_where_some_coil_sees(problems):
    maps = complex_normal(problems, 2, COILS, 4, 6)
    assert MRI(maps, torch.ones(6)).support is None
    maps[-1, 1, :, 2, 3] = 0
    maps[0, 0, 0, 1, 1] = 0  # one coil only
    op = MRI(maps, random_mask((6,)))
    assert op.support is not None and tuple(op.support.shape) == ((2, 2, 4, 6) if problems == 2 else (2, 4, 6))
    assert (~op.support).nonzero().tolist() == [[1] * (problems - 1) + [1, 2, 3]]
    assert float(op.forward(complex_normal(2, 2, 4, 6) * ~op.support).abs().max()) == 0


def test_one_problem_takes_any_batch_and_is_its_own_selection():
    op = MRI(complex_normal(COILS, 4, 6), random_mask((6,)))
    assert op.take([0, 0, 0]) is op
    assert op.forward(complex_normal(5, 1, 4, 6)).shape == (5, COILS, 4, 6)
    assert op.size == COILS * 4 * int(random_mask((6,)).sum())


def test_a_mask_of_equal_rows_is_seen_as_one_of_columns():
    columns = random_mask((6,))
    full = MRI(complex_normal(COILS, 4, 6), columns.expand(4, 6))
    assert tuple(full.mask.shape) == (1, 1, 6) and full._one_axis
    turned = MRI(complex_normal(COILS, 6, 4), columns[:, None].expand(6, 4))
    assert tuple(turned.mask.shape) == (1, 6, 1) and turned._one_axis


@pytest.mark.parametrize("kind", ["any", "columns", "rows each"])
def test_derivatives(kind):
    op = MRI(complex_normal(2, 1, 2, 2, 3, dtype=torch.complex128), random_mask(KINDS[kind](2, 2, 3)))
    x = complex_normal(2, 1, 2, 3, seed=1, dtype=torch.complex128).requires_grad_()
    y = complex_normal(2, 2, 2, 3, seed=2, dtype=torch.complex128).requires_grad_()
    for function, point in ((op.forward, x), (op.normal, x), (op.adjoint, y)):
        assert torch.autograd.gradcheck(function, (point,), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, (point,), fast_mode=True)
    many = torch.stack([x.detach(), 2 * x.detach()])
    torch.testing.assert_close(torch.func.vmap(op.forward)(many)[1], 2 * op.forward(x.detach()))


def test_lazily_conjugated_and_strided_inputs():
    op = MRI(complex_normal(COILS, 4, 6), random_mask((4, 6)))
    x, y = complex_normal(2, 1, 6, 4, seed=1).mT, complex_normal(2, COILS, 4, 6, seed=2)
    for function, value in ((op.forward, x.conj()), (op.normal, x.conj()), (op.adjoint, y.conj())):
        clean = value.resolve_conj().contiguous().clone()
        torch.testing.assert_close(function(value), function(clean))


def test_calls_change_nothing():
    op = MRI(complex_normal(COILS, 5, 6), random_mask((5, 6)))
    x, y = complex_normal(1, 1, 5, 6, seed=1), complex_normal(1, COILS, 5, 6, seed=2)
    before = [t.clone() for t in (op.coil_maps, op.mask, op._maps, x, y)]
    first = op.forward(x), op.adjoint(y), op.normal(x)
    second = op.forward(x), op.adjoint(y), op.normal(x)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, (op.coil_maps, op.mask, op._maps, x, y), strict=True))


def test_precision():
    maps, mask, x = complex_normal(COILS, 5, 6), random_mask((6,)), complex_normal(1, 1, 5, 6, seed=1)
    single = MRI(maps, mask)
    double = single.to(torch.float64)
    assert isinstance(double, MRI) and double.coil_maps.dtype == torch.complex128 and double.mask.dtype == torch.bool
    truth = dense(maps[None].to(torch.complex128), mask) @ x.to(torch.complex128).flatten()
    assert relative(double.forward(x.to(torch.complex128)).flatten(), truth) < 1e-14
    assert relative(double.to(torch.float32).forward(x), single.forward(x)) < 1e-6
    # Data of the other precision keep their own.
    assert single.normal(x.to(torch.complex128)).dtype == torch.complex128
    assert double.normal(x).dtype == torch.complex64
    assert relative(double.normal(x), single.normal(x)) < 1e-6


def test_state_rebuilds_it():
    op = MRI(complex_normal(2, 2, COILS, 5, 4), random_mask((2, 5, 1)))
    x = complex_normal(2, 2, 5, 4, seed=1)
    assert torch.equal(MRI(**op.state()).forward(x), op.forward(x))


def test_example_and_repr():
    op = MRI.example(generator())
    assert op.forward(complex_normal(2, *op.domain_shape)).shape == (2, *op.range_shape)
    several = MRI(complex_normal(2, COILS, 4, 4), torch.tensor([True, False, False, False]))
    assert repr(several) == "MRI[C^(1x4x4) -> C^(3x4x4), 25 % sampled, 2 problems]"


@pytest.mark.parametrize(
    ("maps", "mask", "error", "text"),
    [
        (complex_normal(4, 4), torch.ones(4), ShapeError, r"\(4, 4\).*\(coils, H, W\)"),
        (complex_normal(1, 1, 1, 2, 4, 4), torch.ones(4), ShapeError, "problems, sets, coils"),
        (torch.ones(2, 4, 4), torch.ones(4), DTypeError, "float32.*complex"),
        (complex_normal(2, 4, 4) * float("nan"), torch.ones(4), InputError, "NaN"),
        (complex_normal(2, 4, 4), torch.zeros(4), InputError, "false everywhere"),
        (complex_normal(2, 2, 4, 4), torch.tensor([1, 0]).reshape(2, 1, 1), InputError, "false"),
        (complex_normal(2, 4, 4), torch.full((4,), 0.5), InputError, "0 and 1"),
        (complex_normal(2, 4, 4), torch.ones(5), ShapeError, r"\(5,\).*\(4,\)"),
        (complex_normal(2, 4, 6), torch.ones(6, 4), ShapeError, r"\(6, 4\).*\(4, 6\)"),
        (complex_normal(3, 2, 4, 4), torch.ones(2, 4, 4), ShapeError, r"\(2, 4, 4\)"),
        (complex_normal(2, 4, 4), torch.ones(1, 1, 4, 4), ShapeError, r"\(problems, H, W\)"),
    ],
)
def test_errors_at_construction(maps, mask, error, text):
    with pytest.raises(error, match=text):
        MRI(maps, mask)


def test_errors_in_calls():
    op = MRI(complex_normal(COILS, 4, 6), torch.ones(6))
    with pytest.raises(ShapeError, match="3, 4, 6"):
        op.adjoint(complex_normal(1, COILS + 1, 4, 6))
    with pytest.raises(ShapeError, match="1, 4, 6"):
        op.forward(complex_normal(1, 4, 6))
    with pytest.raises(DTypeError, match="complex"):
        op.forward(torch.zeros(1, 1, 4, 6))


@pytest.mark.parametrize("size", [(12, 16), (9, 14)])
def test_agrees_with_sigpy(size):
    linop = pytest.importorskip("sigpy.mri.linop")
    maps, mask = complex_normal(COILS, *size), random_mask(size)
    sense = linop.Sense(maps.numpy(), weights=mask.float().numpy())
    op, x, y = MRI(maps, mask), complex_normal(1, 1, *size, seed=1), complex_normal(1, COILS, *size, seed=2)
    # 1e-6: both work in float32
    assert relative(op.forward(x)[0], torch.from_numpy(sense(x[0, 0].numpy()))) < 1e-6
    assert relative(op.adjoint(y)[0, 0], torch.from_numpy(sense.H(y[0].numpy()))) < 1e-6


@pytest.mark.parametrize("kind", ["any", "columns", "rows"])
def test_same_on_the_gpu(kind):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    op = MRI(complex_normal(2, COILS, 33, 40), random_mask(KINDS[kind](2, 33, 40)))
    x, y = complex_normal(2, 1, 33, 40, seed=1), complex_normal(2, COILS, 33, 40, seed=2)
    there = op.to("cuda")
    assert isinstance(there, MRI)
    assert relative(there.forward(x.cuda()).cpu(), op.forward(x)) < 1e-6
    assert relative(there.adjoint(y.cuda()).cpu(), op.adjoint(y)) < 1e-6
    assert relative(there.normal(x.cuda()).cpu(), op.normal(x)) < 1e-6


@pytest.mark.parametrize("mask", [torch.tensor([True, False, True, True, False]), torch.rand(4, 5) < 0.6])
def test_maps_of_any_memory_layout(mask: torch.Tensor) -> None:
    maps = torch.randn(3, 5, 4, dtype=torch.complex64).mT  # strided, as from a Fortran-ordered file
    x = torch.randn(2, 1, 4, 5, dtype=torch.complex64)
    strided, plain = MRI(maps, mask), MRI(maps.clone(memory_format=torch.contiguous_format), mask)
    torch.testing.assert_close(strided.normal(x), plain.normal(x))
    torch.testing.assert_close(strided.normal(x), strided.adjoint(strided.forward(x)), rtol=1e-4, atol=1e-5)
