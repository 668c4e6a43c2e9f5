"""A tiny run of a peptide on two dihedrals: every file that other programs read, and what comes back of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.datasets.molecules import plumed
from invdiff.datasets.molecules.openmm_bias import read_openmm_bias
from invdiff.datasets.molecules.trajectory import read_trajectory
from invdiff.molecules.config import MoleculeConfig
from invdiff.molecules.run import run_molecule
from invdiff.operators.molecular import Torsion
from invdiff.posterior import Posterior

pytest.importorskip("openmm")
pytest.importorskip("mdtraj")

PHI, PSI = [4, 6, 8, 14], [6, 8, 14, 16]
AXIS = {"low": -math.pi, "high": math.pi, "points": 36, "width": 0.35}
TINY: dict[str, Any] = {
    "name": "peptide",
    "system": {"kind": "molecule", "name": "alanine_dipeptide"},
    "temperature": 300.0,
    "variables": [{"kind": "torsion", "atoms": PHI}, {"kind": "torsion", "atoms": PSI}],
    "bias": {"gamma": 6.0, "height": 2.0, "axes": [AXIS, AXIS]},
    "states": {"a": [[2.2, 0.0], [None, None]], "b": [[0.0, 2.2], [None, None]]},
    "restraints": [
        {
            "name": "chirality",
            "variable": {"kind": "torsion", "atoms": [8, 6, 14, 10]},
            "low": 0.2,
            "high": 1.1,
            "stiffness": 500.0,
        }
    ],
    "coordinates": "internal",
    "windows": [{"atoms": PHI, "low": -4.1}, {"atoms": PSI, "low": -2.2}],
    "schedule": {"low": 0.02, "high": 3.0},
    "network": {"width": 32, "depth": 2, "finest": 0.3},
    "start": {"spread": 0.001, "walkers": 8, "steps": 100, "skip": 20, "every": 10, "step": 0.001},
    "training": {
        "warm": 5,
        "fresh": 32,
        "first": 64,
        "buffer": 128,
        "batch": 64,
        "updates": 5,
        "steps": 15,
        "refine": 1,
        "stages": [{"adjoint": 4, "corrector": 2}, {"adjoint": 2, "deposit": False}],
    },
    "samples": 100,
    "refine": {
        "method": "langevin",
        "walkers": 16,
        "burn": 20,
        "deposit_every": 5,
        "steps": 60,
        "every": 5,
        "keep": 30,
        "step": 0.001,
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("peptide") / "run"
    return folder, run_molecule(MoleculeConfig.model_validate(TINY), folder, lambda _: None, progress=False)


def test_figures_have_units_and_name_what_changes_the_ensemble(finished: tuple[Path, dict[str, Any]]) -> None:
    figures = finished[1]
    assert figures["restraints"] == ["chirality"] and figures["exact_kT"] is None
    assert figures["warnings"]  # 60 fs tell nothing, and that is said
    for unit, factor in (("kj", 2.494338785), ("kcal", 2.494338785 / 4.184)):
        expected = factor * figures["delta_f_kT"]
        assert figures[f"delta_f_{unit}"] == pytest.approx(expected, nan_ok=True)
    energies = figures["seeds"][0]["energies"]
    assert energies["total"] == energies["training"] + 16 * (1 + 20 + 60)


def test_trajectory_and_weights(finished: tuple[Path, dict[str, Any]]) -> None:
    folder = finished[0]
    with np.load(folder / "samples.npz") as held:
        x, s = torch.from_numpy(held["positions"]), torch.from_numpy(held["cv"])
        bias, weight = held["bias"], held["log_weight"]
    assert x.shape == (32, 22, 3) and np.array_equal(bias, weight)
    frames = read_trajectory(folder / "samples.xtc", folder / "topology.pdb")
    torch.testing.assert_close(frames, x.double(), rtol=0, atol=6e-4)  # XTC rounds to 0.001 nm
    angles = Torsion([PHI, PSI], 22).forward(x)
    assert float((1 - torch.cos(angles - s)).max()) < 1e-6
    posterior = Posterior.load(folder / "posterior.nc")
    assert posterior.draws.dims == ("draw", "atom", "xyz") and posterior.draws.attrs.get("units", "nm") == "nm"
    for name in ("free_energy.png", "histogram.png", "convergence.png", "ramachandran.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"


def test_bias_in_the_files_of_plumed_and_openmm(finished: tuple[Path, dict[str, Any]]) -> None:
    folder = finished[0]
    with np.load(folder / "bias.npz") as held:
        values = 2.494338785 * torch.from_numpy(held["seed0"])
    inner = folder / "seed-0"
    own = read_openmm_bias(inner / "openmm_bias", (-math.pi,) * 2, (math.pi,) * 2, True, ("torsion1", "torsion2"))
    torch.testing.assert_close(own.values, values, rtol=1e-6, atol=1e-6)
    free = plumed.read_fes(inner / "fes.dat")
    expected = -6 / 5 * values
    torch.testing.assert_close(free.values, expected - expected.min(), rtol=0, atol=1e-4)
    hills = plumed.read_hills(inner / "HILLS")
    assert hills.names == ("torsion1", "torsion2")
    torch.testing.assert_close(hills.on_grid(own).values, values, rtol=0, atol=1e-3)
    columns = plumed.read_colvar(folder / "COLVAR")
    assert columns["logweight"].exp().sum() == pytest.approx(1, abs=1e-4)
    assert "TORSION ATOMS=5,7,9,15" in (inner / "plumed.dat").read_text()  # atoms count from 1 there


def test_a_run_takes_the_bias_of_another(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    for source in ("HILLS", "openmm_bias"):
        changed = TINY | {"bias": TINY["bias"] | {"start": str(finished[0] / "seed-0" / source)}, "trajectory": "dcd"}
        found = run_molecule(MoleculeConfig.model_validate(changed), tmp_path / source, lambda _: None, progress=False)
        with np.load(tmp_path / source / "bias.npz") as new, np.load(finished[0] / "bias.npz") as old:
            assert np.all(new["seed0"] > old["seed0"] - 1e-3) and new["seed0"].sum() > 1.3 * old["seed0"].sum()
        assert found["energies"] == finished[1]["energies"]
        with np.load(tmp_path / source / "samples.npz") as held:
            x = torch.from_numpy(held["positions"]).double()
        frames = read_trajectory(tmp_path / source / "samples.dcd", tmp_path / source / "topology.pdb")
        torch.testing.assert_close(frames, x, rtol=1e-6, atol=1e-6)


def test_chains_that_blow_up_leave_figures_and_a_warning(tmp_path: Path) -> None:
    changed = TINY | {"refine": TINY["refine"] | {"step": 0.5}}
    found = run_molecule(MoleculeConfig.model_validate(changed), tmp_path / "run", lambda _: None, progress=False)
    assert any("blown up" in w for w in found["warnings"])
    assert (tmp_path / "run" / "result.json").is_file() and not (tmp_path / "run" / "samples.xtc").exists()
