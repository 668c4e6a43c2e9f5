"""Bias, spread and coverage along directions whose exact law is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.validation.case import Marginals

__all__ = ["coverage", "squared_bias", "std_ratio"]


def squared_bias(values: Tensor, exact: Marginals, unit: int = 1) -> Tensor:
    """Squared error of the mean in exact deviations along each of k directions, ``(k,)``; NaN from one unit.

    The part that comes from a finite number of draws, measured by the scatter of the means of the units, is
    subtracted: the expectation is 0 for an unbiased sampler, so single values may be negative.

    Args:
        values: draws ``(n, k)``; n is a multiple of `unit`, the number of draws that depend on each other.
    """
    means = values.reshape(-1, unit, values.shape[1]).mean(1)
    scatter = means.var(0) / len(means) if len(means) > 1 else torch.full_like(exact.mean, math.nan)
    return ((means.mean(0) - exact.mean) ** 2 - scatter) / exact.std**2


def std_ratio(values: Tensor, exact: Marginals) -> float:
    """Root of the mean over directions of variance over exact variance."""
    return math.sqrt(float((values.var(0) / exact.std**2).mean()))


def coverage(values: Tensor, exact: Marginals, level: float) -> float:
    """Exact probability of the draws' central interval, the mean over directions; `level` for exact draws.

    The ends are order statistics: the probability between the i-th and the j-th of n exact draws is (j - i)/(n + 1)
    in the mean.
    """
    low, high = _ends(values, level)
    return float((exact.below(high) - exact.below(low)).mean())


def _ends(values: Tensor, level: float) -> tuple[Tensor, Tensor]:
    n = len(values)
    ordered = values.sort(dim=0).values
    position = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64) * (n + 1) - 1
    first = position.floor().long().clamp(0, n - 2)
    ends = torch.lerp(ordered[first], ordered[first + 1], (position - first)[:, None])
    return ends[0], ends[1]
