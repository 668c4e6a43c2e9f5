"""The torch evaluator against OpenMM: largest errors of energy and force, evaluations per second of one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from record import best

from invdiff.datasets.molecules.structure import Structure
from invdiff.energies.molecules import force_field, molecule
from invdiff.energies.openmm import OpenMM
from invdiff.energies.openmm_torch import TorchSystem
from invdiff.random import generator

__all__ = ["evaluator"]


def evaluator(quick: bool = False) -> dict[str, Any]:
    """All systems: dipeptides with four force fields, and a protein of some 600 atoms."""
    found = {}
    amber14, ff19, amber96 = "amber14/protein.ff14SB.xml", "amber19/protein.ff19SB.xml", "amber96.xml"
    for name in ("alanine_dipeptide", "glycine_dipeptide"):
        for files, solvent in ((amber14, None), (amber14, "obc2"), (amber14, "obc1"), (ff19, "obc2"), (amber96, None)):
            structure = molecule(name, files=(files,), solvent=solvent)
            label = f"{name}, {Path(files).stem}, {solvent or 'vacuum'}"
            speed = name == "alanine_dipeptide" and files == amber14 and solvent != "obc1"
            found[label] = _one(structure, 500, 512 if speed else 0, quick)
            print(label, found[label], flush=True)
    found["villin headpiece, protein.ff14SB, obc2"] = _one(_villin(), 3, 4, quick)
    print("villin headpiece", found["villin headpiece, protein.ff14SB, obc2"], flush=True)
    return {
        "max_energy_error_kj": max(f["max_energy_error_kj"] for f in found.values()),
        "max_relative_force_error": max(f["max_relative_force_error"] for f in found.values()),
        "systems": found,
    }


def _one(structure: Structure, count: int, batch: int, quick: bool) -> dict[str, Any]:
    rng = generator(0)
    shape = (count, structure.atoms, 3)
    x = structure.positions + 0.01 * torch.randn(shape, generator=rng, dtype=torch.float64)
    energy, reference = TorchSystem(structure.system), OpenMM(structure.system, "Reference")
    u, force = energy(x)
    u0, force0 = reference(x)
    out: dict[str, Any] = {
        "atoms": structure.atoms,
        "configurations": count,
        "max_energy_error_kj": float((u - u0).abs().max()),
        "max_relative_force_error": float((force - force0).abs().max() / force0.square().mean().sqrt()),
        "energy_error_float32_kj": float((energy(x.float())[0].double() - u0).abs().max()),
    }
    if batch:
        y = x[:1].repeat(batch, 1, 1) + 0.005 * torch.randn(batch, *shape[1:], generator=rng, dtype=torch.float64)
        z, few = y.float(), y[: max(1, batch // 4)]
        jobs = [lambda: energy(y), lambda: energy(z), lambda: reference(few)]
        times = best(jobs, 1.0 if quick else 8.0)
        rates = [n / processor for n, (_, processor) in zip((batch, batch, len(few)), times, strict=True)]
        names = ("torch_float64", "torch_float32", "openmm_reference")
        out["evaluations_per_processor_second"] = {n: round(r, 1) for n, r in zip(names, rates, strict=True)}
    return out


def _villin() -> Structure:
    """The protein of a PDB file that comes with OpenMM, without its water."""
    from openmm import app

    file = app.PDBFile(str(Path(app.__file__).parent / "data" / "test.pdb"))
    modeller = app.Modeller(file.topology, file.positions)
    modeller.deleteWater()
    modeller.delete([r for r in modeller.topology.residues() if r.name in ("CL", "Cl", "NA")])
    positions = torch.tensor(modeller.positions._value, dtype=torch.float64)
    symbols = tuple(a.element.symbol for a in modeller.topology.atoms())
    return force_field(Structure(positions[None], symbols, modeller.topology))
