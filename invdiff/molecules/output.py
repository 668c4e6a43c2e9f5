"""The files of a run: figures, weighted samples, bias and collective variables, plots."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.bridges.wt_asbs import as_posterior
from invdiff.files import replacing
from invdiff.molecules.keeping import SeedRun
from invdiff.molecules.plots import draw_plots
from invdiff.molecules.systems import Case
from invdiff.posterior import Posterior

__all__ = ["kept_samples", "posterior", "write_all"]


def write_all(case: Case, runs: list[SeedRun], figures: dict[str, Any], folder: Path) -> None:
    """Write all files of a finished run into its folder.

    ``result.json``, ``samples.npz`` (positions, cv, bias, log_weight, energy in kT), ``posterior.nc``; ``bias.npz``
    with the grid of every seed; plots. Of molecules also ``topology.pdb``, ``samples.xtc``, and of every seed PLUMED's
    ``HILLS``, ``COLVAR`` and ``fes.dat``.
    """
    with replacing(folder / "result.json") as part:
        part.write_text(json.dumps(_plain(figures), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if any(run.bias is None for run in runs):
        return
    samples = kept_samples(case, runs)
    with replacing(folder / "samples.npz") as part, part.open("wb") as file:
        arrays: dict[str, Any] = {name: value.numpy() for name, value in samples.items()}
        np.savez(file, **arrays)
    posterior(case, samples, figures).save(folder / "posterior.nc")
    with replacing(folder / "bias.npz") as part, part.open("wb") as file:
        grids: dict[str, Any] = {f"seed{run.seed}": run.bias.values.numpy() for run in runs if run.bias is not None}
        assert runs[0].bias is not None
        axes: dict[str, Any] = {f"axis{i}": axis.grid().numpy() for i, axis in enumerate(runs[0].bias.axes)}
        np.savez(file, **grids, **axes)
    if case.structure is not None:
        from invdiff.molecules.exchange import write_molecular

        write_molecular(case, runs, samples, folder)
    draw_plots(case, runs, figures, folder)


def kept_samples(case: Case, runs: list[SeedRun]) -> dict[str, Tensor]:
    """The chains' configurations that were kept, of all seeds: positions, cv, bias, log_weight, energy (kT)."""
    entry = case.config.refine
    frames = torch.arange(entry.keep, entry.steps + 1, entry.keep) // entry.every - 1
    parts: dict[str, list[Tensor]] = {"positions": [], "cv": [], "bias": [], "energy": []}
    for run in runs:
        x = run.chains["x"]
        parts["positions"].append(x.flatten(0, 1))
        for name, own in (("cv", "s"), ("bias", "v"), ("energy", "u")):
            parts[name].append(run.chains[own][:, frames].flatten(0, 1))
    found = {name: torch.cat(value) for name, value in parts.items()}
    return found | {"log_weight": found["bias"].clone()}


def posterior(case: Case, samples: dict[str, Tensor], figures: dict[str, Any]) -> Posterior:
    """The weighted samples as a `Posterior`."""
    attrs: dict[str, Any] = {"sampler": "wt-asbs", "system": case.config.name, "seeds": list(case.config.seeds)}
    if case.config.temperature is not None:
        attrs |= {"temperature": f"{case.config.temperature} K", "length_unit": "nm"}
    notes = {name: _plain(figures[name]) for name in ("delta_f_kT", "stderr_kT", "energies", "ess", "warnings")}
    x, w, s, u = (samples[name] for name in ("positions", "log_weight", "cv", "energy"))
    return as_posterior(x, w, s, u, attrs, notes)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
