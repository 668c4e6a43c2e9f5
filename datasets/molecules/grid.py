"""A function of one to three collective variables on a grid: a bias or a free energy, as files hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["Grid", "free_energy_difference"]


@dataclass(frozen=True)
class Grid:
    """Values over equally spaced points.

    Args:
        values: ``(points, ...)``, one axis per variable, in the order of the names; kJ/mol.
        low, high: range of each axis. A periodic axis holds [low, high), any other one both ends.
        periodic: of each axis.
        names: of the variables.

    Raises:
        ShapeError: not one entry per axis. InputError: low is not below high, or an axis has fewer than 2 points.
    """

    values: Tensor
    low: tuple[float, ...]
    high: tuple[float, ...]
    periodic: tuple[bool, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = {len(self.low), len(self.high), len(self.periodic), len(self.names), self.values.ndim}
        if len(counts) > 1 or not 1 <= self.values.ndim <= 3:
            raise ShapeError(f"a grid of {tuple(self.values.shape)} values got {len(self.low)} axes; it expects 1 to 3")
        if any(not a < b for a, b in zip(self.low, self.high, strict=True)) or min(self.values.shape) < 2:
            raise InputError(f"a grid runs from {self.low} to {self.high}; it expects low < high and 2 points at least")

    def spacing(self, axis: int) -> float:
        """Distance of neighbouring points of an axis."""
        points = self.values.shape[axis]
        return (self.high[axis] - self.low[axis]) / (points if self.periodic[axis] else points - 1)

    def points(self, axis: int) -> Tensor:
        """The points of an axis, float64."""
        return self.low[axis] + self.spacing(axis) * torch.arange(self.values.shape[axis], dtype=torch.float64)

    def mesh(self) -> Tensor:
        """All points ``(*shape, axes)``."""
        axes = [self.points(i) for i in range(self.values.ndim)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

    def at(self, s: Tensor) -> Tensor:
        """Values ``(N,)`` at s ``(N, axes)``, linear between the points, constant beyond the ends."""
        out = torch.zeros(len(s), dtype=torch.float64)
        low, part = [], []
        for i in range(self.values.ndim):
            u = (s[:, i].double() - self.low[i]) / self.spacing(i)
            n = self.values.shape[i]
            u = torch.remainder(u, n) if self.periodic[i] else u.clamp(0, n - 1)
            cell = u.floor().clamp(max=n - 1 if self.periodic[i] else n - 2)
            low.append(cell.long())
            part.append(u - cell)
        for corner in range(2**self.values.ndim):
            weight, index = torch.ones_like(out), []
            for i in range(self.values.ndim):
                up = corner >> i & 1
                weight = weight * (part[i] if up else 1 - part[i])
                index.append((low[i] + up) % self.values.shape[i])
            out = out + weight * self.values.double()[tuple(index)]
        return out


def free_energy_difference(free_energy: Grid, inside: Tensor, kT: float) -> float:  # noqa: N803 - the field's name
    """``-kT ln(P(inside) / P(outside))`` in kJ/mol of a free energy on a grid.

    Args:
        free_energy: F in kJ/mol.
        inside: which points belong to the state, boolean, of the grid's shape.
        kT: in kJ/mol.

    Raises:
        ShapeError: another shape.
    """
    if inside.shape != free_energy.values.shape:
        raise ShapeError(f"inside has shape {tuple(inside.shape)}, the grid {tuple(free_energy.values.shape)}")
    log_p = -free_energy.values.double() / kT
    ends = torch.zeros_like(log_p)
    for i in range(log_p.ndim):  # trapezoids: the ends of an axis that is not periodic count half
        if not free_energy.periodic[i]:
            ends.movedim(i, 0)[[0, -1]] += math.log(0.5)
    log_p = log_p + ends
    return float(-kT * (torch.logsumexp(log_p[inside], 0) - torch.logsumexp(log_p[~inside], 0)))
