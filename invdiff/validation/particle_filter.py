"""The posterior of a trajectory by a large particle filter: a judge for systems with a known transition.

The bootstrap filter of Gordon, Salmond and Smith (1993): particles are moved by the transition with its noise, weighted
by the likelihood of what was observed, and drawn again, systematically, where few carry the weight. Tracing ancestors
back gives draws of whole trajectories (Kitagawa 1996); early states of long ones descend from few: `roots` counts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError

__all__ = ["Filtered", "particle_filter"]


@dataclass(frozen=True)
class Filtered:
    """What a filter found.

    Attributes:
        paths: equally weighted draws of trajectories given all data, ``(draws, steps + 1, d)``.
        log_evidence: ``log p(y)``.
        ess: least effective number of particles at any observation.
        roots: how many of the first states the trajectories descend from.
    """

    paths: Tensor
    log_evidence: float
    ess: float
    roots: int


def particle_filter(
    first: Tensor,
    move: Callable[[Tensor, torch.Generator], Tensor],
    log_likelihood: Mapping[int, Callable[[Tensor], Tensor]],
    steps: int,
    draws: int,
    rng: torch.Generator,
) -> Filtered:
    """Run a bootstrap filter and trace trajectories back.

    Args:
        first: particles of the initial distribution, ``(N, d)``.
        move: one step with its noise.
        log_likelihood: at each time that is observed (0 is before the first step), ``(N, d) -> (N,)``.
        steps: how many.
        draws: trajectories to return.

    Raises:
        InputError: all particles lost their weight, or there are fewer than two.
    """
    n = len(first)
    if n < 2:
        raise InputError(f"particle_filter got {n} particles; expected thousands")
    x, log_w, evidence, least = first, torch.zeros(n, dtype=torch.float64), 0.0, float(n)
    states, parents = [x], []
    for t in range(steps + 1):
        if t:
            ancestor = torch.arange(n)
            if _ess(log_w) < 0.5 * n:
                ancestor = _systematic(log_w.softmax(0), n, rng)
                log_w = torch.zeros_like(log_w)
            x = move(x[ancestor], rng)
            states.append(x)
            parents.append(ancestor)
        if t in log_likelihood:
            before = torch.logsumexp(log_w, 0)
            log_w = log_w + log_likelihood[t](x).double()
            gained = torch.logsumexp(log_w, 0) - before
            if not math.isfinite(float(gained)):
                raise InputError(f"no particle explains the observation at step {t}; take more, or more noise")
            evidence += float(gained)
            least = min(least, _ess(log_w))
    index = _systematic(log_w.softmax(0), draws, rng)
    index = index[torch.randperm(draws, generator=rng)]
    path = [states[-1][index]]
    for state, parent in zip(states[-2::-1], parents[::-1], strict=True):
        index = parent[index]
        path.append(state[index])
    return Filtered(torch.stack(path[::-1], 1), evidence, least, len(index.unique()))


def _ess(log_w: Tensor) -> float:
    w = log_w.softmax(0)
    return float(1 / (w**2).sum())


def _systematic(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    edges = weights.cumsum(0)
    at = (torch.rand(1, generator=rng, dtype=torch.float64) + torch.arange(count)) / count
    return torch.searchsorted(edges, at.clamp_max(float(edges[-1]) * (1 - 1e-12))).clamp_max(len(weights) - 1)
