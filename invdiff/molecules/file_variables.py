"""Collective variables that need more than atoms: made of others, or of a reference, a path or a network in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from invdiff.datasets.molecules.reading import read_structure
from invdiff.datasets.molecules.trajectory import read_trajectory
from invdiff.errors import InputError, ShapeError
from invdiff.molecules.config import VariableConfig
from invdiff.operators.molecular import RMSD, TICA, CollectiveVariable, Combination, Learned, Path, Together

__all__ = ["KINDS", "build_variable"]


def build_variable(entry: VariableConfig, atoms: int, parts: Sequence[CollectiveVariable]) -> CollectiveVariable:
    """Return the variable of an entry of one of the `KINDS`; `parts` are those of ``entry.parts``.

    Raises:
        InputError: a field is missing. FileError, FormatError, ShapeError: the file does not fit the molecule.
    """
    return KINDS[entry.kind](entry, atoms, parts)


def _combination(entry: VariableConfig, atoms: int, parts: Sequence[CollectiveVariable]) -> CollectiveVariable:
    del atoms
    if not parts or len(entry.weights) != len(parts):
        raise InputError(f"variables: a combination of {len(parts)} parts has {len(entry.weights)} weights; one each")
    return Combination(Together(*parts), entry.weights)


def _rmsd(entry: VariableConfig, atoms: int, parts: Sequence[CollectiveVariable]) -> CollectiveVariable:
    del parts
    return RMSD(_frames(entry, atoms)[0], atoms, entry.atoms or None)


def _path(entry: VariableConfig, atoms: int, parts: Sequence[CollectiveVariable]) -> CollectiveVariable:
    """Progress along the path; the distance from it is left out."""
    del parts
    return Combination(Path(_frames(entry, atoms), atoms, chosen=entry.atoms or None), [1.0, 0.0])


def _tica(entry: VariableConfig, atoms: int, parts: Sequence[CollectiveVariable]) -> CollectiveVariable:
    if not parts:
        raise InputError("variables: tica needs parts, the variables that it combines")
    whole = entry.model_copy(update={"atoms": []})
    return TICA.fit(Together(*parts), _frames(whole, atoms), entry.lag)


def _learned(entry: VariableConfig, atoms: int, parts: Sequence[CollectiveVariable]) -> CollectiveVariable:
    del parts
    return Learned(_file(entry), atoms)


KINDS: dict[str, Callable[[VariableConfig, int, Sequence[CollectiveVariable]], CollectiveVariable]] = {
    "combination": _combination,
    "rmsd": _rmsd,
    "path": _path,
    "tica": _tica,
    "learned": _learned,
}


def _frames(entry: VariableConfig, atoms: int) -> Tensor:
    """Positions of the entry's file, ``(frames, chosen, 3)``; a file of all atoms or of the chosen ones."""
    file = _file(entry)
    structure = file.lower().endswith((".pdb", ".cif", ".xyz", ".extxyz"))
    frames = read_structure(file).positions if structure else read_trajectory(file, entry.topology)
    if entry.atoms and frames.shape[1] == atoms:
        frames = frames[:, entry.atoms]
    if frames.shape[1] != (len(entry.atoms) or atoms):
        raise ShapeError(f"{file} has {frames.shape[1]} atoms; the variable {entry.kind} compares {atoms}")
    return frames


def _file(entry: VariableConfig) -> str:
    if entry.file is None:
        raise InputError(f"variables: {entry.kind} needs file")
    return entry.file
