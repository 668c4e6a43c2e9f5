"""Distances, angles and torsions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.operators.molecular.base import CollectiveVariable, indices, pair_lengths

__all__ = ["Angle", "Distance", "Torsion", "angle", "torsion"]


class Distance(CollectiveVariable):
    """``|x_i - x_j|`` of pairs of atoms, in nm.

    Args:
        pairs: atoms i, j (from 0), one pair or a list of pairs.
        atoms: number of atoms of the molecule.

    Raises:
        ShapeError, InputError: the pairs are not pairs of two different atoms.
    """

    def __init__(self, pairs: Any, atoms: int) -> None:
        self.pairs = indices(pairs, atoms, 2, "Distance")
        self._shape(atoms, len(self.pairs), "nm")

    def _forward(self, x: Tensor) -> Tensor:
        return pair_lengths(x, self.pairs)

    @classmethod
    def example(cls, rng: torch.Generator) -> Distance:
        """Build two distances of five atoms."""
        del rng
        return cls([[0, 3], [4, 1]], 5)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"pairs": self.pairs.tolist(), "atoms": self.atoms}


class Angle(CollectiveVariable):
    """The angle at j of atoms i-j-k, in rad, 0 to pi; the derivative at 0 and pi is 0.

    Args:
        triples: atoms i, j, k (from 0), one triple or a list.
        atoms: number of atoms of the molecule.

    Raises:
        ShapeError, InputError: the triples are not triples of different atoms.
    """

    def __init__(self, triples: Any, atoms: int) -> None:
        self.triples = indices(triples, atoms, 3, "Angle")
        self._shape(atoms, len(self.triples), "rad")

    def _forward(self, x: Tensor) -> Tensor:
        return angle(*(x[:, self.triples[:, n]] for n in range(3)))

    @classmethod
    def example(cls, rng: torch.Generator) -> Angle:
        """Build two angles of five atoms."""
        del rng
        return cls([[0, 3, 2], [4, 1, 0]], 5)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"triples": self.triples.tolist(), "atoms": self.atoms}


class Torsion(CollectiveVariable):
    """The dihedral angle of atoms i-j-k-l, in rad, periodic; 0 is cis, positive is clockwise along j-k (IUPAC).

    Of four atoms around a centre it is an improper torsion, whose sign tells a chirality.

    Args:
        quadruples: atoms i, j, k, l (from 0), one quadruple or a list.
        atoms: number of atoms of the molecule.

    Raises:
        ShapeError, InputError: the quadruples are not quadruples of different atoms.
    """

    def __init__(self, quadruples: Any, atoms: int) -> None:
        self.quadruples = indices(quadruples, atoms, 4, "Torsion")
        self._shape(atoms, len(self.quadruples), "rad", 2 * math.pi)

    def _forward(self, x: Tensor) -> Tensor:
        return torsion(*(x[:, self.quadruples[:, n]] for n in range(4)))

    @classmethod
    def example(cls, rng: torch.Generator) -> Torsion:
        """Build two torsions of six atoms."""
        del rng
        return cls([[0, 3, 2, 5], [4, 1, 0, 2]], 6)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"quadruples": self.quadruples.tolist(), "atoms": self.atoms}


def angle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The angle a-b-c ``(...)`` of positions ``(..., 3)``: ``atan2(|u x v|, u . v)``, exact near 0 and pi too."""
    u, v = a - b, c - b
    sine = torch.linalg.vector_norm(torch.linalg.cross(u, v), dim=-1)
    return _atan2(sine, (u * v).sum(-1))


def torsion(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The dihedral a-b-c-d ``(...)`` of positions ``(..., 3)``, in [-pi, pi]."""
    b1, b2, b3 = b - a, c - b, d - c
    m, n = torch.linalg.cross(b1, b2), torch.linalg.cross(b2, b3)
    length = torch.linalg.vector_norm(b2, dim=-1)
    return _atan2(length * (b1 * n).sum(-1), (m * n).sum(-1))


def _atan2(sine: Tensor, cosine: Tensor) -> Tensor:
    """``atan2`` whose derivative where both are 0 is 0, not NaN."""
    nowhere = (sine == 0) & (cosine == 0)
    return torch.atan2(torch.where(nowhere, 0.0, sine), torch.where(nowhere, 1.0, cosine))
