"""PnP-DM and DAPS: the likelihood step against dense algebra and quadrature, and the law that each chain claims."""

import math

import pytest
import torch
from torch import Tensor

import invdiff
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import Operator
from invdiff.operators.matrix import Matrix
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.random import Streams, generator
from invdiff.samplers.daps import DAPS
from invdiff.samplers.likelihood import LikelihoodStep
from invdiff.samplers.pnpdm import PnPDM
from invdiff.solvers import State
from invdiff.validation.linear_gaussian import components, posterior
from invdiff.validation.sampler_problem import agreement

N = 4000
SIGMA = torch.tensor([0.3, 0.5, 0.4], dtype=torch.float64)


def case(dtype: torch.dtype, size: int = 4) -> tuple[Measurement, Tensor, Tensor]:
    rng = generator(5)
    a, y = normal((3, size), dtype, rng), normal((3,), dtype, rng)
    return Measurement(y, Matrix(a), Gaussian(SIGMA)), a, normal((size,), dtype, rng)


def check_moments(z: Tensor, mean: Tensor, precision: Tensor) -> None:
    """Whitened by the exact law, every component has mean 0 and variance 1 to 5 standard errors."""
    chol = torch.linalg.cholesky(precision)
    white = (z - mean) @ chol.conj()  # rows: (L^H (z - m))^T
    white = components(white)
    assert float(white.mean(0).abs().max()) < 5 / math.sqrt(len(z))
    cov = white.T @ white / len(z)
    assert float((cov - torch.eye(len(cov))).abs().max()) < 5 * math.sqrt(2 / len(z))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("exact", [True, False])
def test_likelihood_step_draws_from_the_gaussian_it_should(dtype: torch.dtype, exact: bool) -> None:
    measurement, a, x = case(dtype)
    rho = 0.7
    step = LikelihoodStep(measurement, moves=80)
    if not exact:
        step.equations = None  # Langevin on the same density
    count = N if exact else 800
    z = step(x.expand(count, -1).clone(), rho, Streams(0, range(count)))
    weight = torch.diag(SIGMA**-2).to(dtype)
    precision = a.mH @ weight @ a + torch.eye(4, dtype=dtype) / rho**2
    mean = torch.linalg.solve(precision, a.mH @ weight @ measurement.y + x / rho**2)
    check_moments(z, mean, precision)


def test_likelihood_step_knows_where_x_is_zero() -> None:
    op = Matrix(torch.tensor([[2.0, 0.0]], dtype=torch.float64))
    op.support = torch.tensor([True, False])
    measurement = Measurement(torch.tensor([1.0], dtype=torch.float64), op, Gaussian(0.5))
    z = LikelihoodStep(measurement)(torch.full((N, 2), 0.7, dtype=torch.float64), 1.5, Streams(2, range(N)))
    precision = torch.diag(torch.tensor([16.0 + 1 / 2.25, 4.0 + 1 / 2.25], dtype=torch.float64))
    mean = torch.tensor([(8 + 0.7 / 2.25) / (16 + 1 / 2.25), 0.7 / 2.25 / (4 + 1 / 2.25)], dtype=torch.float64)
    check_moments(z, mean, precision)


class Square(Operator):
    """``y = x^2``: two answers."""

    domain_shape = range_shape = (1,)

    def _forward(self, x: Tensor) -> Tensor:
        return x**2


def test_langevin_step_of_a_nonlinear_operator_against_quadrature() -> None:
    y, sigma, x, rho, count = 1.0, 0.5, 0.6, 0.4, 1000
    step = LikelihoodStep(Measurement(torch.tensor([y], dtype=torch.float64), Square(), Gaussian(sigma)))
    start = torch.full((count, 1), x, dtype=torch.float64)
    z = step(start, rho, Streams(1, range(count)))[:, 0].sort().values
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    law = torch.exp(-((y - grid**2) ** 2) / (2 * sigma**2) - (grid - x) ** 2 / (2 * rho**2)).cumsum(0)
    law = law / law[-1]
    at = law[torch.searchsorted(grid, z)]
    distance = (at - (torch.arange(count) + 0.5) / count).abs().max()
    assert float(distance) < 1.95 / math.sqrt(count)  # Kolmogorov-Smirnov at 0.1 %


class Held(PnPDM):
    """rho does not fall."""

    def rhos(self, prior, measurement):
        return [0.5] * (self.nfe // self.inner)


@pytest.mark.parametrize("domain", ["real", "complex"])
def test_pnpdm_at_fixed_rho_has_the_posterior_of_a_blurred_likelihood(domain: str) -> None:
    dtype = torch.complex64 if domain == "complex" else torch.float32
    rng = generator(2)
    a = torch.linalg.qr(normal((4, 2), dtype, rng))[0].mH.contiguous()  # orthonormal rows: A A^H = 1
    prior = GaussianPrior(torch.zeros(4, dtype=dtype), torch.diag(torch.tensor([0.3, 0.6, 1.0, 1.5])), domain)
    y, sigma = normal((2,), dtype, rng), 0.3
    made = invdiff.sample(Measurement(y, Matrix(a), Gaussian(sigma)), prior, Held(625, 25), 600, progress=False)
    draws = torch.from_numpy(made.draws.values)
    spread = torch.diag(torch.tensor([0.3, 0.6, 1.0, 1.5], dtype=torch.float64))
    spread = spread.repeat_interleave(2, 0).repeat_interleave(2, 1) if domain == "complex" else spread
    if domain == "complex":
        spread = spread * torch.eye(8)
    for level, right in ((math.hypot(sigma, 0.5), True), (sigma, False)):
        exact = posterior(prior, Measurement(y, Matrix(a), Gaussian(level)))
        found = agreement(draws, exact, spread)
        # 600 draws: 4 standard errors are 0.16 and 0.12; the discretised denoising step narrows by up to 0.03.
        good = float(found.bias.abs().max()) < 0.17 and float((found.ratio - 1).abs().max()) < 0.15
        assert good == right


def test_pnpdm_ends_with_a_small_bias() -> None:
    """Annealed to 0.3 of the noise, 400 evaluations: within a few percent of the exact posterior."""
    rng = generator(3)
    prior = GaussianPrior(torch.zeros(4), torch.diag(torch.tensor([0.3, 0.6, 1.0, 1.5])))
    measurement = Measurement(torch.randn(2, generator=rng), Matrix(torch.randn(2, 4, generator=rng)), Gaussian(0.3))
    made = invdiff.sample(measurement, prior, "pnpdm", 500, nfe=300, progress=False)
    found = agreement(
        torch.from_numpy(made.draws.values),
        posterior(prior, measurement),
        torch.diag(torch.tensor([0.3, 0.6, 1.0, 1.5], dtype=torch.float64)),
    )
    assert float(found.bias.abs().max()) < 0.25 and float((found.ratio - 1).abs().max()) < 0.2


def test_daps_draws_x0_about_the_end_of_the_ode() -> None:
    measurement, a, x = case(torch.float64)
    prior = GaussianPrior(torch.zeros(4, dtype=torch.float64), 1.5**2 * torch.eye(4, dtype=torch.float64))
    prior.sigma_min = 0.8
    like = torch.empty(N, 4, dtype=torch.float64)
    resume = State(4, 5, 0.8, x.expand(N, 4).clone())
    (state,) = DAPS(nfe=5, steps=1).steps(prior, measurement, like, Streams(3, range(N)), resume)
    center = x * 1.5**2 / (1.5**2 + 0.8**2)  # one Euler step to 0 is the denoised image
    r2 = 1.5**2 * 0.8**2 / (1.5**2 + 0.8**2)
    weight = torch.diag(SIGMA**-2)
    precision = a.T @ weight @ a + torch.eye(4) / r2
    mean = torch.linalg.solve(precision, a.T @ weight @ measurement.y + center / r2)
    check_moments(state.x, mean, precision)


@pytest.mark.parametrize("name", ["pnpdm", "daps"])
def test_a_bare_callable_is_a_prior(name: str) -> None:
    measurement = Measurement(torch.tensor([2.0]), Matrix(torch.tensor([[1.0, 0.0]])), Gaussian(0.1))
    made = invdiff.sample(measurement, lambda x, sigma: x / (1 + sigma**2), sampler=name, nfe=100, progress=False)
    assert made.draws.shape == (8, 2)
    assert float(abs(made.draws[:, 0] - 2).mean()) < 0.3  # the posterior is N(1.98, 0.1^2)


@pytest.mark.parametrize("made", [lambda: PnPDM(rho_min=2.0), lambda: PnPDM(nfe=0), lambda: DAPS(steps=0)])
def test_absurd_settings_are_refused(made) -> None:
    with pytest.raises(InputError):
        made()
