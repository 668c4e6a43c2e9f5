"""Collective variables and restraints from their entries in a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from invdiff.bridges.restraints import FlatBottom
from invdiff.energies.analytic import Coordinates
from invdiff.energies.base import CollectiveVariable
from invdiff.errors import InputError
from invdiff.molecules.config import RestraintConfig, VariableConfig

__all__ = ["restraint", "together", "variables"]


def together(parts: Sequence[CollectiveVariable]) -> CollectiveVariable:
    """Several collective variables side by side, as one."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Coordinates) for part in parts):
        return Coordinates(tuple(i for part in parts if isinstance(part, Coordinates) for i in part.indices))
    from invdiff.operators.molecular import Together

    return Together(*parts)  # type: ignore[arg-type]


def variables(entries: Sequence[VariableConfig], shape: tuple[int, ...]) -> CollectiveVariable:
    """Return the variables of the entries, on x of the event shape `shape`, as one."""
    return together([_variable(entry, shape) for entry in entries])


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


def _molecular(entry: VariableConfig, atoms: int) -> Any:
    from invdiff.molecules.file_variables import KINDS, build_variable
    from invdiff.operators import molecular

    if entry.kind in KINDS:
        return build_variable(entry, atoms, [_molecular(part, atoms) for part in entry.parts])
    if entry.kind == "difference":
        both = molecular.Distance([entry.atoms, entry.others], atoms)
        return molecular.Combination(both, [1.0, -1.0])
    if entry.kind == "coordination":
        if entry.r0 is None:
            raise InputError("variables: a coordination number needs r0, the length of a bond in nm")
        if len(entry.atoms) % 2:
            raise InputError(f"variables: a coordination number has {len(entry.atoms)} atoms; it expects pairs of them")
        pairs = list(zip(entry.atoms[::2], entry.atoms[1::2], strict=True))
        return molecular.Coordination(pairs, atoms, entry.r0)
    if entry.kind == "radius_of_gyration":
        return molecular.RadiusOfGyration(atoms)
    simple = {"torsion": molecular.Torsion, "distance": molecular.Distance, "angle": molecular.Angle}
    return simple[entry.kind](entry.atoms, atoms)
