"""The Ramachandran plot of a capped amino acid: free energy over phi and psi."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from invdiff.metrics.free_energy import pmf_of_samples
from invdiff.molecules.keeping import SeedRun
from invdiff.molecules.systems import Case
from invdiff.operators.molecular import Torsion

__all__ = ["dihedrals", "ramachandran"]

_BINS = 45


def dihedrals(structure: Any) -> tuple[list[int], list[int]] | None:
    """Atoms of the first phi (C-N-CA-C) and psi (N-CA-C-N) whose names a structure has; None where it has none."""
    if structure.topology is None:
        return None
    residues = [{a.name: a.index for a in r.atoms()} for r in structure.topology.residues()]
    for before, own, after in zip(residues, residues[1:], residues[2:], strict=False):
        if "C" in before and {"N", "CA", "C"} <= own.keys() and "N" in after:
            return [before["C"], own["N"], own["CA"], own["C"]], [own["N"], own["CA"], own["C"], after["N"]]
    return None


def ramachandran(figure: Any, case: Case, runs: list[SeedRun]) -> None:
    """Draw the free energy of the kept samples over phi and psi in degrees."""
    found = dihedrals(case.structure)
    assert found is not None
    entry = case.config.refine
    frames = torch.arange(entry.keep, entry.steps + 1, entry.keep) // entry.every - 1
    x = torch.cat([run.chains["x"].flatten(0, 1) for run in runs])
    v = torch.cat([run.chains["w"][:, frames].flatten() for run in runs])
    angles = Torsion(list(found), case.structure.atoms).forward(x)
    edges = torch.linspace(-math.pi, math.pi, _BINS + 1, dtype=torch.float64)
    f = case.target.kT * pmf_of_samples(angles, v, [edges, edges])
    axes, degrees = figure.subplots(), edges.rad2deg()
    image = axes.pcolormesh(degrees, degrees, np.ma.masked_invalid(f.T.numpy()), cmap="viridis", vmax=40)
    figure.colorbar(image, label="free energy (kJ/mol)")
    axes.set(xlabel="phi (degrees)", ylabel="psi (degrees)", title=case.config.name, aspect="equal")
