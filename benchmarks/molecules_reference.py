"""The free energy of alanine dipeptide along phi by well-tempered metadynamics: the reference of `molecule run`.

ff14SB with OBC2 solvent, 300 K, no constraints. Delta F is that of 0 < phi < 2.2 rad (the left-handed region) against
the rest; several independent runs, and within each the difference read from the bias all along the second half. The
standard error is that of the runs' means. Results are written after every run, and runs that are in the file already
are not repeated.

    python benchmarks/molecules_reference.py --json benchmarks/results/molecules_reference.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from record import write

from invdiff.datasets.molecules.grid import free_energy_difference
from invdiff.energies.base import GAS_CONSTANT
from invdiff.energies.metadynamics import Variable, metadynamics
from invdiff.energies.molecules import alanine_dipeptide
from invdiff.operators.molecular import Torsion

TEMPERATURE = 300.0
REGION = (0.0, 2.2)  # rad: the left-handed region


def run(seed: int, steps: int, solvent: str | None) -> dict[str, Any]:
    """One run: Delta F of every snapshot, and the free energy at the end."""
    structure = alanine_dipeptide(solvent=solvent)
    axis = Variable("phi", -math.pi, math.pi, 0.25, True)
    phi = Torsion([4, 6, 8, 14], structure.atoms)
    trace: dict[str, list[float]] = {"energies": [], "seconds": [], "delta_f_kj": []}
    for shot in metadynamics(structure, phi, [axis], temperature=TEMPERATURE, steps=steps, seed=seed):
        points = shot.free_energy.points(0)
        inside = (points > REGION[0]) & (points < REGION[1])
        difference = free_energy_difference(shot.free_energy, inside, GAS_CONSTANT * TEMPERATURE)
        for name, value in (("energies", shot.energies), ("seconds", shot.seconds), ("delta_f_kj", difference)):
            trace[name].append(round(float(value), 3))
        if len(trace["energies"]) % 5 == 0:
            print(f"seed {seed}: {shot.energies} energies, {shot.seconds:.0f} s, {difference:.2f} kJ/mol", flush=True)
    half = len(trace["delta_f_kj"]) // 2
    return {
        "seed": seed,
        "delta_f_kj": float(np.mean(trace["delta_f_kj"][half:])),
        "spread_kj": float(np.std(trace["delta_f_kj"][half:])),
        "energies": trace["energies"][-1],
        "seconds": trace["seconds"][-1],
        "in_region": float(np.mean((shot.values > REGION[0]) & (shot.values < REGION[1]))),
        "trace": trace,
        "phi": [round(float(p), 6) for p in points],
        "free_energy_kj": [round(float(f), 4) for f in shot.free_energy.values],
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over runs, its standard error, and what it cost."""
    means = np.array([r["delta_f_kj"] for r in runs])
    error = float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan
    free = np.array([r["free_energy_kj"] for r in runs])
    free = free - free.min(1, keepdims=True)
    return {
        "delta_f_kj": float(means.mean()),
        "stderr_kj": error,
        "energies": sum(r["energies"] for r in runs),
        "seconds": sum(r["seconds"] for r in runs),
        "phi": runs[0]["phi"],
        "free_energy_kj": free.mean(0).round(4).tolist(),
        "free_energy_stderr_kj": (free.std(0, ddof=min(1, len(runs) - 1)) / math.sqrt(len(runs))).round(4).tolist(),
        "error_against_energies": curve(runs, float(means.mean())),
    }


def curve(runs: list[dict[str, Any]], truth: float) -> dict[str, list[float]]:
    """Root mean square over runs of Delta F read from the bias at each moment, against the mean of all runs."""
    length = min(len(r["trace"]["delta_f_kj"]) for r in runs)
    found = np.array([r["trace"]["delta_f_kj"][:length] for r in runs])
    rms = np.sqrt(((found - truth) ** 2).mean(0))
    seconds = np.array([r["trace"]["seconds"][:length] for r in runs]).mean(0)
    return {
        "energies": runs[0]["trace"]["energies"][:length],
        "seconds": seconds.round(2).tolist(),
        "rms_error_kj": rms.round(4).tolist(),
    }


def main() -> None:
    """Run what is missing and write after every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4_000_000)
    parser.add_argument("--vacuum", action="store_true", help="without solvent")
    options = parser.parse_args()
    solvent = None if options.vacuum else "obc2"
    runs: list[dict[str, Any]] = []
    if options.json.exists():
        runs = json.loads(options.json.read_text(encoding="utf-8"))["runs"]
    for seed in range(options.seeds):
        if any(r["seed"] == seed and r["energies"] == options.steps for r in runs):
            continue
        runs = [r for r in runs if r["seed"] != seed] + [run(seed, options.steps, solvent)]
        about = {"molecule": "ACE-ALA-NME", "force_field": "amber14/protein.ff14SB.xml", "solvent": solvent}
        settings = {"temperature_K": TEMPERATURE, "gamma": 8.0, "height_kj": 1.0, "width_rad": 0.25, "pace": 500}
        write(options.json, {**about, "region_rad": REGION, "settings": settings, **summary(runs), "runs": runs})


if __name__ == "__main__":
    main()
