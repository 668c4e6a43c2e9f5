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
from invdiff.metrics.free_energy import pmf_of_samples
from invdiff.molecules.keeping import SeedRun
from invdiff.molecules.plots import bins, draw_plots, profile, unit
from invdiff.molecules.systems import Case
from invdiff.posterior import Posterior

__all__ = ["kept_samples", "posterior", "write_all"]


def write_all(case: Case, runs: list[SeedRun], figures: dict[str, Any], folder: Path) -> None:
    """Write all files of a finished run into its folder.

    ``result.json``, ``samples.npz`` (positions, cv, bias, log_weight, energy in kT), ``posterior.nc``; ``bias.npz``
    with the grid of every seed; ``free_energy.npz`` with both estimates along the variables; plots. Of molecules also
    ``topology.pdb``, ``samples.xtc`` or ``.dcd``, and of every seed PLUMED's ``HILLS``, ``COLVAR`` and ``fes.dat``.
    """
    with replacing(folder / "result.json") as part:
        part.write_text(json.dumps(_plain(figures), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    samples = kept_samples(case, runs)
    with replacing(folder / "samples.npz") as part, part.open("wb") as file:
        arrays: dict[str, Any] = {name: value.numpy() for name, value in samples.items()}
        np.savez(file, **arrays)
    posterior(case, samples, figures).save(folder / "posterior.nc")
    if runs[0].bias is not None:
        with replacing(folder / "bias.npz") as part, part.open("wb") as file:
            grids: dict[str, Any] = {f"seed{run.seed}": run.bias.values.numpy() for run in runs if run.bias is not None}
            axes: dict[str, Any] = {f"axis{i}": axis.grid().numpy() for i, axis in enumerate(runs[0].bias.axes)}
            np.savez(file, **grids, **axes)
    _write_profiles(case, runs, folder)
    if case.structure is not None:
        from invdiff.molecules.exchange import write_molecular

        write_molecular(case, runs, samples, folder)
    draw_plots(case, runs, figures, folder)


def _write_profiles(case: Case, runs: list[SeedRun], folder: Path) -> None:
    """``free_energy.npz``: `refined` on bins between `edges0`, ..., with `stderr` where there is one variable; what the
    bias of each seed says, ``of_bias_seed0``, on the points of ``bias.npz``; `unit`."""
    word, kT = unit(case)  # noqa: N806 - the field's name
    edges = [bins(runs, i) for i in range(runs[0].chains["s"].shape[-1])]
    found: dict[str, Any] = {f"edges{i}": e.numpy() for i, e in enumerate(edges)} | {"unit": np.array(word)}
    if len(edges) == 1:
        f, error = profile(runs, edges[0], kT)
        found |= {"refined": f.numpy(), "stderr": error.numpy()}
    else:
        s = torch.cat([run.chains["s"].flatten(0, 1) for run in runs])
        weight = torch.cat([run.chains["w"].flatten() for run in runs])
        found["refined"] = kT * pmf_of_samples(s, weight, edges).numpy()
    for run in runs:
        if run.bias is not None:
            found[f"of_bias_seed{run.seed}"] = kT * run.bias.free_energy().numpy()
    with replacing(folder / "free_energy.npz") as part, part.open("wb") as file:
        np.savez(file, **found)


def kept_samples(case: Case, runs: list[SeedRun]) -> dict[str, Tensor]:
    """The chains' configurations that were kept, of all seeds: positions, cv, bias, log_weight, energy (kT)."""
    entry = case.config.refine
    frames = torch.arange(entry.keep, entry.steps + 1, entry.keep) // entry.every - 1
    parts: dict[str, list[Tensor]] = {"positions": [], "cv": [], "bias": [], "energy": [], "log_weight": []}
    for run in runs:
        x = run.chains["x"]
        parts["positions"].append(x.flatten(0, 1))
        for name, own in (("cv", "s"), ("bias", "v"), ("energy", "u"), ("log_weight", "w")):
            parts[name].append(run.chains[own][:, frames].flatten(0, 1))
    return {name: torch.cat(value) for name, value in parts.items()}


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
