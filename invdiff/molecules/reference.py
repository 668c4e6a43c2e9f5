"""Metadynamics beside a run: the same molecule, variables and states, by OpenMM's dynamics."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invdiff.errors import InputError
from invdiff.files import replacing
from invdiff.metrics.free_energy import delta_f_of_grid
from invdiff.molecules.config import MetadynamicsConfig
from invdiff.molecules.exchange import names
from invdiff.molecules.systems import Case

__all__ = ["metadynamics"]


def metadynamics(
    case: Case, folder: Path, settings: MetadynamicsConfig, report: Callable[[str], None]
) -> dict[str, Any]:
    """Run well-tempered metadynamics from every seed and return its figures; finished seeds are read from the folder.

    ``delta_f_kj`` is the mean over the last half of every run and over seeds; ``stderr_kj`` comes from the seeds, and
    from the spread along the run where there is one seed only.

    Raises:
        InputError: the system has no bias to take the grid from, or no OpenMM System.
    """
    if case.config.bias is None or case.structure is None:
        raise InputError("compare.metadynamics needs a molecule and a bias whose axes it can share")
    curves = []
    for seed in settings.seeds:
        path = folder / f"metadynamics-{seed}.json"
        if not path.is_file():
            curve = _one(case, settings, seed, report)
            with replacing(path) as part:
                part.write_text(json.dumps(curve) + "\n", encoding="utf-8")
        curves.append(json.loads(path.read_text(encoding="utf-8")))
    late = [[p["delta_f_kj"] for p in curve[len(curve) // 2 :]] for curve in curves]
    means = [sum(values) / len(values) for values in late]
    mean, n = sum(means) / len(means), len(means)
    if n > 1:
        error = math.sqrt(sum((m - mean) ** 2 for m in means) / (n - 1) / n)
    else:
        error = math.sqrt(sum((v - mean) ** 2 for v in late[0]) / len(late[0]))
    return {
        "delta_f_kj": mean,
        "stderr_kj": error,
        "energies": sum(curve[-1]["energies"] for curve in curves),
        "seconds": sum(curve[-1]["seconds"] for curve in curves),
        "seeds": means,
        "curves": curves,
    }


def _one(case: Case, settings: MetadynamicsConfig, seed: int, report: Callable[[str], None]) -> list[dict[str, float]]:
    from invdiff.energies.metadynamics import Variable
    from invdiff.energies.metadynamics import metadynamics as run

    assert case.config.bias is not None and case.config.temperature is not None and case.target.variable is not None
    axes = [
        Variable(word, axis.low, axis.high, settings.width or axis.width, period is not None)
        for word, axis, period in zip(names(case), case.config.bias.axes, case.target.variable.period, strict=True)
    ]
    curve = []
    snapshots = run(
        case.structure,
        case.target.variable,  # type: ignore[arg-type]
        axes,
        temperature=case.config.temperature,
        steps=settings.steps,
        seed=seed,
        gamma=settings.gamma,
        height=settings.height,
        pace=settings.pace,
        report=max(1, settings.steps // settings.pace // 40),
    )
    kT = case.target.kT  # noqa: N806 - the field's name
    for shot in snapshots:
        grid = shot.free_energy
        points = [grid.points(i) for i in range(grid.values.ndim)]
        states = case.config.states
        value = kT * delta_f_of_grid(grid.values / kT, points, states.a, states.b)
        curve.append({"energies": shot.energies, "seconds": shot.seconds, "delta_f_kj": value})
        report(f"metadynamics, seed {seed}: {shot.energies} energies, {shot.seconds:.0f} s, {value:.2f} kJ/mol")
    return curve
