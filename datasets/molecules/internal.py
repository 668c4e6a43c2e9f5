"""Positions from internal coordinates: each atom by a bond length, an angle and a dihedral to earlier ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError

__all__ = ["from_internal"]


def from_internal(rows: Sequence[tuple[int, float, int, float, int, float]]) -> Tensor:
    """Return positions ``(atoms, 3)``, float64, in the unit of the lengths.

    Row n is ``(i, length, j, angle, k, dihedral)``: atom n is bonded to i, makes the angle n-i-j and the dihedral
    n-i-j-k, in degrees. Atom 0 stands at the origin, atom 1 on the z axis and atom 2 in the x-z plane: what they lack
    is not read.

    Raises:
        InputError: a row names an atom that does not come before it.
    """
    x = torch.zeros(len(rows), 3, dtype=torch.float64)
    for n, (i, length, j, angle, k, dihedral) in enumerate(rows):
        named = (i, j, k)[: min(n, 3)]
        if any(not 0 <= m < n for m in named) or len(set(named)) < len(named):
            raise InputError(f"atom {n} is placed by atoms {named}; they must be different and come before it")
        theta, phi = math.radians(angle), math.radians(dihedral)
        if n == 1:
            x[1, 2] = length
        elif n == 2:
            toward = (x[j] - x[i]) / torch.linalg.vector_norm(x[j] - x[i])
            side = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
            x[2] = x[i] + length * (math.cos(theta) * toward + math.sin(theta) * side)
        elif n > 2:
            axis = (x[i] - x[j]) / torch.linalg.vector_norm(x[i] - x[j])
            normal = torch.linalg.cross(x[j] - x[k], axis)
            normal = normal / torch.linalg.vector_norm(normal)
            across = torch.linalg.cross(normal, axis)
            step = -math.cos(theta) * axis + math.sin(theta) * (math.cos(phi) * across + math.sin(phi) * normal)
            x[n] = x[i] + length * step
    return x
