"""Molecules from files: PDB and mmCIF, Amber, GROMACS, OpenMM XML, XYZ.

==========================  =====================================  =========================================
file                        with                                   gives
==========================  =====================================  =========================================
``.pdb``, ``.cif``          nothing                                positions, names, bonds; no force field
``.xml`` (OpenMM System)    ``.pdb`` or ``.cif`` as `positions`    the same and the System
``.prmtop``, ``.parm7``     ``.inpcrd``, ``.rst7`` or ``.pdb``     the same and the System
``.top`` (GROMACS)          ``.gro`` or ``.pdb``                   the same and the System
``.xyz``, ``.extxyz``       nothing                                positions and elements
==========================  =====================================  =========================================

Systems are built without cutoff, constraints or virtual sites: every coordinate is free. Units are the formats' own
(Å, or nm in GROMACS) and are converted once, here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.datasets.molecules.structure import Structure
from invdiff.datasets.molecules.xyz import read_xyz
from invdiff.errors import FormatError, InputError, missing_extra
from invdiff.files import existing, parsing

__all__ = ["read_structure"]

_PDB, _AMBER, _XYZ = (".pdb", ".ent", ".cif", ".pdbx", ".mmcif"), (".prmtop", ".parm7", ".top7"), (".xyz", ".extxyz")
_FREE = {"constraints": None, "rigidWater": False, "removeCMMotion": False}


def read_structure(
    path: str | Path,
    positions: str | Path | None = None,
    *,
    solvent: str | None = None,
    include: str | Path | None = None,
) -> Structure:
    """Read a molecule; which files go together is in the table of this module.

    Args:
        path: the file that says what the molecule is.
        positions: the file with its coordinates, where those are in another.
        solvent: for Amber files: ``"obc1"``, ``"obc2"`` or None for vacuum.
        include: for GROMACS files: the folder that ``#include`` looks in.

    Raises:
        FileError, FormatError: a file is missing or not what its name says. InputError: the second file is missing, or
            an option does not belong to the format. MissingExtraError: openmm is not installed.
    """
    path = existing(path)
    suffix = path.suffix.lower()
    if solvent is not None and suffix not in _AMBER:
        raise InputError(
            f"{path.name}: solvent {solvent!r} is read for Amber files only; a PDB gets it from force_field"
        )
    if suffix in _XYZ:
        return read_xyz(path)
    if suffix in _PDB:
        topology, frames = _pdb(path)
        return _structure(topology, frames, None, path)
    if positions is None:
        raise InputError(f"{path.name} holds no coordinates; name the file with them as positions")
    places = existing(positions)
    if suffix == ".xml":
        system = _opened(path, lambda mm, app: mm.XmlSerializer.deserialize(path.read_text(encoding="utf-8")))
        if not hasattr(system, "getNumParticles"):
            raise FormatError(f"{path} is an OpenMM {type(system).__name__}; a serialised System was expected")
        topology, frames = _pdb(places)
        return _structure(topology, frames, system, path)
    if suffix in _AMBER:
        return _amber(path, places, solvent)
    if suffix == ".top":
        return _gromacs(path, places, include)
    raise InputError(f"{path.name} is of no known format; known are PDB, mmCIF, prmtop, top, OpenMM XML and XYZ")


def _amber(path: Path, places: Path, solvent: str | None) -> Structure:
    def build(mm: Any, app: Any) -> tuple[Any, Any]:
        kinds = {None: None, "obc1": app.OBC1, "obc2": app.OBC2}
        if solvent not in kinds:
            raise InputError(f"solvent is {solvent!r}; it expects 'obc1', 'obc2' or None")
        file = app.AmberPrmtopFile(str(path))
        return file.topology, file.createSystem(nonbondedMethod=app.NoCutoff, implicitSolvent=kinds[solvent], **_FREE)

    topology, system = _opened(path, build)
    return _structure(topology, _frames(places), system, path)


def _gromacs(path: Path, places: Path, include: str | Path | None) -> Structure:
    def build(mm: Any, app: Any) -> tuple[Any, Any]:
        file = app.GromacsTopFile(str(path), includeDir=None if include is None else str(include))
        return file.topology, file.createSystem(nonbondedMethod=app.NoCutoff, **_FREE)

    topology, system = _opened(path, build)
    return _structure(topology, _frames(places), system, path)


def _frames(path: Path) -> Tensor:
    if path.suffix.lower() in _PDB:
        return _pdb(path)[1]
    if path.suffix.lower() == ".gro":
        found = _opened(path, lambda mm, app: app.GromacsGroFile(str(path)).getPositions(asNumpy=True)._value)
    else:
        found = _opened(path, lambda mm, app: app.AmberInpcrdFile(str(path)).getPositions(asNumpy=True))
        found = found.value_in_unit_system(_md_units())
    return torch.as_tensor(found, dtype=torch.float64)[None]


def _pdb(path: Path) -> tuple[Any, Tensor]:
    kind = "PDBFile" if path.suffix.lower() in (".pdb", ".ent") else "PDBxFile"
    file = _opened(path, lambda mm, app: getattr(app, kind)(str(path)))
    frames = [file.getPositions(asNumpy=True, frame=n)._value for n in range(file.getNumFrames())]
    return file.topology, torch.stack([torch.as_tensor(f, dtype=torch.float64) for f in frames])


def _structure(topology: Any, frames: Tensor, system: Any, path: Path) -> Structure:
    atoms = list(topology.atoms())
    if any(a.element is None for a in atoms):
        names = [a.name for a in atoms if a.element is None]
        raise FormatError(f"{path}: the element of the atoms {names[:5]} is unknown; write the element column")
    return Structure(frames, tuple(a.element.symbol for a in atoms), topology, system, meta={"file": path.name})


def _opened(path: Path, read: Any) -> Any:
    """What `read(openmm, openmm.app)` gives; OpenMM's readers raise any kind of exception at a damaged file."""
    try:
        import openmm
        from openmm import app
    except ImportError as error:
        raise missing_extra("openmm", "molecules", f"reading {path.name}") from error
    with parsing(path, "a structure"):
        return read(openmm, app)


def _md_units() -> Any:
    from openmm import unit

    return unit.md_unit_system
