"""Error against energy calls, from finished runs of ``invdiff molecule run`` in ``./runs``; toys that lack are run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from invdiff.molecules.config import load_config
from invdiff.molecules.run import run_molecule

__all__ = ["curve"]

_KEYS = ("delta_f_kT", "exact_kT", "stderr_kT", "delta_f_kj", "stderr_kj", "delta_f_kcal", "energies", "seconds", "ess")


def curve(quick: bool = False) -> dict[str, Any]:
    """Figures and curves of the shipped configurations that have been run."""
    found: dict[str, Any] = {}
    for name in ("double_well", "muller_brown", "sn2_xtb", "alanine_dipeptide"):
        path = Path("runs") / name / "result.json"
        if not path.is_file():
            if quick or name in ("sn2_xtb", "alanine_dipeptide"):
                continue
            run_molecule(load_config(name), path.parent, print, progress=False)
        result = json.loads(path.read_text(encoding="utf-8"))
        found[name] = {key: result[key] for key in _KEYS if key in result}
        found[name]["unbiased_kT"] = result.get("unbiased", {}).get("delta_f_kT")
        found[name]["curves"] = [_errors(seed["curve"], result["exact_kT"]) for seed in result["seeds"]]
        if "metadynamics" in result:
            found[name]["metadynamics"] = result["metadynamics"]
    return found


def _errors(points: list[dict[str, Any]], exact: float | None) -> list[dict[str, Any]]:
    """Points of a curve, with the error where the truth is known."""
    if exact is None:
        return points
    return [p | {"error_kT": abs(p["delta_f_kT"] - exact)} for p in points if p["delta_f_kT"] is not None]
