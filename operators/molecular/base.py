"""What collective variables share: indices checked once, a unit and a period for every component."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import Operator

__all__ = ["CollectiveVariable", "indices", "pair_lengths"]


class CollectiveVariable(Operator):
    """A few numbers of a molecule: a nonlinear operator from coordinates ``(N, atoms, 3)`` in nm to ``(N, k)``.

    - ``period``: of each component; None where it is not periodic. A periodic one lies in [-period/2, period/2).
    - ``units``: of each component, ``"nm"``, ``"rad"`` or ``"1"``.

    Invariant under translation and rotation (`RMSD` and what is built on it by alignment). Derivatives are finite
    everywhere: where there is none (two atoms on one spot, three on a line) 0 is used.
    """

    period: tuple[float | None, ...]
    units: tuple[str, ...]

    def _shape(self, atoms: int, components: int, units: str, period: float | None = None) -> None:
        if components < 1:
            raise InputError(f"{type(self).__name__} got no atoms to look at; name at least one group")
        self.domain_shape = (int(atoms), 3)
        self.range_shape = (int(components),)
        self.units, self.period = (units,) * components, (period,) * components

    @property
    def atoms(self) -> int:
        """Number of atoms of a configuration."""
        return self.domain_shape[0]

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ``a - b`` of values ``(N, k)``, the shortest way round where a component is periodic."""
        periods = torch.tensor([math.inf if p is None else p for p in self.period], dtype=a.dtype, device=a.device)
        d = a - b
        return d - torch.where(torch.isinf(periods), 0.0, periods * torch.round(d / periods))


def indices(groups: Any, atoms: int, per_group: int, what: str) -> Tensor:
    """Return groups of atom indices (from 0) as ``(groups, per_group)``.

    Raises:
        ShapeError: another number of atoms per group. InputError: not whole numbers from 0 to atoms - 1, or one twice.
    """
    if isinstance(groups, Tensor):
        groups = groups.tolist()
    rows = [groups] if groups and not isinstance(groups[0], (list, tuple)) else list(groups)
    for row in rows:
        if len(row) != per_group:
            raise ShapeError(f"{what} got the atoms {list(row)}; it expects {per_group} per group")
        if any(isinstance(i, bool) or int(i) != i or not 0 <= i < atoms for i in row):
            raise InputError(f"{what} got the atoms {list(row)}; it expects indices from 0 to {atoms - 1}")
        if len(set(row)) < len(row):
            raise InputError(f"{what} got the atoms {list(row)}; the same atom stands there twice")
    return torch.tensor([[int(i) for i in row] for row in rows], dtype=torch.long).reshape(-1, per_group)


def pair_lengths(x: Tensor, pairs: Tensor) -> Tensor:
    """Distances ``(N, pairs)``; the derivative at 0 is 0."""
    return torch.linalg.vector_norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], dim=-1)
