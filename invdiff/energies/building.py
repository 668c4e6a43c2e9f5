"""Molecules and energies from the words of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from invdiff.datasets.molecules.reading import read_structure
from invdiff.datasets.molecules.structure import Structure
from invdiff.energies.base import Energy, FromPotential
from invdiff.energies.molecules import force_field, molecule
from invdiff.errors import InputError, UnknownNameError

__all__ = ["BACKENDS", "build_energy", "build_structure"]


def build_structure(
    name: str | None = None,
    file: str | Path | None = None,
    positions: str | Path | None = None,
    force_fields: Sequence[str] = ("amber14/protein.ff14SB.xml",),
    solvent: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Structure:
    """Return a molecule that ships with the package (`name`), or one from a file, with a force field where it can.

    A PDB or mmCIF file gets an OpenMM System from `force_fields` and `solvent`; Amber, GROMACS and System files bring
    their own; XYZ has none.

    Args:
        name: of `invdiff.energies.molecules.MOLECULES`.
        file, positions: as `invdiff.datasets.molecules.reading.read_structure` takes them.
        force_fields: names of OpenMM force-field files.
        solvent: ``"obc1"``, ``"obc2"`` or None.
        options: further arguments of the named molecule (``phi``, ``psi``), or of the file's reader (``include``).

    Raises:
        InputError: neither or both of name and file; FileError, FormatError: of the files.
    """
    if (name is None) == (file is None):
        raise InputError("a molecule needs either a name or a file")
    if name is not None:
        peptide = name != "chloride_exchange"
        force = {"files": tuple(force_fields), "solvent": solvent} if peptide else {}
        try:
            return molecule(name, **force, **dict(options or {}))
        except TypeError as error:
            raise InputError(f"the molecule {name} does not take the options {dict(options or {})}: {error}") from error
    assert file is not None
    amber = Path(file).suffix.lower() in (".prmtop", ".parm7")
    try:
        found = read_structure(file, positions, solvent=solvent if amber else None, **dict(options or {}))
    except TypeError as error:
        raise InputError(f"a structure file does not take these options: {error}") from error
    if found.topology is not None and found.system is None:
        return force_field(found, force_fields, solvent)
    return found


def build_energy(structure: Structure, backend: str = "torch", **options: Any) -> Energy:
    """Return the energy of a molecule.

    Args:
        structure: with a System for the first three backends.
        backend: ``torch`` (batched; forces that it does not know are refused), ``openmm``, ``auto`` (torch; OpenMM
            where torch would refuse, or from 60 atoms on without a GPU, where OpenMM is faster), ``xtb`` (tblite),
            ``ase`` (``calculator="package.module:function"``, which makes a calculator) or ``python``
            (``potential="package.module:function"``, U in kJ/mol of x in nm).
        options: of the backend's class.

    Raises:
        UnknownNameError: no such backend. InputError: the structure has no System, or an option is missing or unknown.
    """
    if backend not in BACKENDS:
        raise UnknownNameError(f"no energy backend is called {backend!r}; known are {', '.join(BACKENDS)}")
    try:
        return BACKENDS[backend](structure, options)
    except TypeError as error:
        raise InputError(f"the energy backend {backend} does not take these options: {error}") from error


def _torch(structure: Structure, options: dict[str, Any]) -> Energy:
    from invdiff.energies.openmm_torch import TorchSystem

    return TorchSystem(_system(structure), **options)


def _openmm(structure: Structure, options: dict[str, Any]) -> Energy:
    from invdiff.energies.openmm import OpenMM

    return OpenMM(_system(structure), **options)


def _auto(structure: Structure, options: dict[str, Any]) -> Energy:
    from invdiff.energies.openmm import SMALL
    from invdiff.energies.openmm_torch.reading import check_system

    atoms = check_system(_system(structure))
    if atoms >= SMALL and not torch.cuda.is_available():
        return _openmm(structure, options)
    try:
        return _torch(structure, options)
    except InputError:
        return _openmm(structure, options)


def _xtb(structure: Structure, options: dict[str, Any]) -> Energy:
    from invdiff.energies.xtb import XTB

    return XTB(structure.symbols, structure.charge, structure.multiplicity - 1, **options)


def _ase(structure: Structure, options: dict[str, Any]) -> Energy:
    from invdiff.energies.ase import ASE

    made = _named(options.pop("calculator", None), "calculator")
    return ASE(made, structure.symbols, structure.charge, structure.multiplicity, **options)


def _python(structure: Structure, options: dict[str, Any]) -> Energy:
    potential = _named(options.pop("potential", None), "potential")
    return FromPotential(potential, (structure.atoms, 3), "kJ/mol", **options)


BACKENDS: dict[str, Callable[[Structure, dict[str, Any]], Energy]] = {
    "torch": _torch,
    "openmm": _openmm,
    "auto": _auto,
    "xtb": _xtb,
    "ase": _ase,
    "python": _python,
}


def _system(structure: Structure) -> Any:
    if structure.system is None:
        raise InputError("the structure has no force field; use a PDB with force_fields, or the backends xtb or ase")
    return structure.system


def _named(path: Any, what: str) -> Callable[..., Any]:
    """The function of ``package.module:function``, or a function as it is."""
    if callable(path):
        return path
    if not isinstance(path, str) or path.count(":") != 1:
        raise InputError(f"{what} is {path!r}; it expects 'package.module:function'")
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{what} {path} cannot be imported: {error}") from error
    if not callable(found):
        raise InputError(f"{what} {path} is a {type(found).__name__}; it expects a function")
    return found
