"""Collective variables and restraints from their entries in a configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.bridges.restraints import FlatBottom
from invdiff.energies.analytic import Coordinates
from invdiff.energies.base import CollectiveVariable
from invdiff.errors import InputError
from invdiff.molecules.config import RestraintConfig, VariableConfig

__all__ = ["Joined", "restraint", "variables"]


class Joined:
    """Several collective variables side by side."""

    def __init__(self, parts: Sequence[CollectiveVariable]) -> None:
        self.parts = tuple(parts)
        self.period = tuple(p for part in parts for p in part.period)
        self.units = tuple(u for part in parts for u in part.units)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, k)``."""
        return torch.cat([part.forward(x) for part in self.parts], 1)


def variables(entries: Sequence[VariableConfig], shape: tuple[int, ...]) -> CollectiveVariable:
    """Return the variables of the entries, on x of the event shape `shape`, as one."""
    return Joined([_variable(entry, shape) for entry in entries])


def restraint(entry: RestraintConfig, shape: tuple[int, ...]) -> FlatBottom:
    """Return a wall of an entry."""
    return FlatBottom(_variable(entry.variable, shape), entry.low, entry.high, entry.stiffness, entry.name)


def _variable(entry: VariableConfig, shape: tuple[int, ...]) -> CollectiveVariable:
    if (entry.kind == "coordinate") != (len(shape) == 1):
        raise InputError(
            f"variables: kind {entry.kind} does not fit configurations of shape {shape}; 'coordinate' belongs to"
            " vectors, all others to molecules"
        )
    if entry.kind == "coordinate":
        if entry.index >= shape[0]:
            raise InputError(f"variables: coordinate {entry.index} of vectors of {shape[0]} components; count from 0")
        return Coordinates((entry.index,))
    expected = {"torsion": 4, "distance": 2, "angle": 3, "difference": 2}.get(entry.kind)
    if expected is not None and len(entry.atoms) != expected:
        raise InputError(f"variables: a {entry.kind} has {len(entry.atoms)} atoms; it expects {expected}")
    return _molecular(entry, shape[0])


def _molecular(entry: VariableConfig, atoms: int) -> CollectiveVariable:
    from invdiff.operators import molecular

    if entry.kind == "difference":
        both = molecular.Distance([entry.atoms, entry.others], atoms)
        return molecular.Combination(both, [1.0, -1.0])
    if entry.kind == "coordination":
        if entry.r0 is None:
            raise InputError("variables: a coordination number needs r0, the length of a bond in nm")
        pairs = list(zip(entry.atoms[::2], entry.atoms[1::2], strict=True))
        return molecular.Coordination(pairs, atoms, entry.r0)
    if entry.kind == "radius_of_gyration":
        return molecular.RadiusOfGyration(atoms)
    simple = {"torsion": molecular.Torsion, "distance": molecular.Distance, "angle": molecular.Angle}
    return simple[entry.kind](entry.atoms, atoms)
