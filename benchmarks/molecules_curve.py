"""Error against energy calls and seconds, of finished ``invdiff molecule run`` in ``./runs``, and of metadynamics.

The truth is quadrature, symmetry, or for alanine dipeptide the longer metadynamics of `molecules_reference.py`. Toys
that have not been run are run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from invdiff.molecules.config import load_config
from invdiff.molecules.run import run_molecule

__all__ = ["curve"]

_KEYS = ("exact_kT", "delta_f_kT", "stderr_kT", "delta_f_kj", "stderr_kj", "delta_f_kcal", "stderr_kcal")
_COSTS = ("energies", "seconds", "ess", "joined_by", "warnings")
_REFERENCE = Path(__file__).parent / "results" / "molecules_reference.json"


def curve(quick: bool = False) -> dict[str, Any]:
    """Figures and curves of the shipped configurations that have been run."""
    found: dict[str, Any] = {}
    for name in ("double_well", "muller_brown", "sn2_xtb", "alanine_dipeptide", "glycine_dipeptide"):
        path = Path("runs") / name / "result.json"
        if not path.is_file():
            if quick or name not in ("double_well", "muller_brown"):
                continue
            run_molecule(load_config(name), path.parent, print, progress=False)
        result = json.loads(path.read_text(encoding="utf-8"))
        found[name] = one = {key: result[key] for key in (*_KEYS, *_COSTS) if key in result}
        if "unbiased" in result:
            one["unbiased_kT"] = result["unbiased"]["delta_f_kT"]
        if result["exact_kT"] is not None:
            one["curve"] = _rms([seed["curve"] for seed in result["seeds"]], result["exact_kT"], 1.0, "kT")
        elif name == "alanine_dipeptide" and _REFERENCE.is_file():
            truth = json.loads(_REFERENCE.read_text(encoding="utf-8"))
            one["truth_kj"], one["truth_stderr_kj"] = truth["delta_f_kj"], truth["stderr_kj"]
            kj = result["delta_f_kj"] / result["delta_f_kT"]
            one["curve"] = _rms([seed["curve"] for seed in result["seeds"]], truth["delta_f_kj"], kj, "kj")
        if "metadynamics" in result:
            meta = result["metadynamics"]
            one["metadynamics"] = {k: meta[k] for k in ("delta_f_kj", "stderr_kj", "energies", "seconds", "seeds")}
            one["metadynamics"]["curve"] = _metadynamics(meta["curves"], one.get("truth_kj"))
    return found


def _rms(curves: list[list[dict[str, Any]]], truth: float, factor: float, unit: str) -> list[dict[str, Any]]:
    """Root mean square error over seeds at each point; what one seed costs."""
    out = []
    for points in zip(*curves, strict=False):
        values = [p["delta_f_kT"] for p in points]
        if any(v is None for v in values) or len({p["phase"] for p in points}) > 1:
            continue
        error = math.sqrt(sum((factor * v - truth) ** 2 for v in values) / len(values))
        cost = {k: sum(p[k] for p in points) / len(points) for k in ("energies", "seconds") if k in points[0]}
        out.append({**cost, "phase": points[0]["phase"], f"error_{unit}": error})
    return out


def _metadynamics(curves: list[list[dict[str, Any]]], truth: float | None) -> list[dict[str, Any]]:
    """The same of metadynamics: the mean over the second half of what has been run so far."""
    out = []
    for k in range(1, min(len(c) for c in curves) + 1):
        late = [[p["delta_f_kj"] for p in c[k // 2 : k]] for c in curves]
        values = [sum(v) / len(v) for v in late]
        point = {
            "energies": curves[0][k - 1]["energies"],
            "seconds": sum(c[k - 1]["seconds"] for c in curves) / len(curves),
        }
        if truth is not None:
            point["error_kj"] = math.sqrt(sum((v - truth) ** 2 for v in values) / len(values))
        out.append(point)
    return out
