"""Free energies from how often chains go from one state to another, which forgets where the chains began; in kT.

Chains that start from a sampler inherit its ratio of the states, and counting their frames gives that ratio back until
every chain has gone over many times. Rates of exchange need only that each state is settled within itself: of the
sampled (biased) density, detailed balance says ``p_A k(A -> B) = p_B k(B -> A)`` with k the share of a state's frames
that are in the other state one lag later (two states of a Markov state model; Prinz et al. 2011, doi
10.1063/1.3565032). Unbiased, ``p_B / p_A = k(A -> B) / k(B -> A) <e^V>_B / <e^V>_A``, the means within the states.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.metrics.free_energy import State, inside

__all__ = ["crossings", "two_state"]


def crossings(s: Tensor, a: State, b: State) -> Tensor:
    """Return how often each chain of s ``(chains, times, k)`` went from one state to the other, ``(chains,)``."""
    now = inside(s, a).long() - inside(s, b).long()
    last = torch.zeros(s.shape[0], dtype=torch.int64, device=s.device)
    count = torch.zeros_like(last)
    for column in now.unbind(1):
        count += (column * last) < 0
        last = torch.where(column != 0, column, last)
    return count


def two_state(s: Tensor, log_weight: Tensor, a: State, b: State, lag: int | None = None) -> tuple[float, float]:
    """Return ``F(B) - F(A)`` from rates of exchange and its standard error, leaving out one chain after the other.

    Args:
        s: ``(chains, times, k)``.
        log_weight: ``(chains, times)``.
        a, b: states.
        lag: in frames; None for a quarter of the times, long enough to forget how a chain moves within a state.

    Returns:
        The difference, NaN where a state was never left for the other; its error, infinite where one chain holds all
        there is of something.

    Raises:
        InputError: fewer than two chains.
    """
    chains, times = s.shape[:2]
    if chains < 2:
        raise InputError("one chain tells no error; two_state expects 2 at least")
    if times < 2:
        return math.nan, math.inf
    lag = lag or max(1, times // 4)
    in_a, in_b = inside(s, a), inside(s, b)
    weight = (log_weight.double() - log_weight.double().max()).exp()
    first_a, first_b = in_a[:, :-lag], in_b[:, :-lag]
    counts = [first_a, first_b, first_a & in_b[:, lag:], first_b & in_a[:, lag:], in_a, in_b]
    sums = torch.stack([c.double().sum(1) for c in counts] + [(weight * x).sum(1) for x in (in_a, in_b)])
    left = _difference(sums.sum(1, keepdim=True) - sums)
    value = float(_difference(sums.sum(1)))
    if not math.isfinite(value):
        return math.nan, math.inf
    if not bool(torch.isfinite(left).all()):
        return value, math.inf
    return value, float(((chains - 1) / chains * (left - left.mean()).square().sum()).sqrt())


def _difference(sums: Tensor) -> Tensor:
    """The difference of sums ``(8, ...)``: frames that have a later one, those that changed, all frames, weights."""
    first_a, first_b, left_a, left_b, all_a, all_b, weight_a, weight_b = sums.log()
    return (left_b - first_b) - (left_a - first_a) + (weight_a - all_a) - (weight_b - all_b)
