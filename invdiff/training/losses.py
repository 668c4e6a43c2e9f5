"""Noise levels to train at, and how the losses of different levels are weighed against each other.

Levels that are far apart in signal-to-noise pull the weights in different directions. Go et al., 2023, arXiv
2306.00354, cut the levels into intervals that are alike in it and take each as a task of its own.

"uncertainty" learns one weight for each task (Kendall et al., 2018, arXiv 1705.07115): ``sum_i L_i exp(-w_i) + w_i``,
whose w_i settles at ``log L_i`` and is set to that, a running mean, here.

"pcgrad" takes from each task's gradient what runs against another's (Yu et al., 2020, arXiv 2001.06782).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.networks.precondition import FlowMatched, Preconditioned
from invdiff.training.config import TrainConfig

__all__ = ["by_interval", "intervals", "noise_levels", "project_conflicts"]


def noise_levels(rng: torch.Generator, n: int, config: TrainConfig, net: Preconditioned | FlowMatched) -> Tensor:
    """Draw sigma ``(n,)``: log-normal, or uniform in the interpolant's time; within the configuration's range."""
    if config.noise_levels == "uniform-time":
        sigma = net.level(torch.rand(n, generator=rng))
        return sigma.clamp(config.sigma_min, config.sigma_max)
    log_sigma = config.log_sigma_mean + config.log_sigma_std * torch.randn(n, generator=rng)
    return log_sigma.clamp(math.log(config.sigma_min), math.log(config.sigma_max)).exp()


def intervals(sigmas: Tensor, count: int) -> Tensor:
    """Cut levels into `count` intervals with the least squared deviation of log SNR within them: the edges, ascending.

    Exact, by dynamic programming over the sorted levels (at most a few hundred), as clustering on a line allows.
    """
    x = -2 * sigmas.double().log().sort().values
    n = len(x)
    sums = [torch.cat([torch.zeros(1, dtype=torch.float64), (x**p).cumsum(0)]) for p in (1, 2)]

    def cost(first: Tensor, last: int) -> Tensor:  # of points first ... last - 1, for many first
        size = last - first
        return sums[1][last] - sums[1][first] - (sums[0][last] - sums[0][first]) ** 2 / size

    best = torch.full((count + 1, n + 1), math.inf, dtype=torch.float64)
    best[0, 0] = 0
    cut = torch.zeros(count + 1, n + 1, dtype=torch.int64)
    for k in range(1, count + 1):
        for last in range(k, n + 1):
            first = torch.arange(k - 1, last)
            total = best[k - 1, first] + cost(first, last)
            best[k, last], cut[k, last] = total.min(), first[total.argmin()]
    edges, last = [], n
    for k in range(count, 1, -1):
        last = int(cut[k, last])
        edges.append(float((x[last - 1] + x[last]) / 2))  # log SNR falls as sigma grows
    return torch.tensor([math.exp(-e / 2) for e in reversed(edges)])


def by_interval(losses: Tensor, sigma: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss of each interval ``(count,)`` and the share of the batch that is in it (0 where none is)."""
    index = torch.bucketize(sigma.detach(), edges.to(sigma))
    zero = torch.zeros(len(edges) + 1, device=losses.device, dtype=losses.dtype)
    size = zero.index_add(0, index, torch.ones_like(losses))
    return zero.index_add(0, index, losses) / size.clamp_min(1), size / len(losses)


def project_conflicts(gradients: Sequence[Tensor], order: Sequence[Sequence[int]]) -> Tensor:
    """Sum of the tasks' flat gradients, each without its part against the others: ``g_i -= (g_i.g_j)/|g_j|^2 g_j``.

    `order` gives, for each task, the other tasks in the (random) order in which they are taken.
    """
    total = torch.zeros_like(gradients[0])
    for own, others in zip(gradients, order, strict=True):
        g = own.clone()
        for j in others:
            conflict = torch.dot(g, gradients[j])
            if conflict < 0:
                g -= conflict / torch.dot(gradients[j], gradients[j]) * gradients[j]
        total += g
    return total
