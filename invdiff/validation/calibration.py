"""Calibration over many problems: draws from the posteriors of data made by draws from the prior.

Where posterior draws are exact, the truth is one more draw: its rank among them is uniform, and regions that hold a
share of the draws hold the truth as often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import ShapeError

__all__ = ["Uniformity", "ranks", "tarp", "uniformity"]


@dataclass(frozen=True)
class Uniformity:
    """How far P ranks are from uniform.

    Args:
        deviation: largest gap between their distribution function and the uniform one.
        p_value: chance of a gap as large from uniform ranks (Kolmogorov's law).
    """

    deviation: float
    p_value: float


def ranks(truth: Tensor, draws: Tensor) -> Tensor:
    """Number of draws below the truth: ``(P, k)`` and ``(L, P, k)`` to ``(P, k)`` integers from 0 to L.

    Source: Talts et al., 2018 (simulation-based calibration), arXiv 1804.06788. Raises ShapeError.
    """
    if draws.ndim != 3 or draws.shape[1:] != truth.shape:
        raise ShapeError(
            f"ranks got truth {tuple(truth.shape)} and draws {tuple(draws.shape)}; expected (P, k), (L, P, k)"
        )
    return (draws < truth).sum(0)


def uniformity(found: Tensor, count: int, rng: torch.Generator) -> Uniformity:
    """Judge ranks ``(P,)`` among `count` draws; ties of a discrete rank are broken at random."""
    u = (found.double() + torch.rand(found.shape, generator=rng, dtype=torch.float64)) / (count + 1)
    return _kolmogorov(u)


def tarp(truth: Tensor, draws: Tensor, rng: torch.Generator, references: int = 5) -> Uniformity:
    """Coverage of balls about random points (TARP): the share of draws nearer to the point than the truth is.

    Args:
        truth: ``(P, D)``; draws: ``(L, P, D)``. Points are other problems' truths with noise of their own scatter, so
            they do not depend on the problem's truth; `references` points a problem, the worst counts.

    The p-value is multiplied by the number of points (Bonferroni). Source: Lemos et al., 2023, arXiv 2302.03026.
    Raises ShapeError.
    """
    if draws.ndim != 3 or draws.shape[1:] != truth.shape or len(truth) < 3:
        raise ShapeError(f"tarp got truth {tuple(truth.shape)}, draws {tuple(draws.shape)}; expected (P, D), (L, P, D)")
    worst = Uniformity(0.0, 1.0)
    for k in range(references):
        points = truth.roll(k + 1, 0)
        points = points + truth.std(0) * torch.randn(points.shape, generator=rng, dtype=points.dtype)
        nearer = ((draws - points) ** 2).sum(-1) < ((truth - points) ** 2).sum(-1)
        found = uniformity(nearer.sum(0), len(draws), rng)
        worst = found if found.deviation > worst.deviation else worst
    return Uniformity(worst.deviation, min(1.0, references * worst.p_value))


def _kolmogorov(u: Tensor) -> Uniformity:
    ordered, n = u.sort().values, len(u)
    steps = torch.arange(n, dtype=torch.float64)
    gap = float(torch.maximum((steps + 1) / n - ordered, ordered - steps / n).max())
    z = gap * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))  # Stephens' correction for finite n
    if z < 0.2:
        return Uniformity(gap, 1.0)  # where the series below does not converge, and the answer is 1 to ten digits
    tail = 2 * sum((-1) ** (j - 1) * math.exp(-2 * (j * z) ** 2) for j in range(1, 101))
    return Uniformity(gap, min(max(tail, 0.0), 1.0))
