"""Guidance against closed forms: a Gaussian prior makes every one of these methods computable by dense algebra."""

import math

import pytest
import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance import DDS, MMPS, DiffPIR, PiGDM
from invdiff.guidance.base import NormalEquations
from invdiff.guidance.mmps import solve
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.imaging.blur import Blur
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.operators.matrix import Matrix
from invdiff.priors.base import Prior
from invdiff.random import generator

D, M, SIGMA = 6, 4, 0.7


class Normal(Prior):
    """x ~ N(0, C), C Hermitian: ``D(x) = C (C + sigma^2)^-1 x``."""

    def __init__(self, covariance: Tensor) -> None:
        self.covariance = covariance
        self.domain = "complex" if covariance.is_complex() else "real"
        self.scale = float(covariance.diagonal().real.mean().sqrt())

    def gain(self, sigma: float) -> Tensor:
        return self.covariance @ torch.linalg.inv(self.covariance + sigma**2 * torch.eye(D))

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x @ self.gain(float(sigma)).mT


@pytest.fixture(params=[torch.float64, torch.complex128], ids=["real", "complex"])
def case(request: pytest.FixtureRequest) -> tuple[Normal, Measurement, Tensor]:
    rng, dtype = generator(5), request.param
    root = torch.randn(D, D, dtype=dtype, generator=rng)
    op = Matrix(torch.randn(M, D, dtype=dtype, generator=rng))
    y = torch.randn(M, dtype=dtype, generator=rng)
    x = torch.randn(3, D, dtype=dtype, generator=rng)
    return Normal(root @ root.mH / D), Measurement(y, op, Gaussian(0.3)), x


def dense(prior: Normal, measurement: Measurement, covariance: Tensor, x0: Tensor) -> Tensor:
    """``x0 + V A^H (A V A^H + s^2)^-1 (y - A x0)``."""
    a = measurement.operator.matrix  # type: ignore[attr-defined]
    inner = a @ covariance @ a.mH + 0.09 * torch.eye(M)
    residual = measurement.y - x0 @ a.mT
    return x0 + torch.linalg.solve(inner, residual.mT).mT @ (covariance @ a.mH).mT


def test_mmps_is_the_exact_posterior_mean(case: tuple[Normal, Measurement, Tensor]) -> None:
    prior, measurement, x = case
    exact = dense(prior, measurement, SIGMA**2 * prior.gain(SIGMA), prior.denoise(x, torch.tensor(SIGMA)))
    got = MMPS(prior, measurement, iterations=M)(x, SIGMA)
    torch.testing.assert_close(got, exact, rtol=1e-6, atol=1e-6)


def test_mmps_stops_where_every_example_is_solved_and_each_by_itself(case: tuple[Normal, Measurement, Tensor]) -> None:
    prior, measurement, x = case
    exact = MMPS(prior, measurement, iterations=M)(x, SIGMA)
    early = MMPS(prior, measurement, iterations=50, tolerance=1e-6)
    torch.testing.assert_close(early(x, SIGMA), exact, rtol=1e-5, atol=1e-5)
    assert early.counts.vjp <= 2 * M  # real and imaginary parts are solved in no more steps than data
    rough = MMPS(prior, measurement, iterations=50, tolerance=0.3)
    together = rough(x, SIGMA)
    alone = torch.cat([rough(x[i : i + 1], SIGMA) for i in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    assert float((together - exact).abs().max()) > 1e-4  # the tolerance was felt


@pytest.mark.parametrize("near", [False, True])
def test_a_solve_ends_at_its_tolerance_from_wherever_it_starts(near: bool) -> None:
    rng, n = generator(3), 40
    wide = 10 ** torch.linspace(-2, 2, n, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=rng))[0]
    v, precision = turn.mT @ (wide[:, None] * turn), torch.diag(wide.flip(0))
    rhs = torch.randn(5, n, dtype=torch.float64, generator=rng)
    exact = torch.linalg.solve(torch.eye(n, dtype=torch.float64) + precision @ v, rhs.mT).mT
    start = exact + 1e-3 * torch.randn(exact.shape, dtype=torch.float64, generator=rng) * exact if near else None
    if start is not None:
        first = rhs - start - start @ v @ precision
        assert 0.02 < float((first * (first @ v)).sum() / (rhs * (rhs @ v)).sum()) ** 0.5 < 1  # of use, not the end
    w, vw = solve(lambda x: x @ v, lambda x: x @ precision, rhs, 500, 0.01, start)
    torch.testing.assert_close(vw, w @ v, rtol=1e-9, atol=1e-9)
    left = rhs - w - vw @ precision
    share = ((left * (left @ v)).sum(1) / (rhs * (rhs @ v)).sum(1)).sqrt()
    assert 1e-4 < float(share.min()) and float(share.max()) < 0.01


@pytest.mark.parametrize("method", ["dds", "diffpir"])
def test_proximal_methods_solve_their_problem(case: tuple[Normal, Measurement, Tensor], method: str) -> None:
    prior, measurement, x = case
    v = prior.scale**2
    weight = {"dds": v * SIGMA**2 / (v + SIGMA**2), "diffpir": SIGMA**2 / (7 / 4)}[method]
    exact = dense(prior, measurement, weight * torch.eye(D, dtype=x.dtype), prior.denoise(x, torch.tensor(SIGMA)))
    guidance = DDS(prior, measurement, iterations=D) if method == "dds" else DiffPIR(prior, measurement, iterations=D)
    torch.testing.assert_close(guidance(x, SIGMA), exact, rtol=1e-6, atol=1e-6)


def test_pigdm_by_dense_algebra(case: tuple[Normal, Measurement, Tensor]) -> None:
    prior, measurement, x = case
    a = measurement.operator.matrix  # type: ignore[attr-defined]
    v = prior.scale**2
    r2 = v * SIGMA**2 / (v + SIGMA**2)
    x0 = prior.denoise(x, torch.tensor(SIGMA))
    u = torch.linalg.solve(r2 * a @ a.mH + 0.09 * torch.eye(M), (measurement.y - x0 @ a.mT).mT)
    step = SIGMA**2 * prior.gain(SIGMA).mH @ a.mH @ u
    gain = (step.conj() * (a.mH @ (measurement.y - x0 @ a.mT).mT)).real.sum(0) / 0.09
    cost = (step.conj() * (a.mH @ u)).real.sum(0) + (a @ step).abs().square().sum(0) / 0.09
    exact = x0 + ((gain / cost) * step).mT
    got = PiGDM(prior, measurement, iterations=D)(x, SIGMA)
    torch.testing.assert_close(got, exact, rtol=1e-6, atol=1e-6)
    published = PiGDM(prior, measurement, iterations=D, length=False)(x, SIGMA)
    torch.testing.assert_close(published, x0 + step.mT, rtol=1e-6, atol=1e-6)


class White(Prior):
    """x ~ N(0, 1.5^2)."""

    scale = 1.5

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x * self.scale**2 / (self.scale**2 + sigma**2)


CLOSED = {
    "mask": lambda: Inpainting(torch.rand(3, 4, generator=generator(0)) < 0.6, (1, 3, 4)),
    "blur": lambda: 2.0 * Blur(torch.rand(3, 3, generator=generator(0)), (1, 3, 4)),
    "complex mask": lambda: Inpainting(torch.rand(3, 4, generator=generator(0)) < 0.6, (1, 3, 4), "complex"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_pigdm_in_closed_form_is_that_of_the_matrix(name: str) -> None:
    op: LinearOperator = CLOSED[name]()
    assert op.has_damped_inverse
    dtype = torch.complex64 if op.domain == "complex" else torch.float32
    n = math.prod(op.domain_shape)
    matrix = op.forward(torch.eye(n, dtype=dtype).reshape(n, *op.domain_shape)).flatten(1).mT
    x, truth = torch.randn(2, 2, *op.domain_shape, dtype=dtype, generator=generator(1))
    y, prior = op.forward(truth[:1])[0], White()
    for length in (True, False):
        closed = PiGDM(prior, Measurement(y, op, Gaussian(0.3)), length=length)
        solved = PiGDM(prior, Measurement(y.flatten(), Matrix(matrix), Gaussian(0.3)), iterations=n, length=length)
        expected = solved(x.flatten(1), SIGMA).reshape(x.shape)
        torch.testing.assert_close(closed(x, SIGMA), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [DDS, DiffPIR, PiGDM, MMPS])
def test_an_example_does_not_depend_on_its_neighbours(case: tuple[Normal, Measurement, Tensor], method: type) -> None:
    prior, measurement, x = case
    guidance = method(prior, measurement)
    torch.testing.assert_close(guidance(x, SIGMA)[1:2], guidance(x[1:2], SIGMA), rtol=1e-10, atol=1e-10)


def test_noise_that_differs_between_data(case: tuple[Normal, Measurement, Tensor]) -> None:
    prior, measurement, x = case
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=torch.float64)
    mixed = Measurement(measurement.y, measurement.operator, Gaussian(sigma))
    a = mixed.operator.matrix  # type: ignore[attr-defined]
    precision = a.mH @ torch.diag(sigma**-2).to(a) @ a
    torch.testing.assert_close(NormalEquations(mixed, "test").precision(x), x @ precision.mT)
    covariance = SIGMA**2 * prior.gain(SIGMA)
    x0 = prior.denoise(x, torch.tensor(SIGMA))
    solved = torch.linalg.solve(a @ covariance @ a.mH + torch.diag(sigma**2).to(a), (mixed.y - x0 @ a.mT).mT)
    exact = x0 + (covariance @ a.mH @ solved).mT
    torch.testing.assert_close(MMPS(prior, mixed, iterations=2 * M)(x, SIGMA), exact, rtol=1e-6, atol=1e-6)


def test_work_is_counted(case: tuple[Normal, Measurement, Tensor]) -> None:
    prior, measurement, x = case
    for method, nfe, vjp in [(DDS, 1, 0), (DiffPIR, 1, 0), (PiGDM, 1, 1), (MMPS, 1, 5)]:
        guidance = method(prior, measurement)
        guidance(x, SIGMA)
        assert (guidance.counts.nfe, guidance.counts.vjp) == (nfe, vjp)


def test_nonlinear_operators_are_refused_by_name() -> None:
    class Square(Operator):
        domain_shape = range_shape = (D,)

        def _forward(self, x: Tensor) -> Tensor:
            return x**2

    measurement = Measurement(torch.ones(D), Square(), Gaussian(1.0))
    with pytest.raises(InputError, match="DDS needs a linear operator"):
        DDS(Normal(torch.eye(D)), measurement)


def test_where_x_is_known_to_be_zero_is_one_more_datum(case: tuple[Normal, Measurement, Tensor]) -> None:
    prior, measurement, x = case
    support = torch.tensor([True, True, False, True, True, False])
    op = Matrix(measurement.operator.matrix * support)  # type: ignore[attr-defined]
    op.support = support
    known = Measurement(measurement.y, op, measurement.noise)
    rows = torch.cat([op.matrix, torch.eye(D)[~support].to(op.matrix)])  # the two pixels, measured as zero
    covariance = SIGMA**2 * prior.gain(SIGMA)
    x0 = prior.denoise(x, torch.tensor(SIGMA))
    y = torch.cat([measurement.y, torch.zeros(2).to(measurement.y)])
    solved = torch.linalg.solve(rows @ covariance @ rows.mH + 0.09 * torch.eye(M + 2), (y - x0 @ rows.mT).mT)
    exact = x0 + (covariance @ rows.mH @ solved).mT
    torch.testing.assert_close(MMPS(prior, known, iterations=M + 2)(x, SIGMA), exact, rtol=1e-6, atol=1e-6)
