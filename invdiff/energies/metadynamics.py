"""Well-tempered metadynamics run by OpenMM: what a diffusion sampler is measured against, and can take over from.

Langevin dynamics (LangevinMiddle, 1 fs, no constraints) with a hill every `pace` steps (A. Barducci, G. Bussi,
M. Parrinello, Phys. Rev. Lett. 100, 020603, 2008). The free energy is ``-gamma/(gamma - 1) V``. One force per step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from invdiff.datasets.molecules.grid import Grid
from invdiff.datasets.molecules.structure import Structure
from invdiff.energies.openmm import choose_platform
from invdiff.errors import InputError, missing_extra
from invdiff.operators.molecular import Angle, CollectiveVariable, Distance, Together, Torsion

__all__ = ["Snapshot", "Variable", "metadynamics", "openmm_forces"]


@dataclass(frozen=True)
class Variable:
    """How one component of the collective variables is biased: range (its period where periodic) and hill width."""

    name: str
    low: float
    high: float
    width: float
    periodic: bool


@dataclass(frozen=True)
class Snapshot:
    """The state of a run: F on a grid in kJ/mol, force evaluations, seconds, values of the variables at the hills."""

    free_energy: Grid
    energies: int
    seconds: float
    values: np.ndarray


def metadynamics(
    structure: Structure,
    variables: CollectiveVariable,
    axes: Sequence[Variable],
    *,
    temperature: float,
    steps: int,
    seed: int,
    gamma: float = 8.0,
    height: float = 1.0,
    pace: int = 500,
    report: int = 200,
    bias_folder: str | Path | None = None,
) -> Iterator[Snapshot]:
    """Run, and yield a snapshot every `report` hills and at the end.

    Args:
        structure: with a System; the run starts from its first frame.
        variables: distances, angles and torsions.
        axes: one per component.
        temperature: K.
        steps: of 1 fs.
        seed: of the noise and the velocities.
        gamma: bias factor.
        height: of the first hills, kJ/mol.
        pace: steps between hills.
        report: hills between snapshots.
        bias_folder: where OpenMM looks for the biases of other runs (`invdiff.datasets.molecules.openmm_bias` writes
            one) and leaves its own; None for neither.

    Raises:
        InputError: no System, or a collective variable that OpenMM has no force for. MissingExtraError.
    """
    try:
        import openmm
        from openmm import app, unit
    except ImportError as error:
        raise missing_extra("openmm", "molecules", "metadynamics") from error
    if structure.system is None:
        raise InputError("the structure has no System; give it a force field (invdiff.energies.molecules.force_field)")
    forces = openmm_forces(variables)
    if len(forces) != len(axes):
        raise InputError(f"{len(forces)} collective variables got {len(axes)} axes; one each is expected")
    found = [app.BiasVariable(force, a.low, a.high, a.width, a.periodic) for force, a in zip(forces, axes, strict=True)]
    system = openmm.XmlSerializer.clone(structure.system)
    sharing = {} if bias_folder is None else {"saveFrequency": pace * report, "biasDir": str(bias_folder)}
    meta = app.Metadynamics(system, found, temperature * unit.kelvin, gamma, height, pace, **sharing)
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, 0.001)
    integrator.setRandomNumberSeed(seed % 2**31 + 1)  # 0 would mean "any"
    platform = openmm.Platform.getPlatformByName(choose_platform(structure.atoms))
    simulation = app.Simulation(structure.topology, system, integrator, platform)
    simulation.context.setPositions(structure.positions[0].numpy())
    simulation.minimizeEnergy(maxIterations=100)
    simulation.context.setVelocitiesToTemperature(temperature, seed % 2**31 + 1)

    begin, values, hills = time.perf_counter(), [], steps // pace
    for hill in range(1, hills + 1):
        meta.step(simulation, pace)
        values.append(meta.getCollectiveVariables(simulation))
        if hill % report == 0 or hill == hills:
            grid = _grid(meta, axes)
            yield Snapshot(grid, hill * pace, time.perf_counter() - begin, np.array(values, dtype=np.float64))


def openmm_forces(variables: CollectiveVariable) -> list[Any]:
    """Return an OpenMM force per component, whose energy is its value. Raises InputError where there is none."""
    import openmm

    if isinstance(variables, Together):
        return [force for v in variables.variables for force in openmm_forces(v)]
    made = []
    if isinstance(variables, Distance):
        for row in variables.pairs.tolist():
            made.append(openmm.CustomBondForce("r"))
            made[-1].addBond(*row)
    elif isinstance(variables, Angle):
        for row in variables.triples.tolist():
            made.append(openmm.CustomAngleForce("theta"))
            made[-1].addAngle(*row)
    elif isinstance(variables, Torsion):
        for row in variables.quadruples.tolist():
            made.append(openmm.CustomTorsionForce("theta"))
            made[-1].addTorsion(*row)
    else:
        raise InputError(f"OpenMM's metadynamics here takes distances, angles and torsions, not {variables!r}")
    return made


def _grid(meta: Any, axes: Sequence[Variable]) -> Grid:
    """F in kJ/mol; OpenMM's array has the last variable first and stores both ends of a periodic axis."""
    table = np.asarray(meta.getFreeEnergy()._value, dtype=np.float64)
    table = table.transpose(*reversed(range(table.ndim)))
    for i, axis in enumerate(axes):
        if axis.periodic:
            table = np.delete(table, -1, axis=i)
    return Grid(
        torch.from_numpy(np.ascontiguousarray(table - table.min())),
        tuple(a.low for a in axes),
        tuple(a.high for a in axes),
        tuple(a.periodic for a in axes),
        tuple(a.name for a in axes),
    )
