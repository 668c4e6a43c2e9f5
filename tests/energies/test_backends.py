"""OpenMM, ASE and tblite as energies; failures are counted and survived."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.energies.base import Energy
from invdiff.energies.building import build_energy, build_structure
from invdiff.energies.molecules import chloride_exchange
from invdiff.energies.single import OneByOne
from invdiff.errors import InputError, ShapeError, UnknownNameError

DOUBLE = torch.float64


def shaken(structure, count, size, seed=0):
    g = torch.Generator().manual_seed(seed)
    return structure.positions + size * torch.randn(count, structure.atoms, 3, generator=g, dtype=DOUBLE)


def slope(energy, x, force):
    g = torch.Generator().manual_seed(9)
    d, step = torch.randn(x.shape, generator=g, dtype=DOUBLE), 1e-5
    numeric = (energy(x + step * d)[0] - energy(x - step * d)[0]) / (2 * step)
    return float(numeric[0]), -float((force * d)[0].sum())


def test_failures_are_counted_and_do_not_spread():
    def worker(x):
        if x[0, 0] > 1:
            raise RuntimeError("did not converge")
        return (math.inf, -x) if x[0, 0] > 0.5 else (0.5 * float((x**2).sum()), -x)

    energy = OneByOne([worker, worker], 2, (RuntimeError,))
    assert isinstance(energy, Energy)
    x = torch.zeros(5, 2, 3)
    x[1, 0, 0], x[2, 0, 0], x[3, 1, 2] = 2.0, 0.7, math.nan
    u, force = energy(x)
    assert torch.isnan(u).tolist() == [False, True, True, True, False]
    assert torch.isnan(force).flatten(1).all(1).tolist() == [False, True, True, True, False]
    assert energy.calls == 5 and energy.failed == 3 and u.dtype == torch.float32
    with pytest.raises(ShapeError, match="2, 3"):
        energy(torch.zeros(5, 3, 3))

    def broken(x):
        raise KeyError("a mistake of use")

    with pytest.raises(KeyError):
        OneByOne([broken], 2, (RuntimeError,))(torch.zeros(1, 2, 3))


def test_xtb_breaks_bonds_symmetrically():
    pytest.importorskip("tblite")
    energy = build_energy(chloride_exchange(), "xtb")
    left, right = chloride_exchange(0.18, 0.3).positions, chloride_exchange(0.18, 0.3).positions.flip(2)
    right = right[:, [0, 1, 2, 3, 4, 5]].clone()
    swapped = chloride_exchange(0.18, 0.3).positions[:, [0, 1, 2, 3, 5, 4]] * torch.tensor([1.0, 1.0, -1.0])
    u, force = energy(torch.cat([left, swapped.to(DOUBLE)]))
    assert float(u[0] - u[1]) == pytest.approx(0, abs=1e-4)  # SCF converges to 1e-6 Hartree
    top = energy(chloride_exchange(0.23, 0.23).positions)[0]
    assert 30 < float(top - u[0]) < 80  # a barrier, in kJ/mol: bonds do break
    numeric, analytic = slope(energy, left, force)
    assert numeric == pytest.approx(analytic, rel=1e-3)


def test_xtb_survives_what_does_not_converge():
    pytest.importorskip("tblite")
    energy: Any = build_energy(chloride_exchange(), "xtb", threads=2)
    x = shaken(chloride_exchange(), 4, 0.002)
    x[1] = 0.0
    u, force = energy(x)
    assert energy.failed == 1 and "close" in energy.last_failure
    assert bool(torch.isfinite(u[[0, 2, 3]]).all()) and bool(torch.isnan(force[1]).all())
    again = build_energy(chloride_exchange(), "xtb")(x[2:3])[0]
    assert float(again - u[2]) == pytest.approx(0, abs=1e-9)  # what came before has no say
    with pytest.raises(UnknownNameError, match="GFN2"):
        build_energy(chloride_exchange(), "xtb", method="GFN7")


def test_ase_in_kilojoules_and_nanometres():
    pytest.importorskip("ase")
    from ase.calculators.lj import LennardJones

    structure = build_structure("chloride_exchange")
    options = {"sigma": 2.0, "epsilon": 0.01, "rc": 100.0}
    energy = build_energy(structure, "ase", calculator=lambda: LennardJones(**options))
    x = shaken(structure, 3, 0.005)
    u, force = energy(x)
    i, j = np.triu_indices(6, 1)
    r = np.linalg.norm(x[:, i] - x[:, j], axis=-1) * 10
    shift = (2 / 100) ** 12 - (2 / 100) ** 6
    expected = 96.485332 * (4 * 0.01 * ((2 / r) ** 12 - (2 / r) ** 6 - shift)).sum(1)
    np.testing.assert_allclose(u, expected, rtol=1e-7)
    numeric, analytic = slope(energy, x[:1], force[:1])
    assert numeric == pytest.approx(analytic, rel=1e-5)


def test_openmm_by_size_and_with_nan():
    pytest.importorskip("openmm")
    from invdiff.energies.openmm import OpenMM, choose_platform

    structure = build_structure("alanine_dipeptide")
    energy = build_energy(structure, "openmm")
    assert isinstance(energy, OpenMM) and energy.platform == "Reference" and choose_platform(5000) != "Reference"
    x = shaken(structure, 3, 0.005)
    x[1] = math.nan
    u, _ = energy(x)
    assert energy.failed == 1 and energy.calls == 3 and torch.isnan(u).tolist() == [False, True, False]
    cpu = OpenMM(structure.system, "CPU")(x[:1])[0]
    assert float(cpu - u[0]) == pytest.approx(0, abs=0.05)  # the CPU platform is single precision
    with pytest.raises(UnknownNameError, match="Reference"):
        OpenMM(structure.system, "Abacus")


def half_square(x):
    return 0.5 * x.square().sum((1, 2))


def test_building():
    pytest.importorskip("openmm")
    import openmm as mm

    structure = build_structure("alanine_dipeptide")
    assert build_energy(structure, "python", potential=half_square)(structure.positions)[0] > 0
    found = build_energy(structure, "python", potential="torch:mul")
    assert found.units == "kJ/mol"
    custom = mm.XmlSerializer.clone(structure.system)
    custom.addForce(mm.CustomBondForce("r^4"))
    structure.system = custom
    assert type(build_energy(structure, "auto")).__name__ == "OpenMM"
    with pytest.raises(InputError, match="CustomBondForce"):
        build_energy(structure, "torch")
    wrong: list[tuple[str, dict[str, Any], type[Exception]]] = [
        ("warp", {}, UnknownNameError),
        ("python", {}, InputError),
        ("python", {"potential": "torch:nothing"}, InputError),
        ("torch", {"speed": 3}, InputError),
    ]
    for backend, options, error in wrong:
        with pytest.raises(error):
            build_energy(structure, backend, **options)
    with pytest.raises(InputError, match="force field"):
        build_energy(chloride_exchange(), "torch")
    with pytest.raises(InputError, match="name or a file"):
        build_structure()
    with pytest.raises(InputError, match="options"):
        build_structure(file=__file__, options={"speed": 3})
    with pytest.raises(UnknownNameError, match="alanine"):
        build_structure("benzene")
