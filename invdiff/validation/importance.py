"""A posterior by importance sampling, for problems without a closed form; its effective size is checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement

__all__ = ["WeightedPosterior", "from_prior", "prior_dtype", "weighted"]


@dataclass(frozen=True)
class WeightedPosterior:
    """Weighted points of the posterior.

    Args:
        points: ``(n, *event)``; weights: ``(n,)`` float64, of sum 1; ess: ``1 / sum w^2``.
        log_evidence: ``log p(y)``, estimated; NaN where the weights are known up to a factor only.
    """

    points: Tensor
    weights: Tensor
    ess: float
    log_evidence: float

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n draws ``(n, *event)``, independent but for points that are drawn twice (rare where n << ess)."""
        index = torch.multinomial(self.weights, n, replacement=True, generator=rng)
        return self.points[index]


def weighted(points: Tensor, log_weights: Tensor, least: float = 2000.0, known: bool = True) -> WeightedPosterior:
    """Normalise weights and check that they are worth `least` equal ones.

    `known` says that the mean weight is the evidence. Raises InputError where the effective size is too small.
    """
    log_weights = log_weights.to(torch.float64)
    weights = torch.softmax(log_weights, 0)
    ess = float(1 / (weights**2).sum())
    if not ess >= least:
        raise InputError(
            f"importance sampling gave an effective size of {ess:.0f} of {len(points)} points, below {least:.0f}: the"
            " data are too informative for this proposal; use fewer data, more noise or more points"
        )
    total = float(torch.logsumexp(log_weights, 0)) - math.log(len(points))
    return WeightedPosterior(points, weights, ess, total if known else float("nan"))


def from_prior(
    prior: object, measurement: Measurement, rng: torch.Generator, points: int = 1_000_000, least: float = 2000.0
) -> WeightedPosterior:
    """Weight draws of the prior by their likelihood; whatever the operator and the noise.

    Points of negligible weight are dropped as they come, so memory stays that of a few chunks.

    Raises InputError: the effective size is below `least`, or the prior cannot be drawn from.
    """
    sample = getattr(prior, "sample", None)
    if sample is None:
        raise InputError(f"{type(prior).__name__} has no sample(n, rng): importance sampling draws from the prior")
    size = max(1, 2**24 // max(1, measurement.y.numel() + math.prod(measurement.operator.domain_shape)))
    kept, logs, done, best = [], [], 0, -float("inf")
    with torch.inference_mode():
        while done < points:
            x = sample(min(size, points - done), rng)
            log = measurement.log_likelihood(x.to(prior_dtype(measurement))).to(torch.float64)
            best = max(best, float(log.max()))
            keep = log > best - 30  # e^-30 of the best: a million of them weigh nothing
            kept.append(x[keep])
            logs.append(log[keep])
            done += len(x)
    found = weighted(torch.cat(kept), torch.cat(logs), least, known=False)
    total = float(torch.logsumexp(torch.cat(logs), 0)) - math.log(points)
    return WeightedPosterior(found.points, found.weights, found.ess, total)


def prior_dtype(measurement: Measurement) -> torch.dtype:
    """The dtype of x that goes with the data."""
    wide = measurement.y.dtype in (torch.float64, torch.complex128)
    if measurement.operator.domain == "complex":
        return torch.complex128 if wide else torch.complex64
    return torch.float64 if wide else torch.float32
