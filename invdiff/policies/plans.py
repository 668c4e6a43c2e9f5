"""Plans that look at places only, never at data: what adaptive policies are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.policies.base import highest
from invdiff.policies.belief import Belief

__all__ = ["Equispaced", "Fixed", "LowFrequency", "Random", "VariableDensity"]


class Random:
    """Groups drawn without replacement, all alike."""

    name, needs_belief = "random", False

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        return highest(belief, torch.rand(belief.candidates.count, generator=rng), count)


class VariableDensity:
    """Groups drawn without replacement with probabilities proportional to ``exp(-|k|^2 / (2 std^2))``.

    Args:
        std: in units of the positions; 0.2 of the axis' length by default, as `invdiff.operators.mri.masks` has it.
    """

    name, needs_belief = "density", False

    def __init__(self, std: float = 0.2) -> None:
        if not std > 0:
            raise InputError(f"VariableDensity got std = {std}; expected a number above 0")
        self.std = std

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        square = belief.candidates.positions.square().sum(1)
        u = torch.rand(belief.candidates.count, generator=rng, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        gumbel = -torch.log(-torch.log(u))  # the highest log-probabilities plus these: sampling without replacement
        return highest(belief, gumbel - square / (2 * self.std**2), count)


class LowFrequency:
    """The groups nearest to the centre."""

    name, needs_belief = "lowfrequency", False

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        del rng
        return highest(belief, -belief.candidates.positions.square().sum(1), count)


class Equispaced:
    """Places spread as evenly as the free groups allow: of the whole budget, so a plan cut short is uneven.

    On one axis: equal distances, with a random start. On more: each next group is the one farthest from all taken.
    """

    name, needs_belief = "equispaced", False

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        positions = belief.candidates.positions
        if positions.shape[1] == 1:
            wanted = belief.budget - len(belief.initial)
            start = float(torch.rand(1, generator=rng))
            return _nearest_free(belief, positions[:, 0], _even(positions[:, 0], wanted, start))[:count]
        return _farthest(belief, count, rng)


class Fixed:
    """A list of groups made before: in its order, those that are taken left out.

    Args:
        order: groups; where it ends before the budget, the acquisition does.
        name: for results.
    """

    needs_belief = False

    def __init__(self, order: Sequence[int], name: str = "fixed") -> None:
        self.order, self.name = [int(g) for g in order], name
        if len(set(self.order)) != len(self.order):
            raise InputError(f"the fixed plan {name!r} names groups twice")

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups. Raises InputError for groups that are not there."""
        del rng
        wrong = [g for g in self.order if not 0 <= g < belief.candidates.count]
        if wrong:
            raise InputError(f"the fixed plan {self.name!r} names groups {wrong}; there are {belief.candidates.count}")
        return [g for g in self.order if belief.free[g]][:count]


def _even(places: Tensor, wanted: int, start: float) -> Tensor:
    ordered = places.sort().values
    step = (len(ordered) - 1) / max(1, wanted)
    index = (torch.arange(wanted) + start) * step
    return ordered[index.round().long().clamp(0, len(ordered) - 1)]


def _nearest_free(belief: Belief, places: Tensor, wanted: Tensor) -> list[int]:
    free, chosen = belief.free.clone(), []
    for place in wanted:
        if not bool(free.any()):
            break
        best = int((places - place).abs().masked_fill(~free, torch.inf).argmin())
        chosen.append(best)
        free[best] = False
    return chosen


def _farthest(belief: Belief, count: int, rng: torch.Generator) -> list[int]:
    positions, free, chosen = belief.candidates.positions, belief.free.clone(), []
    near = torch.full((len(positions),), torch.inf, dtype=positions.dtype)
    for g in (belief.taken & belief.candidates.exists).nonzero()[:, 0]:
        near = torch.minimum(near, (positions - positions[g]).square().sum(1))
    for _ in range(min(count, int(free.sum()))):
        if bool(torch.isinf(near[free]).any()):
            places = free.nonzero()[:, 0]
            best = int(places[int(torch.randint(len(places), (1,), generator=rng))])
        else:
            best = int(near.masked_fill(~free, -torch.inf).argmax())
        chosen.append(best)
        free[best] = False
        near = torch.minimum(near, (positions - positions[best]).square().sum(1))
    return chosen
