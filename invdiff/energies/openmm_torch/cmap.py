"""CMAP: an energy on a periodic grid over two torsions, read by bicubic interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.energies.openmm_torch.bonded import Term, dihedral, incidence, torsion_force

__all__ = ["Maps", "read_maps"]


@dataclass(frozen=True)
class Maps(Term):
    """``U = sum_t c_t(phi_t, psi_t)``; coefficients ``(maps, points, points, 4, 4)`` of the patches' polynomials.

    Grid point m stands at ``2 pi m / points``. `which` names each pair's map (a float tensor, so that it moves with
    the others); the six differences are those of its two torsions.
    """

    differences: tuple[Tensor, ...]
    coefficients: Tensor
    which: Tensor

    def to(self, target: torch.dtype | torch.device) -> Maps:
        """A copy in a precision or on a device."""
        moved = tuple(d.to(target) for d in self.differences)
        return Maps(moved, self.coefficients.to(target), self.which.to(target))

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U and the force."""
        points = self.coefficients.shape[1]
        step = 2 * math.pi / points
        first, second = dihedral(x, *self.differences[:3]), dihedral(x, *self.differences[3:])
        cells, powers, slopes = [], [], []
        for phi, _ in (first, second):
            u = torch.remainder(phi, 2 * math.pi) / step
            cell = u.floor().clamp(0, points - 1)
            t = u - cell
            one = torch.ones_like(t)
            cells.append(cell.long())
            powers.append(torch.stack([one, t, t**2, t**3], -1))
            slopes.append(torch.stack([0 * one, one, 2 * t, 3 * t**2], -1) / step)
        c = self.coefficients[self.which.long(), cells[0], cells[1]]
        u = torch.einsum("nmab,nma,nmb->nm", c, powers[0], powers[1])
        by_first = torch.einsum("nmab,nma,nmb->nm", c, slopes[0], powers[1])
        by_second = torch.einsum("nmab,nma,nmb->nm", c, powers[0], slopes[1])
        force = torsion_force(by_first, first[1], self.differences[:3])
        return u.sum(1), force + torsion_force(by_second, second[1], self.differences[3:])


def read_maps(force: Any, atoms: int) -> list[Term]:
    """Return the terms of an `openmm.CMAPTorsionForce`, one for each size of grid."""
    rows = [force.getTorsionParameters(n) for n in range(force.getNumTorsions())]
    by_size: dict[int, list[Any]] = {}
    for row in rows:
        by_size.setdefault(force.getMapParameters(row[0])[0], []).append(row)
    return [_of_size(force, atoms, chosen) for chosen in by_size.values()]


def _of_size(force: Any, atoms: int, rows: list[Any]) -> Maps:
    """The term of torsion pairs whose maps have as many points."""
    which, *a = zip(*rows, strict=True)
    used, tables = sorted(set(which)), []
    for n in used:
        points, values = force.getMapParameters(n)
        numbers = [v.value_in_unit(v.unit) if hasattr(v, "unit") else v for v in values]
        tables.append(_patches(np.array(numbers).reshape(points, points).T))  # OpenMM: the first angle runs fastest
    pairs = [(1, 0), (2, 1), (3, 2), (5, 4), (6, 5), (7, 6)]
    differences = tuple(incidence(atoms, a[i], a[j]) for i, j in pairs)
    return Maps(differences, torch.stack(tables), torch.tensor([used.index(n) for n in which], dtype=torch.float64))


def _patches(table: np.ndarray) -> Tensor:
    """Bicubic coefficients of periodic cubic splines along both axes, ``(points, points, 4, 4)``."""
    n = len(table)
    # Slopes at the nodes of the periodic spline with unit spacing: (d_-1 + 4 d_0 + d_1) = 3 (f_1 - f_-1)
    spline = np.linalg.inv(4 * np.eye(n) + np.roll(np.eye(n), 1, 0) + np.roll(np.eye(n), -1, 0))
    slope = spline @ (3 * (np.roll(np.eye(n), 1, 1) - np.roll(np.eye(n), -1, 1)))
    fx, fy, fxy = slope @ table, table @ slope.T, slope @ table @ slope.T

    def corners(f: np.ndarray) -> np.ndarray:
        return np.stack([np.stack([np.roll(f, (-i, -j), (0, 1)) for j in (0, 1)], -1) for i in (0, 1)], -2)

    data = np.block([[corners(table), corners(fy)], [corners(fx), corners(fxy)]])
    hermite = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [-3, 3, -2, -1], [2, -2, 1, 1]])
    return torch.from_numpy(hermite @ data @ hermite.T)
