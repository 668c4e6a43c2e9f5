"""The torch evaluator against OpenMM's Reference platform, force by force and together."""

import math

import numpy as np
import pytest
import torch

from invdiff.errors import InputError, ShapeError

mm = pytest.importorskip("openmm")
from openmm import unit  # noqa: E402

from invdiff.energies.molecules import alanine_dipeptide, molecule  # noqa: E402
from invdiff.energies.openmm import OpenMM  # noqa: E402
from invdiff.energies.openmm_torch import TorchSystem  # noqa: E402

DOUBLE = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(structure, count, size=0.01, seed=0):
    shape = (count, structure.atoms, 3)
    return structure.positions + size * torch.randn(shape, generator=rng(seed), dtype=DOUBLE)


def system(atoms, *forces):
    made = mm.System()
    for _ in range(atoms):
        made.addParticle(12.0)
    for force in forces:
        made.addForce(force)
    return made


def compare(made, x, energy_error=1e-8):
    u, force = TorchSystem(made)(x)
    u0, force0 = OpenMM(made, "Reference")(x)
    assert bool(torch.isfinite(u0).all()) and float(u0.abs().max()) > 1e-3  # something was compared
    assert float((u - u0).abs().max()) < energy_error
    scale = float(force0.square().mean().sqrt())
    assert float((force - force0).abs().max()) < 1e-9 * max(scale, 1)
    return u, force


SYSTEMS = {
    "vacuum": {"solvent": None},
    "obc2": {"solvent": "obc2"},
    "obc1": {"solvent": "obc1"},
    "cmap": {"solvent": None, "files": ("amber19/protein.ff19SB.xml",)},
    "amber96": {"solvent": None, "files": ("amber96.xml",)},
}


@pytest.mark.parametrize("name", ["alanine_dipeptide", "glycine_dipeptide"])
@pytest.mark.parametrize("options", SYSTEMS.values(), ids=SYSTEMS)
def test_dipeptides(name, options):
    structure = molecule(name, **options)
    compare(structure.system, shaken(structure, 40))
    compare(structure.system, shaken(structure, 10, 0.03, seed=1), 1e-4)  # clashes: energies up to 1e9 kJ/mol


def test_obc2_as_a_custom_force_with_the_formulas_of_openmm():
    from openmm import app

    structure = alanine_dipeptide(solvent=None)
    field = app.ForceField("amber14/protein.ff14SB.xml", "implicit/obc2.xml")
    made = field.createSystem(structure.topology, constraints=None, rigidWater=False)
    assert any(isinstance(f, mm.CustomGBForce) for f in made.getForces())
    x = shaken(structure, 20)
    u, _ = compare(made, x)
    plain, _ = TorchSystem(alanine_dipeptide().system)(x)
    # the same model twice: the custom force has another Coulomb constant (2e-7) and no term for engulfed atoms
    assert float((u - plain).abs().max()) < 1e-3


def test_ryckaert_bellemans():
    force = mm.RBTorsionForce()
    force.addTorsion(0, 1, 2, 3, 9.28, 12.16, -13.12, -3.06, 26.24, -31.5)
    force.addTorsion(1, 2, 3, 4, 1.0, -2.0, 3.0, 0.5, -0.25, 2.0)
    compare(system(5, force), torch.randn(50, 5, 3, generator=rng(), dtype=DOUBLE))


def test_engulfed_atoms_in_the_implicit_solvent():
    force = mm.GBSAOBCForce()
    for charge, radius, scale in ((0.4, 0.12, 0.85), (-0.6, 0.21, 0.72), (0.2, 0.15, 0.8), (0.1, 0.02, 0.9)):
        force.addParticle(charge, radius, scale)
    x = 0.15 * torch.randn(200, 4, 3, generator=rng(), dtype=DOUBLE)  # atoms within each other's spheres, and apart
    made = system(4, force)
    compare(made, x)
    compare(made, 10 * x)


def test_exceptions_replace_and_scale_pairs():
    force = mm.NonbondedForce()
    for charge, sigma, epsilon in ((0.4, 0.3, 0.5), (-0.6, 0.25, 0.2), (0.2, 0.35, 0.7)):
        force.addParticle(charge, sigma, epsilon)
    force.addException(0, 1, 0.0, 0.1, 0.0)
    force.addException(1, 2, -0.05, 0.31, 0.21)
    x = torch.tensor([[[0.0, 0, 0], [0.3, 0, 0], [0, 0.4, 0.1]]], dtype=DOUBLE)
    u, _ = compare(system(3, force), x)
    r, r12 = math.sqrt(0.17), math.sqrt(0.09 + 0.16 + 0.01)
    s6, t6 = (0.325 / r) ** 6, (0.31 / r12) ** 6
    k = 138.93545764438198
    lj = 4 * math.sqrt(0.35) * (s6**2 - s6) + 4 * 0.21 * (t6**2 - t6)
    assert float(u) == pytest.approx(lj + k * 0.08 / r - k * 0.05 / r12, abs=1e-10)


def test_maps_of_several_sizes():
    force, values = mm.CMAPTorsionForce(), torch.randn(24 * 24, generator=rng(1), dtype=DOUBLE).tolist()
    for points in (5, 24, 7):
        force.addMap(points, values[: points**2])
    for which, first in ((1, 0), (0, 1), (1, 2)):
        force.addTorsion(which, *range(first, first + 4), *range(first + 1, first + 5))
    compare(system(7, force), torch.randn(20, 7, 3, generator=rng(2), dtype=DOUBLE))


def test_forces_are_minus_the_gradient():
    structure = alanine_dipeptide()
    energy, x = TorchSystem(structure.system), shaken(structure, 1)
    direction = torch.randn(x.shape, generator=rng(5), dtype=DOUBLE)
    step = 1e-6
    slope = (energy(x + step * direction)[0] - energy(x - step * direction)[0]) / (2 * step)
    assert float(slope) == pytest.approx(-float((energy(x)[1] * direction).sum()), rel=1e-6)


def test_chunks_precision_and_counting():
    structure = alanine_dipeptide()
    x = shaken(structure, 33)
    whole, parts = TorchSystem(structure.system, memory=1e12), TorchSystem(structure.system, memory=1.0)
    for a, b in zip(whole(x), parts(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-9)
    assert whole.calls == parts.calls == 33
    single = TorchSystem(structure.system)(x.float())
    assert single[0].dtype == single[1].dtype == torch.float32
    assert float((single[0] - whole(x)[0]).abs().max()) < 0.02  # kJ/mol: far below kT = 2.5
    careful = TorchSystem(structure.system, precision=DOUBLE)(x.float())
    expected = whole(x.float().double())[0]
    assert float((careful[0].double() - expected).abs().max()) < 1e-4 and careful[0].dtype == torch.float32
    total = sum(whole.parts(x).values())
    torch.testing.assert_close(total, whole(x)[0])
    x[3] = math.nan
    u, force = whole(x)
    assert bool(torch.isnan(u[3])) and bool(torch.isfinite(u[4])) and bool(torch.isfinite(force[4]).all())


def test_collinear_atoms_have_finite_forces():
    angle, torsion = mm.HarmonicAngleForce(), mm.PeriodicTorsionForce()
    angle.addAngle(0, 1, 2, 1.9, 400.0)
    torsion.addTorsion(0, 1, 2, 3, 3, 0.1, 2.0)
    x = torch.zeros(1, 4, 3, dtype=DOUBLE)
    x[0, :, 0] = torch.arange(4) * 0.15
    u, force = TorchSystem(system(4, angle, torsion))(x)
    assert bool(torch.isfinite(u).all()) and bool(torch.isfinite(force).all())


def unsupported():
    cutoff = mm.NonbondedForce()
    cutoff.setNonbondedMethod(cutoff.CutoffNonPeriodic)
    offsets = mm.NonbondedForce()
    offsets.addGlobalParameter("lambda", 1.0)
    offsets.addParticleParameterOffset("lambda", 0, 1.0, 0.0, 0.0)
    periodic = mm.HarmonicBondForce()
    periodic.addBond(0, 1, 0.1, 1.0)
    periodic.setUsesPeriodicBoundaryConditions(True)
    custom = mm.CustomBondForce("r^4")
    gb = mm.CustomGBForce()
    gb.addPerParticleParameter("q")
    gb.addComputedValue("I", "r", mm.CustomGBForce.ParticlePair)
    for force in (cutoff, offsets):
        for _ in range(2):
            force.addParticle(0.0, 0.1, 0.1)
    return [
        (system(2, cutoff), "NoCutoff"),
        (system(2, offsets), "offsets"),
        (system(2, periodic), "periodic"),
        (system(2, custom), "CustomBondForce"),
        (system(2, gb), "CustomGBForce"),
        (system(2), "no force"),
    ]


@pytest.mark.parametrize(("made", "words"), unsupported(), ids=[w for _, w in unsupported()])
def test_what_is_not_understood_is_refused_by_name(made, words):
    with pytest.raises(InputError, match=words):
        TorchSystem(made)


def test_constraints_virtual_sites_and_other_objects_are_refused():
    bond = mm.HarmonicBondForce()
    bond.addBond(0, 1, 0.1, 1.0)
    constrained = system(2, bond)
    constrained.addConstraint(0, 1, 0.1)
    for kind in (TorchSystem, OpenMM):
        with pytest.raises(InputError, match="constraints=None"):
            kind(constrained)
        with pytest.raises(InputError, match="openmm.System"):
            kind("system.xml")
    virtual = system(3, mm.HarmonicBondForce())
    virtual.setVirtualSite(2, mm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    with pytest.raises(InputError, match="virtual"):
        TorchSystem(virtual)
    fixed = system(3, mm.HarmonicBondForce())
    fixed.setParticleMass(1, 0.0)
    for kind in (TorchSystem, OpenMM):
        with pytest.raises(InputError, match=r"\[1\] in place"):
            kind(fixed)
    with pytest.raises(ShapeError, match="22"):
        TorchSystem(alanine_dipeptide().system)(torch.zeros(3, 21, 3))


def test_motion_removers_have_no_energy():
    bond = mm.HarmonicBondForce()
    bond.addBond(0, 1, 0.1 * unit.nanometer, 100.0)
    with_remover = system(2, bond, mm.CMMotionRemover())
    x = torch.tensor([[[0.0, 0, 0], [0.3, 0, 0]]], dtype=DOUBLE)
    assert float(TorchSystem(with_remover)(x)[0]) == pytest.approx(0.5 * 100 * 0.2**2)
    assert np.isfinite(float(OpenMM(with_remover)(x)[0]))
