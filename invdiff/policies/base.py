"""What a policy is, and the greedy loop that most are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from invdiff.policies.belief import Belief

__all__ = ["Policy", "greedily", "highest"]

_TIE = (
    1e-9  # scores that differ by less, relative to the largest, are equal: then the group nearest the centre is taken
)


class Policy(Protocol):
    """Chooses what to measure next.

    Attributes:
        name: for results.
        needs_belief: whether it looks at particles. Others fix the whole plan from places alone, at once.
    """

    name: str
    needs_belief: bool

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return `count` groups, the most wanted first; fewer where fewer are free."""
        ...


def greedily(belief: Belief, count: int, score: Callable[[Sequence[int]], Tensor]) -> list[int]:
    """Choose one group after the other, each of the highest ``score(chosen before)`` ``(groups,)``."""
    chosen: list[int] = []
    free = belief.free.clone()
    for _ in range(min(count, int(free.sum()))):
        (best,) = highest(belief, score(chosen), 1, free)
        chosen.append(best)
        free[best] = False
    return chosen


def highest(belief: Belief, scores: Tensor, count: int, free: Tensor | None = None) -> list[int]:
    """The free groups of the `count` highest scores, highest first; of equal ones the nearest to the centre first."""
    free = belief.free.clone() if free is None else free.clone()
    scores = scores.detach().double().cpu()
    chosen: list[int] = []
    for _ in range(min(count, int(free.sum()))):
        here = scores.masked_fill(~free, -torch.inf)
        top = float(here.max())
        tied = free & (here >= top - _TIE * max(abs(top), 1e-300))
        best = belief.candidates.nearest_centre(tied)
        chosen.append(best)
        free[best] = False
    return chosen
