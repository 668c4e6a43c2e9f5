"""Metadynamics by OpenMM: it grows a bias, is the same for a seed, and starts from a bias file."""

import math

import pytest
import torch

from invdiff.datasets.molecules.grid import Grid
from invdiff.datasets.molecules.openmm_bias import write_openmm_bias
from invdiff.errors import InputError
from invdiff.operators.molecular import Angle, Distance, RadiusOfGyration, Together, Torsion

pytest.importorskip("openmm")

from invdiff.energies.metadynamics import Variable, metadynamics, openmm_forces  # noqa: E402
from invdiff.energies.molecules import alanine_dipeptide, chloride_exchange  # noqa: E402

PHI = Torsion([4, 6, 8, 14], 22)
POINTS = math.ceil(5 * 2 * math.pi / 0.35) - 1  # OpenMM's default, without the second end of the circle
AXIS = Variable("phi", -math.pi, math.pi, 0.35, True)


def last(structure, **options):
    shots = list(metadynamics(structure, PHI, [AXIS], temperature=300.0, steps=400, seed=1, pace=20, **options))
    return shots[-1]


def test_a_bias_grows_where_the_molecule_is_and_a_seed_repeats():
    structure = alanine_dipeptide(solvent=None)
    shot = last(structure, report=10, height=1.0)
    assert shot.energies == 400 and shot.values.shape == (20, 1)
    assert (
        shot.free_energy.periodic == (True,)
        and shot.free_energy.values.shape[0] == math.ceil(5 * 2 * math.pi / 0.35) - 1
    )
    deepest = float(shot.free_energy.points(0)[int(shot.free_energy.values.argmin())])
    assert abs(deepest - float(shot.values.mean())) < 0.6
    again = last(structure, report=20, height=1.0)
    torch.testing.assert_close(again.free_energy.values, shot.free_energy.values)


def test_a_run_starts_from_a_bias_file(tmp_path):
    structure = alanine_dipeptide(solvent=None)
    phi = -math.pi + 2 * math.pi / POINTS * torch.arange(POINTS, dtype=torch.float64)
    write_openmm_bias(tmp_path, Grid(20 * torch.cos(phi), (-math.pi,), (math.pi,), (True,), ("phi",)))
    shot = last(structure, height=1e-6, gamma=8.0, bias_folder=tmp_path)
    expected = -8 / 7 * 20 * torch.cos(phi)
    torch.testing.assert_close(shot.free_energy.values, expected - expected.min(), rtol=0, atol=1e-3)


def test_collective_variables_as_openmm_forces_have_their_values():
    import openmm as mm

    cvs = Together(PHI, Distance([0, 9], 22), Angle([1, 4, 6], 22))
    structure = alanine_dipeptide(solvent=None)
    for force, value in zip(openmm_forces(cvs), cvs.forward(structure.positions)[0], strict=True):
        system = mm.System()
        for _ in range(22):
            system.addParticle(1.0)
        system.addForce(force)
        context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
        context.setPositions(structure.positions[0].numpy())
        assert context.getState(getEnergy=True).getPotentialEnergy()._value == pytest.approx(float(value))
    with pytest.raises(InputError, match="RadiusOfGyration"):
        openmm_forces(RadiusOfGyration(22))


def test_metadynamics_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="force field"):
        next(metadynamics(chloride_exchange(), PHI, [AXIS], temperature=300.0, steps=10, seed=0))
    with pytest.raises(InputError, match="axes"):
        next(metadynamics(alanine_dipeptide(), PHI, [AXIS, AXIS], temperature=300.0, steps=10, seed=0))
