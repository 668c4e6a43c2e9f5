"""What may be said of a run: free energies by three routes, their errors, and warnings in plain words.

The bias and the sampler's reweighted draws carry the sampler's own error along the collective variables, both the
same, so their agreement proves nothing. What is reported comes from chains that forget where they started.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.metrics.free_energy import (
    delta_f_of_grid,
    delta_f_of_samples,
    effective_size,
    inside,
    jackknife,
)
from invdiff.metrics.rates import crossings, two_state
from invdiff.molecules.config import MoleculeConfig
from invdiff.molecules.keeping import SeedRun

__all__ = ["combine", "judge_seed", "judge_unbiased"]

_FAR = 1000.0  # kT above the median: no fluctuation of some hundred atoms


def judge_seed(config: MoleculeConfig, run: SeedRun) -> dict[str, Any]:
    """Return the figures of one seed, in kT: ``delta_f`` with its error, the other routes, ESS, warnings."""
    a, b = config.states.a, config.states.b
    s, v = run.chains["s"], run.chains["v"]
    counted, counted_error = jackknife(s, v, a, b)
    value, error = two_state(s, v, a, b)
    if not math.isfinite(value):  # no exchange: the sampler's ratio of the states is all there is
        value = counted
    half = s.shape[1] // 2
    early, late = (two_state(s[:, rows], v[:, rows], a, b)[0] for rows in (slice(half), slice(half, None)))
    draws = run.draws["s"]
    good = torch.isfinite(draws).all(1)
    weight = run.bias(draws[good])[0] if run.bias is not None else torch.zeros(int(good.sum()))
    found: dict[str, Any] = {
        "seed": run.seed,
        "delta_f": value,
        "stderr": error,
        "early": early,
        "late": late,
        "counted": counted,
        "counted_stderr": counted_error,
        "of_bias": _of_bias(config, run),
        "of_draws": delta_f_of_samples(draws[good], weight, a, b),
        "share_of_b_draws": float(inside(draws[good], b).double().mean()),
        "share_of_b_chains": float(inside(s, b).double().mean()),
        "crossings_per_chain": float(crossings(s, a, b).double().mean()),
        "ess": effective_size(v),
        "ess_share": effective_size(v) / v.numel(),
        "accepted": run.accepted,
        "off_grid": float(run.bias.outside(s.reshape(-1, s.shape[-1])).double().mean()) if run.bias else 0.0,
        "energies": run.energies,
        "seconds": run.seconds,
        "failed": run.failed,
        "blown_up": _blown_up(run.chains["u"]),
        "curve": run.curve,
    }
    found["warnings"] = _warnings(found)
    if run.bias is not None and not run.bias.of_hills:
        found["warnings"].append(
            "the bias began from OpenMM's grid, which is no sum of hills: HILLS and plumed.dat are not written"
        )
    return found


def judge_unbiased(config: MoleculeConfig, run: SeedRun) -> dict[str, Any]:
    """Return what the sampler without bias says: its draws counted."""
    s = run.draws["s"]
    s = s[torch.isfinite(s).all(1)]
    return {
        "seed": run.seed,
        "delta_f": delta_f_of_samples(s, torch.zeros(len(s)), config.states.a, config.states.b),
        "share_of_b_draws": float(inside(s, config.states.b).double().mean()),
        "energies": run.energies["total"],
        "seconds": run.seconds["total"],
    }


def combine(values: list[float], errors: list[float]) -> tuple[float, float]:
    """Return the mean over seeds and its standard error: the larger of what blocks and what seeds tell."""
    n = len(values)
    mean = sum(values) / n
    blocks = math.sqrt(sum(e**2 for e in errors)) / n
    if n == 1 or not all(math.isfinite(v) for v in values):
        return mean, blocks
    seeds = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return mean, max(blocks, seeds)


def _of_bias(config: MoleculeConfig, run: SeedRun) -> float | None:
    if run.bias is None:
        return None
    axes = [axis.grid() for axis in run.bias.axes]
    return delta_f_of_grid(run.bias.free_energy(), axes, config.states.a, config.states.b)


def _blown_up(u: Tensor) -> float:
    """Share of the chains' energies (kT) that are none, or far above the others."""
    finite = u[torch.isfinite(u)]
    return float((~(u < finite.median() + _FAR)).double().mean()) if len(finite) else 1.0


def _warnings(found: dict[str, Any]) -> list[str]:
    out = []
    if found["blown_up"] > 0:
        out.append(
            f"{found['blown_up']:.1%} of the chains' energies lie {_FAR:g} kT or more above their median: chains have"
            " blown up, and nothing here counts; take a smaller refine.step, or a longer refine.burn"
        )
    if not math.isfinite(found["delta_f"]):
        out.append("one of the two states was never seen; the free-energy difference is not known")
        return out
    if not math.isfinite(found["stderr"]):
        out.append("too few chains went from one state to the other; the standard error is not known; refine longer")
    draws, chains = found["share_of_b_draws"], found["share_of_b_chains"]
    odds = [p / (1 - p) if 0 < p < 1 else math.inf for p in (draws, chains)]
    if not all(map(math.isfinite, odds)) or not 0.5 <= odds[0] / odds[1] <= 2:
        out.append(
            f"state b holds {draws:.1%} of the sampler's draws and {chains:.1%} of the refined chains: the sampler is"
            " off, and only the refined figure counts"
        )
    if found["crossings_per_chain"] < 2:
        out.append(
            f"a chain changes state {found['crossings_per_chain']:.2f} times on average: the figure rests on few"
            " exchanges, and on each state being settled within itself; refine longer"
        )
    error = found["stderr"] if math.isfinite(found["stderr"]) else 0.0
    moved = abs(found["late"] - found["early"])
    if moved > max(4 * error, 0.2):
        out.append(f"the figure moved by {moved:.2f} kT from the first to the second half of the chains; refine longer")
    if abs(found["counted"] - found["delta_f"]) > max(3 * error, 0.2):
        out.append(
            f"frames counted give {found['counted']:.2f} kT, rates of exchange {found['delta_f']:.2f} kT: the chains"
            " remember where the sampler put them, and their histograms and samples are off by that; refine longer"
        )
    if found["ess_share"] < 0.01:
        out.append(f"the effective number of samples is {found['ess_share']:.2%} of them; the bias is far from flat")
    if found["off_grid"] > 0.01:
        out.append(f"{found['off_grid']:.1%} of the chains' states lie off the bias grid; widen it or add a wall")
    if found["failed"]:
        out.append(f"{found['failed']} energies could not be computed and were left out")
    return out
