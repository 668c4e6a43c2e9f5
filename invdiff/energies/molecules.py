"""Molecules that ship with the package, built from idealised bond lengths, angles and dihedrals.

``alanine_dipeptide``  ACE-ALA-NME, 22 atoms (L); phi = 4-6-8-14, psi = 6-8-14-16
``glycine_dipeptide``  ACE-GLY-NME, 19 atoms: no chirality, so ``F(phi, psi) = F(-phi, -psi)``; phi = 4-6-8-11,
                       psi = 6-8-11-13
``chloride_exchange``  Cl- + CH3Cl, 6 atoms: C, H, H, H, Cl, Cl; charge -1; F is even in d(C-Cl1) - d(C-Cl2)

Atoms count from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from invdiff.datasets.molecules.internal import from_internal
from invdiff.datasets.molecules.structure import Structure, make_topology
from invdiff.errors import InputError, UnknownNameError, missing_extra

__all__ = ["MOLECULES", "alanine_dipeptide", "chloride_exchange", "force_field", "glycine_dipeptide", "molecule"]

Row = tuple[str, str, str, int, float, int, float, int, float]  # element, name, residue, then as in `from_internal`

_ACE: list[Row] = [
    ("H", "H1", "ACE", 0, 0.0, 0, 0.0, 0, 0.0),
    ("C", "CH3", "ACE", 0, 0.109, 0, 0.0, 0, 0.0),
    ("H", "H2", "ACE", 1, 0.109, 0, 109.5, 0, 0.0),
    ("H", "H3", "ACE", 1, 0.109, 0, 109.5, 2, 120.0),
    ("C", "C", "ACE", 1, 0.152, 0, 109.5, 2, -120.0),
    ("O", "O", "ACE", 4, 0.123, 1, 120.5, 0, 0.0),
]


def _methyl(residue: str, names: Sequence[str], carbon: int, bonded: int, beyond: int) -> list[Row]:
    angles = (60.0, 180.0, -60.0)
    return [
        ("H", name, residue, carbon, 0.109, bonded, 109.5, beyond, a) for name, a in zip(names, angles, strict=True)
    ]


def _residue(name: str, phi: float, psi: float, side: list[Row]) -> list[Row]:
    """N, H, CA, HA, (side chain), C, O of a residue after ACE; `side` comes between HA and C."""
    c = 10 + len(side)  # where the carbonyl carbon stands
    return [
        ("N", "N", name, 4, 0.1335, 1, 116.6, 0, 180.0),
        ("H", "H", name, 6, 0.101, 4, 119.5, 1, 0.0),
        ("C", "CA", name, 6, 0.1449, 4, 121.9, 1, 180.0),
        ("H", "HA", name, 8, 0.109, 6, 109.5, 4, phi + 119.0),
        *side,
        ("C", "C", name, 8, 0.1522, 6, 111.0, 4, phi),
        ("O", "O", name, c, 0.123, 8, 120.5, 6, psi + 180.0),
        ("N", "N", "NME", c, 0.1335, 8, 116.6, 6, psi),
        ("H", "H", "NME", c + 2, 0.101, c, 119.5, 8, 0.0),
        ("C", "C", "NME", c + 2, 0.1449, c, 121.9, 8, 180.0),
        *_methyl("NME", ("H1", "H2", "H3"), c + 4, c + 2, c),
    ]


def alanine_dipeptide(phi: float = -80.0, psi: float = 75.0, **options: Any) -> Structure:
    """Return ACE-ALA-NME, L form, trans amides, at the given dihedrals in degrees; options as of `force_field`."""
    beta = [("C", "CB", "ALA", 8, 0.153, 6, 109.5, 4, phi - 122.0)]
    side = [*beta, *_methyl("ALA", ("HB1", "HB2", "HB3"), 10, 8, 6)]
    return _peptide(_ACE + _residue("ALA", phi, psi, side), **options)


def glycine_dipeptide(phi: float = -80.0, psi: float = 75.0, **options: Any) -> Structure:
    """Return ACE-GLY-NME, trans amides, at the given dihedrals in degrees; options as of `force_field`."""
    side: list[Row] = [("H", "HA3", "GLY", 8, 0.109, 6, 109.5, 4, phi - 119.0)]
    return _peptide(_ACE + _residue("GLY", phi, psi, side), **options)


def chloride_exchange(near: float = 0.182, far: float = 0.32) -> Structure:
    """Return Cl- + CH3Cl on one line, the carbon at the origin, charge -1.

    Args:
        near, far: distances C-Cl1 and C-Cl2 in nm; the hydrogens lean away from the nearer.
    """
    lean = 0.033 * (1 if near < far else -1 if near > far else 0)
    x = [[0.0, 0.0, 0.0]]
    for turn in (0.0, 2.0943951023931953, 4.1887902047863905):
        turned = torch.tensor(turn, dtype=torch.float64)
        x.append([0.1025 * float(turned.cos()), 0.1025 * float(turned.sin()), -lean])
    x += [[0.0, 0.0, near], [0.0, 0.0, -far]]
    symbols = ("C", "H", "H", "H", "Cl", "Cl")
    return Structure(torch.tensor([x], dtype=torch.float64), symbols, charge=-1)


def force_field(
    structure: Structure, files: Sequence[str] = ("amber14/protein.ff14SB.xml",), solvent: str | None = "obc2"
) -> Structure:
    """Return the structure with an OpenMM System built from force fields that come with OpenMM, no cutoff, all free.

    Args:
        structure: with a topology.
        files: OpenMM force-field XML, by the names that `openmm.app.ForceField` takes.
        solvent: ``"obc2"`` or ``"obc1"``: generalised Born with the surface term, dielectric constants 1 and 78.5; None
            for vacuum. OBC2 is written as a `GBSAOBCForce`, which runs ten times faster than its `CustomGBForce`.

    Raises:
        InputError: no topology, an unknown solvent, or a residue that the force field does not know.
        MissingExtraError: openmm is not installed.
    """
    try:
        import openmm
        from openmm import app
    except ImportError as error:
        raise missing_extra("openmm", "molecules", "a force field") from error
    if structure.topology is None:
        raise InputError("the structure has no topology (residues and bonds), which a force field needs; read a PDB")
    if solvent not in (None, "obc1", "obc2"):
        raise InputError(f"solvent is {solvent!r}; it expects 'obc2', 'obc1' or None")
    extra = [] if solvent is None else [f"implicit/{solvent}.xml"]
    try:
        field = app.ForceField(*files, *extra)
        system = field.createSystem(
            structure.topology, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False, removeCMMotion=False
        )
    except Exception as error:  # noqa: BLE001 - OpenMM raises the bare class
        raise InputError(f"the force field {list(files)} does not fit the structure: {error}") from error
    if solvent == "obc2":
        system = _plain_obc(openmm, system)
    meta = {**structure.meta, "force_field": list(files), "solvent": solvent}
    return Structure(structure.positions, structure.symbols, structure.topology, system, structure.charge, 1, meta)


def _plain_obc(openmm: Any, system: Any) -> Any:
    """Replace the CustomGBForce of implicit/obc2.xml by OpenMM's built-in force of the same model."""
    for n in range(system.getNumForces()):
        custom = system.getForce(n)
        if isinstance(custom, openmm.CustomGBForce):
            plain = openmm.GBSAOBCForce()
            plain.setSolventDielectric(78.5)
            for i in range(system.getNumParticles()):
                charge, offset, scaled = custom.getParticleParameters(i)
                plain.addParticle(charge, offset + 0.009, scaled / offset)
            system.removeForce(n)
            system.addForce(plain)
            return system
    return system


def _peptide(
    rows: Sequence[Row],
    files: Sequence[str] = ("amber14/protein.ff14SB.xml",),
    solvent: str | None = "obc2",
) -> Structure:
    positions = from_internal([row[3:] for row in rows])
    bonds = [(n, row[3]) for n, row in enumerate(rows) if n]
    symbols, names, residues = ([row[i] for row in rows] for i in range(3))
    topology = make_topology(symbols, names, residues, bonds)  # type: ignore[arg-type]
    return force_field(Structure(positions[None], tuple(symbols), topology), files, solvent)  # type: ignore[arg-type]


MOLECULES: dict[str, Callable[..., Structure]] = {
    "alanine_dipeptide": alanine_dipeptide,
    "glycine_dipeptide": glycine_dipeptide,
    "chloride_exchange": chloride_exchange,
}


def molecule(name: str, **options: Any) -> Structure:
    """Return a molecule by name (`MOLECULES`). Raises UnknownNameError."""
    if name not in MOLECULES:
        raise UnknownNameError(f"no molecule is called {name!r}; known are {', '.join(sorted(MOLECULES))}")
    return MOLECULES[name](**options)
