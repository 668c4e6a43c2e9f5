"""Restraints that keep a sampler where its model holds: walls, bonds that stay, chirality.

They change the ensemble, so they belong in every report; a wall's edge should lie where the free energy is high.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.energies.base import CollectiveVariable
from invdiff.errors import InputError

__all__ = ["FlatBottom"]


@dataclass(frozen=True)
class FlatBottom:
    """``W(x) = sum_k stiffness / 2 * max(0, low - s_k, s_k - high)^2`` in kT, zero from low to high.

    An upper wall on a distance keeps a bond or holds two molecules together; bounds on an improper torsion keep a
    chirality. On a periodic variable the distance to the allowed interval goes the shorter way round.

    Args:
        variable: s(x).
        low, high: the allowed interval, in the variable's unit; None for no bound on that side (then not periodic).
        stiffness: kT per unit of s squared.
        name: for reports.

    Raises:
        InputError: no bound at all, low not below high, stiffness not above 0, one bound on a periodic variable.
    """

    variable: CollectiveVariable
    low: float | None
    high: float | None
    stiffness: float
    name: str = "restraint"

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise InputError(f"{self.name}: neither low nor high is given; a restraint expects one at least")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise InputError(f"{self.name}: low {self.low} is not below high {self.high}")
        if not self.stiffness > 0:
            raise InputError(f"{self.name}: stiffness is {self.stiffness}; it expects a number above 0")
        if any(p is not None for p in self.variable.period) and (self.low is None or self.high is None):
            raise InputError(f"{self.name}: a periodic variable needs both low and high")

    def potential(self, x: Tensor) -> Tensor:
        """Return W ``(N,)`` in kT of x ``(N, *event)``, differentiable."""
        s = self.variable.forward(x)
        total = torch.zeros_like(s[:, 0])
        for k, period in enumerate(self.variable.period):
            total = total + 0.5 * self.stiffness * self._excess(s[:, k], period).square()
        return total

    def _excess(self, s: Tensor, period: float | None) -> Tensor:
        if period is not None and self.low is not None and self.high is not None:
            centre, half = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
            d = s - centre
            return ((d - period * torch.round(d / period)).abs() - half).clamp_min(0)
        below = torch.zeros_like(s) if self.low is None else (self.low - s).clamp_min(0)
        above = torch.zeros_like(s) if self.high is None else (s - self.high).clamp_min(0)
        return below + above
