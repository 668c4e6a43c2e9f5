"""One problem whose posterior is known, and what is known about it: what a sampler is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.validation.linear_gaussian import GaussianPosterior, components, real_matrix, real_problem
from invdiff.validation.mixture import MixturePosterior

__all__ = ["Case", "Exact", "Marginals", "expected_chi2", "gaussian_directions", "known_and_random"]


class Exact(Protocol):
    """A posterior that can be drawn from."""

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent draws, shape ``(n, *event)``."""
        ...


@dataclass(frozen=True)
class Marginals:
    """The exact law of k numbers, each one by itself: a mixture of K normals; points of a sample are narrow ones.

    Args:
        weights: ``(K,)``, of sum 1. means: ``(K, k)``. stds: ``(K or 1, k)``. All float64.
    """

    weights: Tensor
    means: Tensor
    stds: Tensor

    @property
    def mean(self) -> Tensor:
        """Exact means, ``(k,)``."""
        return self.weights @ self.means

    @property
    def std(self) -> Tensor:
        """Exact standard deviations, ``(k,)``."""
        stds = self.stds.expand(self.means.shape)
        return (self.weights @ ((self.means - self.mean) ** 2 + stds**2)).sqrt()

    def below(self, ends: Tensor) -> Tensor:
        """Probability below each of the k `ends`, ``(k,)``."""
        stds = self.stds.clamp_min(torch.finfo(torch.float64).tiny)
        return self.weights @ torch.special.ndtr((ends - self.means) / stds)

    @classmethod
    def of_draws(cls, values: Tensor, weights: Tensor | None = None) -> Marginals:
        """The law of a (weighted) sample ``(n, k)``."""
        n, k = values.shape
        weights = torch.full((n,), 1 / n, dtype=torch.float64) if weights is None else weights
        return cls(weights, values, torch.zeros(1, k, dtype=torch.float64))


@dataclass(frozen=True)
class Case:
    """A prior, a measurement and the exact posterior.

    Args:
        name: the family it belongs to.
        directions: draws ``(n, *event)`` to k numbers each, ``(n, k)`` float64, whose exact law is `marginals`.
        seen: ``(k,)`` boolean: numbers of which the data say something (they take 90 % of the prior's variance
            away, where that is known).
        chi2: expectation of the data's chi2 over exact draws; None to take it from a sample.
        mode_weights: exact probability of each component of a mixture prior; None where it has none.
        facts: what else is worth reporting (noise level, effective size of an importance sample).
    """

    name: str
    prior: Prior
    measurement: Measurement
    exact: Exact
    directions: Callable[[Tensor], Tensor]
    marginals: Marginals
    seen: Tensor
    chi2: float | None = None
    mode_weights: Tensor | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def gaussian_directions(exact: GaussianPosterior, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Directions that decouple prior and posterior: ``(D, k)`` to multiply real components by, and the ratios ``(k,)``.

    Along each the prior's variance is 1 and the posterior's the ratio, 0 to 1, ascending: the best known come first.
    Directions in which the prior does not vary are left out. `covariance` is the prior's, ``(D, D)`` float64.
    """
    variances, turn = torch.linalg.eigh(covariance)
    keep = variances > 1e-10 * variances[-1]
    white = turn[:, keep] / variances[keep].sqrt()
    ratios, inner = torch.linalg.eigh(white.mT @ exact.covariance @ white)
    return white @ inner, ratios.clamp_min(0)


def known_and_random(measurement: Measurement, rng: torch.Generator, most: int = 32) -> tuple[Tensor, int]:
    """Orthonormal directions ``(D, k)``: those that a linear operator sees first, random ones after them; their number.

    k is D or `most`, whichever is less.
    """
    matrix = real_matrix(measurement.operator)  # type: ignore[arg-type]
    _, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    seen = vh[s > 1e-9 * s[0]][:most]
    fresh = torch.randn(matrix.shape[1], min(most, matrix.shape[1]) - len(seen), generator=rng, dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.cat([seen.mT, fresh], 1))
    return basis, len(seen)


def expected_chi2(exact: MixturePosterior | GaussianPosterior, measurement: Measurement) -> float:
    """``E |(y - A x)/sigma|^2`` over exact draws under a linear operator: ``sum_k w_k (|r_k|^2 + tr A C_k A^T)``."""
    matrix, y, variance = real_problem(measurement)
    white = matrix / variance.sqrt()[:, None]
    if isinstance(exact, GaussianPosterior):
        weights, means, covariances = torch.ones(1, dtype=torch.float64), exact.mean[None], exact.covariance[None]
    else:
        weights, means, covariances = exact.weights, exact.means, exact.covariances
    misfit = ((y / variance.sqrt() - components(means) @ white.mT) ** 2).sum(1)
    spread = ((white @ covariances) * white).sum((-2, -1))
    return float(weights @ (misfit + spread))
