"""Resampling of weighted particles, population by population.

Weights come as logarithms, shape ``(populations, particles)``; an index names a particle within its population.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["effective_size", "log_mean_exp", "systematic", "tempered"]


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """``log(1/P sum_i exp l_i)`` of each population, shape ``(populations,)``."""
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])


def effective_size(log_weights: Tensor) -> Tensor:
    """``(sum w)^2 / sum w^2`` of each population, between 1 and P, shape ``(populations,)``."""
    w = torch.softmax(log_weights, 1)
    return 1 / (w**2).sum(1)


def tempered(log_weights: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The weights to the largest power up to 1 that keeps `share` of the particles effective; and it, ``(pops,)``.

    By bisection: the effective size falls as the power grows. Source: Zhou, Johansen and Aston, 2016, J. Comput. Graph.
    Stat. 25, for the rule; there the power is made up for in later steps.
    """
    least = share * log_weights.shape[1]
    low, high = torch.zeros_like(log_weights[:, 0]), torch.ones_like(log_weights[:, 0])
    low = torch.where(effective_size(log_weights) >= least, high, low)
    for _ in range(20):
        middle = (low + high) / 2
        good = effective_size(middle[:, None] * log_weights) >= least
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    return low[:, None] * log_weights, low


def systematic(log_weights: Tensor, uniform: Tensor, count: int | None = None) -> Tensor:
    """Draw `count` indices a population, each particle ``count w_i`` times up to rounding; shape ``(pops, count)``.

    One number u in [0, 1) a population, `uniform` ``(populations,)``, places the comb ``(j + u)/count`` on the
    cumulated weights. Source: Kitagawa, 1996, J. Comput. Graph. Stat. 5, 1; Douc, Cappe and Moulines, 2005.
    """
    populations, particles = log_weights.shape
    count = particles if count is None else count
    edges = torch.softmax(log_weights.double(), 1).cumsum(1)
    comb = (torch.arange(count, dtype=torch.float64, device=log_weights.device) + uniform.double()[:, None]) / count
    # Rounding may leave the last edge just below 1, and the index must not run past the last particle.
    return torch.searchsorted(edges / edges[:, -1:], comb, right=True).clamp_max(particles - 1)
