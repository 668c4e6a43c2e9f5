"""Model statistics of DPM-Solver-v3: how a denoiser is linear in x, and how the rest drifts, at each noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.random import Streams
from invdiff.schedules import refined
from invdiff.solvers.base import Denoise
from invdiff.solvers.pilot import trajectory

__all__ = ["ModelStatistics", "model_statistics"]

NODES = 33  # of the trapezoid rule within a step


@dataclass(frozen=True)
class ModelStatistics:
    """l, s and b at levels of falling sigma; between them linear in ``lambda = -log sigma``.

    Args:
        times: lambda, ascending, ``(K,)`` float64.
        l, s, b: ``(K, *event)``, or ``(K, 1, ...)`` where pooled over the event.
    """

    times: Tensor
    l: Tensor  # noqa: E741 - the paper's letter
    s: Tensor
    b: Tensor

    def at(self, sigma: float, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """l, s and b at one level, in the precision of `like`."""
        l, s, b = self._between(torch.tensor([-math.log(sigma)], dtype=torch.float64), like)  # noqa: E741
        return l[0], s[0], b[0]

    def integrals(self, t: float, s: float, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Nodes in lambda from level t to level s, and there ``L = int l``, ``S = int s``, ``B = int e^-S b``."""
        nodes = torch.linspace(-math.log(t), -math.log(s), NODES, dtype=torch.float64, device=like.device)
        l, rate, b = self._between(nodes, like)  # noqa: E741
        big_l, big_s = _running(l, nodes), _running(rate, nodes)
        return nodes, big_l, big_s, _running(torch.exp(-big_s) * b, nodes)

    def _between(self, nodes: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        times = self.times.to(nodes)
        i = torch.searchsorted(times, nodes).clamp(1, len(times) - 1)
        # Beyond its ends the table is continued by its end values.
        part = ((nodes - times[i - 1]) / (times[i] - times[i - 1])).clamp(0, 1)
        out = []
        for table in (self.l, self.s, self.b):
            table = table.to(like.device, like.dtype if table.is_complex() else like.real.dtype)
            out.append(torch.lerp(table[i - 1], table[i], part.reshape(-1, *[1] * (table.ndim - 1)).to(table)))
        return out[0], out[1], out[2]


def _running(values: Tensor, nodes: Tensor) -> Tensor:
    """Trapezoid integrals from the first node to each, along the first axis."""
    zero = torch.zeros_like(values[:1])
    return torch.cat([zero, torch.cumulative_trapezoid(values, nodes.to(values.real), dim=0)])


def model_statistics(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    rng: Streams,
    pooled: bool = True,
    levels: int = 120,
) -> ModelStatistics:
    """Measure l, s and b on pilot draws x ``(N, *event)`` of noise at ``sigmas[0]``, over the range of the grid.

    ``l = E tr d(x - D)/dx / d`` by a random sign vector and a central difference, two evaluations a level;
    with ``f = (1 - l) x - D`` and f' its derivative in lambda along the flow, s and b are the regression of f' on f:
    ``s = Cov(f, f')/Var f``, ``b = E f' - s E f``.

    Args:
        denoise: needs no gradient.
        rng: one stream a pilot draw.
        pooled: one number a level, the mean over the event; otherwise one for each entry, as in the paper, for which
            a handful of draws is enough only where the denoiser treats entries apart.
        levels: about how many to measure at.

    Source: Zheng, Lu, Chen and Zhu, 2023, arXiv 2310.13268, eq. 8 and 11.
    """
    grid = refined(sigmas, max(1, -(-levels // len(sigmas))))
    states = trajectory(denoise, x, grid, rng)
    axes = tuple(range(x.ndim)) if pooled else (0,)

    def mean(v: Tensor) -> Tensor:
        return v.mean(axes, keepdim=True)

    with torch.no_grad():
        ls, fs = [], []
        for sigma, at in zip(grid[:-1], states[:-1], strict=True):
            signs = rng.normal(at.real).sign().to(at.dtype)
            h = 0.05 * sigma
            slope = (denoise(at + h * signs, sigma) - denoise(at - h * signs, sigma)) / (2 * h)
            ls.append(mean(1 - (slope * signs).real))
            fs.append((1 - ls[-1]) * at - denoise(at, sigma))
        times = -torch.tensor(grid[:-1], dtype=torch.float64).log()
        rates = torch.gradient(torch.stack(fs), spacing=(times.to(x.real),), dim=0)[0]
        # Where f varies by less than 1 % of the prior there is nothing to gain from a regression on it, and its
        # slope is noise.
        ridge = 1e-4 * (states[-1].abs() ** 2).mean()
        ss, bs = [], []
        for f, rate in zip(fs, rates, strict=True):
            centred = f - mean(f)
            spread = mean(centred.abs() ** 2)
            s = mean((centred.conj() * rate).real) / (spread + ridge)
            ss.append(s)
            bs.append(mean(rate) - s * mean(f))
    return ModelStatistics(times, *(torch.stack(v).squeeze(1) for v in (ls, ss, bs)))
