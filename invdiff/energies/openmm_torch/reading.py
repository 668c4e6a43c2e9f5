"""From an `openmm.System` to terms; what is not understood is refused by name, never left out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invdiff.energies.openmm_torch.bonded import (
    Angles,
    Bonds,
    PeriodicTorsions,
    RyckaertBellemans,
    Term,
    incidence,
)
from invdiff.energies.openmm_torch.cmap import read_maps
from invdiff.energies.openmm_torch.implicit import OBC
from invdiff.energies.openmm_torch.nonbonded import COULOMB, Nonbonded
from invdiff.errors import InputError, missing_extra

__all__ = ["check_system", "read_terms"]

_NO_ENERGY = ("CMMotionRemover", "AndersenThermostat")
_OBC2, _OBC1 = (1.0, 0.8, 4.85), (0.8, 0.0, 2.909125)


def check_system(system: Any) -> int:
    """Return the number of particles of an `openmm.System` whose coordinates are all free.

    Raises:
        InputError: it is no System, or it has constraints, virtual sites or masses of 0. MissingExtraError: openmm is
        missing.
    """
    try:
        import openmm
    except ImportError as error:
        raise missing_extra("openmm", "molecules", "an OpenMM system") from error
    if not isinstance(system, openmm.System):
        raise InputError(f"got {type(system).__name__}; expected an openmm.System (ForceField.createSystem makes one)")
    if count := system.getNumConstraints():
        raise InputError(
            f"the System has {count} constraints, which leave no density over its coordinates; build it with"
            " createSystem(constraints=None, rigidWater=False)"
        )
    atoms = int(system.getNumParticles())
    if virtual := sum(system.isVirtualSite(i) for i in range(atoms)):
        raise InputError(f"the System has {virtual} virtual sites; use a model of atoms alone")
    if fixed := [i for i in range(atoms) if not _number(system.getParticleMass(i)) > 0]:
        raise InputError(
            f"the System holds particles {fixed[:5]} in place (mass 0); samplers move all: give them a mass"
        )
    return atoms


def read_terms(system: Any) -> list[Term]:
    """Return the terms of a System's energy. Raises InputError where a force is not understood; see `check_system`."""
    atoms = check_system(system)
    terms: list[Term] = []
    for force in system.getForces():
        name = type(force).__name__
        if name in _NO_ENERGY:
            continue
        if name not in _READERS:
            raise InputError(
                f"the System has a {name}, which the torch evaluator does not know; it reads"
                f" {', '.join(sorted(_READERS))}: use the energy 'openmm', which runs OpenMM itself"
            )
        if force.usesPeriodicBoundaryConditions():
            raise InputError(f"{name} is periodic; a molecule in open space is expected (nonbondedMethod=NoCutoff)")
        terms += _READERS[name](force, atoms)
    if not terms:
        raise InputError("the System has no force with an energy")
    return terms


def _bonds(force: Any, atoms: int) -> list[Term]:
    rows = [force.getBondParameters(n) for n in range(force.getNumBonds())]
    if not rows:
        return []
    i, j, length, k = zip(*rows, strict=True)
    return [Bonds(incidence(atoms, i, j), _column(length), _column(k))]


def _angles(force: Any, atoms: int) -> list[Term]:
    rows = [force.getAngleParameters(n) for n in range(force.getNumAngles())]
    if not rows:
        return []
    i, j, k, angle, strength = zip(*rows, strict=True)
    return [Angles(incidence(atoms, i, j), incidence(atoms, k, j), _column(angle), _column(strength))]


def _torsions(force: Any, atoms: int) -> list[Term]:
    rows = [force.getTorsionParameters(n) for n in range(force.getNumTorsions())]
    rows = [row for row in rows if _number(row[6]) != 0]
    if not rows:
        return []
    i, j, k, m, periodicity, phase, strength = zip(*rows, strict=True)
    differences = incidence(atoms, j, i), incidence(atoms, k, j), incidence(atoms, m, k)
    return [PeriodicTorsions(*differences, _column(periodicity), _column(phase), _column(strength))]


def _ryckaert_bellemans(force: Any, atoms: int) -> list[Term]:
    rows = [force.getTorsionParameters(n) for n in range(force.getNumTorsions())]
    if not rows:
        return []
    i, j, k, m, *c = zip(*rows, strict=True)
    differences = incidence(atoms, j, i), incidence(atoms, k, j), incidence(atoms, m, k)
    return [RyckaertBellemans(*differences, torch.stack([_column(values) for values in c]))]


def _nonbonded(force: Any, atoms: int) -> list[Term]:
    if force.getNonbondedMethod() != force.NoCutoff:
        raise InputError("NonbondedForce has a cutoff; build the System with nonbondedMethod=NoCutoff")
    if force.getNumParticleParameterOffsets() or force.getNumExceptionParameterOffsets():
        raise InputError("NonbondedForce has parameter offsets (global parameters); only fixed parameters are read")
    rows = [force.getParticleParameters(n) for n in range(atoms)]
    charge, sigma, epsilon = (_column(column) for column in zip(*rows, strict=True))
    q = COULOMB * charge[:, None] * charge
    sigma6 = (0.5 * (sigma[:, None] + sigma)) ** 6
    eps4 = 4 * (epsilon[:, None] * epsilon).sqrt()
    for n in range(force.getNumExceptions()):
        i, j, qq, s, e = force.getExceptionParameters(n)
        q[i, j] = q[j, i] = COULOMB * _number(qq)
        sigma6[i, j] = sigma6[j, i] = _number(s) ** 6
        eps4[i, j] = eps4[j, i] = 4 * _number(e)
    for matrix in (q, eps4):
        matrix.fill_diagonal_(0)
    return [Nonbonded(eps4 * sigma6**2, eps4 * sigma6, q)]


def _gbsa_obc(force: Any, atoms: int) -> list[Term]:
    if force.getNonbondedMethod() != force.NoCutoff:
        raise InputError("GBSAOBCForce has a cutoff; build the System with nonbondedMethod=NoCutoff")
    rows = [force.getParticleParameters(n) for n in range(atoms)]
    charge, radius, scale = (_column(column) for column in zip(*rows, strict=True))
    offset = radius - 0.009
    strength = COULOMB * (1 / force.getSoluteDielectric() - 1 / force.getSolventDielectric())
    surface = 4 * math.pi * _number(force.getSurfaceAreaEnergy())
    return [OBC(charge, offset, scale * offset, radius, strength, surface, _OBC2, True)]


_INTEGRAL = (
    "select(step(r+sr2-or1),0.5*(1/L-1/U+0.25*(r-sr2^2/r)*(1/(U^2)-1/(L^2))+0.5*log(L/U)/r),0);"
    "U=r+sr2;L=max(or1,D);D=abs(r-sr2)"
)
_BORN = {
    "1/(1/or-tanh(psi-0.8*psi^2+4.85*psi^3)/radius);psi=I*or;radius=or+offset;offset=0.009": _OBC2,
    "1/(1/or-tanh(0.8*psi+2.909125*psi^3)/radius);psi=I*or;radius=or+offset;offset=0.009": _OBC1,
}
_SELF = re.compile(r"-0\.5\*([\d.]+)\*\(1/soluteDielectric-1/solventDielectric\)\*charge\^2/B;(.*)")
_PAIR = re.compile(
    r"-([\d.]+)\*\(1/soluteDielectric-1/solventDielectric\)\*charge1\*charge2/f;"
    r"f=sqrt\(r\^2\+B1\*B2\*exp\(-r\^2/\(4\*B1\*B2\)\)\);(.*)"
)
_SURFACE = re.compile(r"([\d.]+)\*\(radius\+0\.14\)\^2\*\(radius/B\)\^6;radius=or\+offset;(.*)")


def _custom_gb(force: Any, atoms: int) -> list[Term]:
    """The OBC models as OpenMM's implicit/obc1.xml and obc2.xml write them, recognised by their formulas."""
    values = [_plain(force.getComputedValueParameters(n)[1]) for n in range(force.getNumComputedValues())]
    names = [force.getPerParticleParameterName(n) for n in range(force.getNumPerParticleParameters())]
    known = len(values) == 2 and values[0] == _INTEGRAL and values[1] in _BORN and names == ["charge", "or", "sr"]
    terms = [_plain(force.getEnergyTermParameters(n)[0]) for n in range(force.getNumEnergyTerms())]
    found = [_match(_SELF, terms), _match(_PAIR, terms), _match(_SURFACE, terms)]
    unread = len(terms) - sum(m is not None for m in found)
    if not known or found[0] is None or found[1] is None or unread or force.getNumGlobalParameters():
        raise InputError(
            "the System has a CustomGBForce that is not the OBC1 or OBC2 model of implicit/obc1.xml, obc2.xml (without"
            " salt); use the energy 'openmm', which runs OpenMM itself"
        )
    if force.getNonbondedMethod() != force.NoCutoff:
        raise InputError("CustomGBForce has a cutoff; build the System with nonbondedMethod=NoCutoff")
    constant, settings = float(found[1][1]), dict(p.split("=") for p in found[1][2].split(";") if p)
    strength = constant * (1 / float(settings["soluteDielectric"]) - 1 / float(settings["solventDielectric"]))
    surface = 0.0 if found[2] is None else float(found[2][1])
    rows = [force.getParticleParameters(n) for n in range(atoms)]
    charge, offset, scaled = (_column(column) for column in zip(*rows, strict=True))
    return [OBC(charge, offset, scaled, offset + 0.009, strength, surface, _BORN[values[1]], False)]


_READERS: dict[str, Callable[[Any, int], list[Term]]] = {
    "HarmonicBondForce": _bonds,
    "HarmonicAngleForce": _angles,
    "PeriodicTorsionForce": _torsions,
    "RBTorsionForce": _ryckaert_bellemans,
    "CMAPTorsionForce": read_maps,
    "NonbondedForce": _nonbonded,
    "GBSAOBCForce": _gbsa_obc,
    "CustomGBForce": _custom_gb,
}


def _match(pattern: re.Pattern[str], texts: list[str]) -> re.Match[str] | None:
    return next((m for m in map(pattern.fullmatch, texts) if m), None)


def _plain(text: str) -> str:
    return "".join(text.split())


def _number(value: Any) -> float:
    """A quantity in OpenMM's own units (nm, kJ/mol, rad, e), which `value_in_unit_system` gives."""
    if hasattr(value, "unit"):
        import openmm.unit as unit

        return float(value.value_in_unit_system(unit.md_unit_system))
    return float(value)


def _column(values: Any) -> Tensor:
    return torch.tensor([_number(v) for v in values], dtype=torch.float64)
