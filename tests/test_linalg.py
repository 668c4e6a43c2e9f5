import pytest
import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.linalg import cg, dot, gmres, hutchinson_trace, inner, lanczos, power_norm

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
ROUNDING = {torch.float32: 2e-5, torch.complex64: 2e-5, torch.float64: 1e-11, torch.complex128: 1e-11}


class Dense:
    """A dense map on batches of 2 x 3 events, one matrix per example; counts its applications."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices, self.calls = matrices, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (self.matrices @ x.flatten(1)[..., None])[..., 0].reshape(x.shape)

    def solve(self, b: Tensor) -> Tensor:
        return torch.linalg.solve(self.matrices, b.flatten(1)[..., None])[..., 0].reshape(b.shape)


def square(dtype: torch.dtype, n: int = 4, seed: int = 0) -> Dense:
    g = torch.Generator().manual_seed(seed)
    return Dense(torch.randn(n, 6, 6, generator=g, dtype=dtype))


def positive(dtype: torch.dtype, n: int = 4, seed: int = 0) -> Dense:
    root = square(dtype, n, seed).matrices
    return Dense(root @ root.mH + 0.5 * torch.eye(6, dtype=dtype))


def vectors(dtype: torch.dtype, n: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def krylov(a: Tensor, b: Tensor, k: int) -> Tensor:
    return torch.linalg.qr(torch.stack([torch.linalg.matrix_power(a, j) @ b for j in range(k)], -1))[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_cg_solves_in_as_many_steps_as_unknowns(dtype):
    a, b = positive(dtype), vectors(dtype)
    x = cg(a, b, iterations=8)  # two more than the unknowns: rounding
    assert x.dtype == dtype
    torch.testing.assert_close(x, a.solve(b), rtol=ROUNDING[dtype] * 10, atol=ROUNDING[dtype])
    assert a.calls == 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_cg_minimises_the_energy_over_the_krylov_space(dtype):
    a, b = positive(dtype), vectors(dtype)
    x = cg(a, b, iterations=3).flatten(1)
    for matrix, rhs, found in zip(a.matrices, b.flatten(1), x, strict=True):
        q = krylov(matrix, rhs, 3)
        best = q @ torch.linalg.solve(q.mH @ matrix @ q, q.mH @ rhs)
        torch.testing.assert_close(found, best, rtol=1e-9, atol=1e-9)


def test_cg_examples_do_not_see_each_other():
    a, b = positive(torch.complex64), vectors(torch.complex64)
    b[2] *= 1e6
    together = cg(a, b, iterations=4)
    for i in range(4):
        alone = cg(Dense(a.matrices[i : i + 1]), b[i : i + 1], iterations=4)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_cg_converged_examples_stay_and_give_no_nan():
    a, b = positive(torch.float32), vectors(torch.float32)
    b[0] = 0  # converged before the first step
    x0 = torch.zeros_like(b)
    a.matrices[1] = 2 * torch.eye(6)
    x0[1] = b[1] / 2  # exactly converged by the warm start
    a.matrices[2] = 4 * torch.eye(6)  # exactly converged after one step
    x = cg(a, b, x0, iterations=60)
    assert bool(x.isfinite().all())
    assert bool((x[0] == 0).all())
    assert bool((x[1] == x0[1]).all())
    torch.testing.assert_close(x[2], b[2] / 4)
    torch.testing.assert_close(x[3], a.solve(b)[3], rtol=2e-4, atol=2e-5)


def test_cg_on_a_singular_map_stays_in_its_range():
    a = Dense(torch.diag(torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64))[None])
    b = vectors(torch.float64, 1)
    b.view(-1)[:2] = 0
    x = cg(a, b, iterations=20).flatten()
    torch.testing.assert_close(x[2:], b.flatten()[2:] / torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    assert bool((x[:2] == 0).all())


def test_cg_stops_where_there_is_no_positive_curvature():
    x = cg(lambda v: -v, vectors(torch.float64), iterations=5)
    assert bool((x == 0).all())


def test_cg_warm_start_continues():
    a, b, x0 = positive(torch.complex128), vectors(torch.complex128), vectors(torch.complex128, seed=7)
    torch.testing.assert_close(cg(a, b, x0, iterations=3), x0 + cg(a, b - a(x0), iterations=3))
    assert bool((cg(a, b, x0, iterations=0) == x0).all())


def test_cg_tolerance_stops_each_example_and_then_the_loop():
    a, b = positive(torch.float64), vectors(torch.float64)
    a.matrices += 5 * torch.eye(6)  # so that the error falls from step to step
    a.matrices[0] = torch.eye(6)  # needs one step, the others more
    x = cg(a, b, iterations=100, tolerance=0.05)
    residual = (b - a(x)).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    assert bool((residual <= 0.05 * (1 + 1e-9)).all())
    assert float(residual.max()) > 1e-4  # it did stop
    assert a.calls < 8
    for i in range(4):  # and when it stops does not depend on the neighbours
        alone = cg(Dense(a.matrices[i : i + 1]), b[i : i + 1], iterations=100, tolerance=0.05)
        torch.testing.assert_close(x[i : i + 1], alone, rtol=1e-9, atol=1e-9)


def real_linear(seed: int, symmetric: bool) -> tuple[Dense, Dense]:
    """A map on complex 2 x 3 events that is linear over the reals only: as such, and on (re, im) pairs."""
    g = torch.Generator().manual_seed(seed)
    m = torch.randn(2, 12, 12, generator=g, dtype=torch.float64)
    m = m @ m.mT + torch.eye(12, dtype=torch.float64) if symmetric else m

    class OnComplex(Dense):
        def __call__(self, x: Tensor) -> Tensor:
            pairs = torch.view_as_real(x).flatten(1)
            return torch.view_as_complex((m @ pairs[..., None]).reshape(*x.shape, 2))

    return OnComplex(m), Dense(m)


def test_cg_real_linear_map_on_complex_tensors():
    on_complex, on_pairs = real_linear(0, symmetric=True)
    b = vectors(torch.complex128, 2)
    pairs = on_pairs.solve(torch.view_as_real(b)).contiguous()
    expected = torch.view_as_complex(pairs)
    torch.testing.assert_close(cg(on_complex, b, iterations=14, real=True), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gmres_solves_what_is_not_symmetric(dtype):
    a, b = square(dtype), vectors(dtype)
    x = gmres(a, b, iterations=6)
    assert x.dtype == dtype
    error = (a(x) - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    assert float(error.max()) < 20 * ROUNDING[dtype]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gmres_minimises_the_residual_over_the_krylov_space(dtype):
    a, b, x0 = square(dtype), vectors(dtype), vectors(dtype, seed=5)
    x = gmres(a, b, x0, iterations=3).flatten(1)
    r = b - a(x0)
    for i in range(4):
        q = krylov(a.matrices[i], r[i].flatten(), 3)
        weights = torch.linalg.lstsq(a.matrices[i] @ q, r[i].flatten()[:, None])[0]
        torch.testing.assert_close(x[i], x0[i].flatten() + (q @ weights)[:, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gmres_keeps_a_solution_found_early(dtype):
    a, b = square(dtype), vectors(dtype)
    a.matrices[0] = 3 * torch.eye(6, dtype=dtype)  # the Krylov space ends after one vector
    a.matrices[1] = torch.diag(torch.tensor([1, 1, 1, 2, 2, 2], dtype=dtype))  # after two
    b[2] = 0
    x = gmres(a, b, iterations=6)
    assert bool(torch.isfinite(torch.view_as_real(x) if x.is_complex() else x).all())
    torch.testing.assert_close(x[:2], a.solve(b)[:2], rtol=20 * ROUNDING[dtype], atol=20 * ROUNDING[dtype])
    assert bool((x[2] == 0).all())


def test_gmres_real_linear_map_on_complex_tensors():
    on_complex, on_pairs = real_linear(1, symmetric=False)
    b = vectors(torch.complex128, 2)
    x = gmres(on_complex, b, iterations=12, real=True)
    torch.testing.assert_close(on_complex(x), b, rtol=1e-8, atol=1e-8)
    # Complex coefficients are wrong for such a map: the flag is what makes it work.
    assert float((on_complex(gmres(on_complex, b, iterations=12)) - b).abs().max()) > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
def test_power_norm_is_the_largest_eigenvalue(dtype):
    a = positive(dtype)
    found = power_norm(a, vectors(dtype), iterations=150)
    torch.testing.assert_close(found, torch.linalg.eigvalsh(a.matrices)[:, -1].double(), rtol=1e-5, atol=0)
    assert bool((power_norm(lambda x: 0 * x, vectors(dtype)) == 0).all())
    # From below, at any number of steps.
    few = power_norm(a, vectors(dtype), iterations=2)
    assert bool((few <= found * (1 + 1e-6)).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanczos_is_the_largest_eigenvalue_of_the_batch(dtype):
    a = positive(dtype)
    true = float(torch.linalg.eigvalsh(a.matrices).max())
    assert lanczos(a, vectors(dtype), iterations=24) == pytest.approx(true, rel=1e-5)
    few = [lanczos(a, vectors(dtype), iterations=k) for k in range(1, 8)]
    assert all(b >= c * (1 - 1e-6) for b, c in zip(few[1:], few[:-1], strict=True)) and few[-1] <= true * (1 + 1e-6)
    b = vectors(dtype).to(torch.complex128 if dtype.is_complex else torch.float64)
    rayleigh = float((b.conj() * a(b.to(dtype))).real.sum() / b.abs().square().sum())
    assert few[0] == pytest.approx(rayleigh, rel=1e-5)
    one = torch.linalg.eigh(a.matrices)[1][:, :, -1].reshape(-1, 2, 3).contiguous()
    assert lanczos(lambda x: 2 * x, one, iterations=9) == pytest.approx(2)  # the space is exhausted at once
    assert lanczos(lambda x: 0 * x, vectors(dtype)) == 0


def test_hutchinson_trace_is_exact_for_signs_on_a_diagonal():
    values = torch.tensor([[1.0, 2.0, 3.0, -4.0, 5.0, 6.0]], dtype=torch.float64)
    a = Dense(torch.diag_embed(values))
    signs = torch.sign(vectors(torch.float64, 1))
    torch.testing.assert_close(hutchinson_trace(a, [signs]), values.sum(1))
    # Complex entries of modulus 1 give the complex trace, of variance 1 per component the real one.
    a = Dense(torch.diag_embed(values + 7j))
    units = torch.sgn(vectors(torch.complex128, 1))
    torch.testing.assert_close(hutchinson_trace(a, [units]), values.sum(1))
    torch.testing.assert_close(hutchinson_trace(a, [2**0.5 * units]), 2 * values.sum(1))


def test_hutchinson_trace_is_unbiased():
    a = square(torch.float64, 1)
    g = torch.Generator().manual_seed(3)
    probes = [torch.sign(torch.randn(1, 2, 3, generator=g, dtype=torch.float64)) for _ in range(4000)]
    off = a.matrices[0] - torch.diag(a.matrices[0].diagonal())
    deviation = float(((off + off.mT) ** 2).sum() / 2) ** 0.5  # of one estimate with signs
    found = float(hutchinson_trace(a, probes))
    assert abs(found - float(a.matrices[0].trace())) < 4 * deviation / 4000**0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_dot_is_the_real_inner_product(dtype):
    a, b = torch.randn(2, 3, 4, 5, dtype=dtype)
    torch.testing.assert_close(dot(a.conj(), b), inner(a.conj(), b))


def test_inner_is_summed_in_double_precision():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 300_000, generator=g, dtype=torch.complex64)
    exact = (x.to(torch.complex128).conj() * x.to(torch.complex128).flip(1)).sum(1)
    scale = x.abs().double().square().sum(1)
    assert float(((inner(x, x.flip(1)) - exact.real) / scale).abs().max()) < 1e-9
    assert float(((inner(x, x.flip(1), real=False) - exact) / scale).abs().max()) < 1e-9
    assert inner(x, x).dtype == torch.float64


def test_wrong_calls_are_refused():
    a, b = positive(torch.float64), vectors(torch.float64)
    with pytest.raises(ShapeError, match="x0 has shape"):
        cg(a, b, b[:1], iterations=2)
    with pytest.raises(ShapeError, match="x0 has shape"):
        gmres(a, b, b[:1], iterations=2)
    with pytest.raises(InputError, match="iterations"):
        cg(a, b, iterations=-1)
    with pytest.raises(InputError, match="at least 1"):
        power_norm(a, b, iterations=0)
    with pytest.raises(InputError, match="at least 1"):
        lanczos(a, b, iterations=0)
    with pytest.raises(InputError, match="start of zero"):
        lanczos(a, 0 * b)
    with pytest.raises(InputError, match="NaN or infinity"):
        lanczos(lambda x: x * torch.nan, b)
    with pytest.raises(InputError, match="probe"):
        hutchinson_trace(a, [])
