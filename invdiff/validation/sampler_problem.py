"""The small linear-Gaussian problem a sampler is tried on, a prior that counts, and the comparison with exactness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.base import Prior
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.validation.linear_gaussian import GaussianPosterior, components, posterior

__all__ = ["Agreement", "Counting", "Problem", "agreement", "problem"]


@dataclass(frozen=True)
class Problem:
    """A prior and what makes a measurement of it; `scaled` gives the same problem in other units."""

    mean: Tensor
    spread: Tensor
    matrix: Tensor
    y: Tensor
    sigma: float
    domain: str

    @property
    def prior(self) -> GaussianPrior:
        """The prior."""
        return GaussianPrior(self.mean, self.spread, self.domain)

    @property
    def measurement(self) -> Measurement:
        """The measurement."""
        return Measurement(self.y, Matrix(self.matrix), Gaussian(self.sigma))

    def scaled(self, x: float = 1.0, y: float = 1.0) -> Problem:
        """The same problem with x and y in other units: prior, operator, data and noise are multiplied together."""
        return Problem(
            x * self.mean, x**2 * self.spread, (y / x) * self.matrix, y * self.y, y * self.sigma, self.domain
        )


def problem(domain: str, rng: torch.Generator, size: int = 8, data: int = 3, sigma: float = 0.2) -> Problem:
    """Draw a problem: prior variances from 0.1 to 1.5 along random directions, `data` random projections.

    With three data the inner linear systems have rank three, so a method that gives them three steps solves them,
    and what is judged is the sampler.
    """
    dtype = torch.complex64 if domain == "complex" else torch.float32
    wide = torch.complex128 if domain == "complex" else torch.float64
    directions, _ = torch.linalg.qr(normal((size, size), wide, rng))
    spread = (directions * torch.linspace(0.1, 1.5, size, dtype=torch.float64)) @ directions.mH
    mean, matrix = normal((size,), dtype, rng), normal((data, size), dtype, rng) / math.sqrt(size)
    x = GaussianPrior(mean, spread, domain).sample(1, rng)
    y = Gaussian(sigma).sample(Matrix(matrix).forward(x), rng)[0]
    return Problem(mean, spread, matrix, y, sigma, domain)


class Counting(Prior):
    """A prior that counts, in events, how often it is evaluated and how often a gradient goes back through it."""

    def __init__(self, prior: Prior) -> None:
        self.inner = prior
        self.domain, self.sample_shape, self.scale = prior.domain, prior.sample_shape, prior.scale
        self.sigma_min, self.sigma_max, self.units = prior.sigma_min, prior.sigma_max, prior.units
        self.evaluations = self.gradients = 0

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Count, and pass on."""
        self.evaluations += len(x)
        out = self.inner.denoise(x, sigma)
        if out.requires_grad:
            out.register_hook(self._back)
        return out

    def _back(self, gradient: Tensor) -> None:
        self.gradients += len(gradient)


@dataclass(frozen=True)
class Agreement:
    """Draws against the exact posterior, along D independent directions from the best to the least known.

    Args:
        bias: mean error in posterior deviations, ``(D,)``; ratio: deviation over the exact one, ``(D,)``.
        coverage: exact probability of the draws' central 90 % interval, ``(D,)``.
        known: share of the prior's variance that the data took away, ``(D,)``.
    """

    bias: Tensor
    ratio: Tensor
    coverage: Tensor
    known: Tensor


def agreement(draws: Tensor, exact: GaussianPosterior, spread: Tensor) -> Agreement:
    """Compare draws ``(n, *event)`` with the exact posterior of a prior of covariance `spread` (real components).

    The directions whiten the posterior and diagonalise the prior's covariance there, so that exact draws have
    independent standard normal coordinates, and the noise in the data matters most in the first.
    """
    chol = torch.linalg.cholesky(exact.covariance)
    white = torch.linalg.solve_triangular(chol, spread, upper=False)
    white = torch.linalg.solve_triangular(chol, white.mT, upper=False)
    gain, turn = torch.linalg.eigh((white + white.mT) / 2)  # prior over posterior variance, ascending
    gain, turn = gain.flip(0), turn.flip(1)
    error = components(draws) - components(exact.mean[None])
    u = torch.linalg.solve_triangular(chol, error.mT, upper=False).mT @ turn
    low, high = _ends(u)
    return Agreement(u.mean(0), u.std(0), torch.special.ndtr(high) - torch.special.ndtr(low), 1 - 1 / gain)


def _ends(u: Tensor) -> tuple[Tensor, Tensor]:
    """The 5th and 95th percent of n draws: order statistics that enclose 90 % of the law on average.

    The probability between the i-th and the j-th of n exact draws is (j - i)/(n + 1) in the mean.
    """
    n = len(u)
    ordered = u.sort(dim=0).values
    position = torch.tensor([0.05, 0.95], dtype=torch.float64) * (n + 1) - 1
    first = position.floor().long().clamp(0, n - 2)
    ends = torch.lerp(ordered[first], ordered[first + 1], (position - first)[:, None].clamp(0, 1))
    return ends[0], ends[1]


def exact_posterior(case: Problem) -> tuple[GaussianPosterior, Tensor]:
    """The exact posterior and the prior's covariance on real components."""
    from invdiff.validation.linear_gaussian import _real_covariance

    prior = case.prior
    return posterior(prior, case.measurement), _real_covariance(prior.variances, prior.directions)
