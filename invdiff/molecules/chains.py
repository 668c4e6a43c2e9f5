"""The refinement of a run: chains from the sampler's draws, first correcting the bias, then in it as it is."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.bridges.checkpoint import restore_walkers, walkers_state
from invdiff.bridges.refine import Walkers, begin, walk
from invdiff.errors import InputError
from invdiff.metrics.free_energy import delta_f_of_samples
from invdiff.metrics.rates import two_state
from invdiff.molecules.keeping import Keeper, Progress, SeedRun
from invdiff.molecules.systems import Case
from invdiff.random import generator

__all__ = ["refine"]

_POINTS = 20  # of the curve of the refined figure against energies


def refine(case: Case, keeper: Keeper, run: SeedRun, progress: Progress) -> dict[str, Any]:
    """Run the chains, keeping them now and then, and put their records into `run`; return the counters at the end.

    While they burn in the chains may deposit hills of their own (metadynamics with many walkers), so that the bias
    becomes that of the dynamics rather than of the sampler. It is frozen from then on.
    """
    entry = case.config.refine
    rng = generator(run.seed, 2)
    masses = case.heavy(entry.hydrogen_mass) if entry.method == "langevin" else None
    records: dict[str, list[Tensor]] = {"s": [], "u": [], "v": [], "x": []}
    burnt = done = 0
    accepted, marks = 0.0, []
    kept = keeper.found("chains")
    if kept is None:
        now = begin(case.target, _starts(run.draws["x"], entry.walkers, rng), entry.step, rng, masses)
    else:
        tensors, counters = kept
        burnt, done, accepted = counters["burnt"], counters["done"], counters["accepted"]
        marks = counters["marks"]
        records = {name: list(tensors[name].unbind(1)) for name in records}
        if run.bias is not None:
            run.bias.restore({k.removeprefix("bias."): v for k, v in tensors.items() if k.startswith("bias.")})
        if done == entry.steps:
            run.chains = {name: tensors[name] for name in records}
            _trace(case, run, counters)
            return counters
        rng.set_state(tensors["rng"])
        now = restore_walkers(tensors)

    def keep(now: Walkers) -> dict[str, Any]:
        tensors = _stacked(records) | walkers_state(now) | {"rng": rng.get_state()}
        if run.bias is not None:
            tensors |= {f"bias.{k}": v for k, v in run.bias.state().items()}
        return keeper.keep("chains", tensors, burnt=burnt, done=done, accepted=accepted, marks=marks)

    def note(phase: str, step: int, total: int) -> None:
        progress({"phase": phase, "done": step, "total": total, "energies": case.target.calls})

    options: dict[str, Any] = {"masses": masses, "friction": entry.friction}
    settling = walk(case.target, run.bias, now, entry.burn - burnt, rng, adapt=True, **options)
    for now, _ in settling:
        burnt += 1
        if run.bias is not None and entry.deposit_every and burnt % entry.deposit_every == 0:
            run.bias.deposit(now.found.s)
        if burnt % 10 == 0:
            note("settling", burnt, entry.burn)
        if keeper.due():
            keep(now)
    sampling = walk(case.target, run.bias, now, entry.steps - done, rng, **options)
    for now, record in sampling:
        done += 1
        accepted += (now.accepted - accepted) / done
        if done % entry.every == 0:
            for name in ("s", "u", "v"):
                records[name].append(getattr(record, name))
        if done % entry.keep == 0:
            records["x"].append(record.x)
        if done * _POINTS // entry.steps > (done - 1) * _POINTS // entry.steps:
            marks.append([done, keeper.seconds()])
        if done % 10 == 0:
            note("refining", done, entry.steps)
        if keeper.due() and done < entry.steps:
            keep(now)
    counters = keep(now)
    run.chains = _stacked(records)
    _trace(case, run, counters)
    return counters


def _starts(x: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """The first finite draws, one per chain; drawn again where there are too few."""
    possible = torch.isfinite(x).flatten(1).all(1).nonzero()[:, 0]
    if len(possible) == 0:
        raise InputError("none of the sampler's draws is finite; a smaller training.rate or training.largest may help")
    if len(possible) < count:
        possible = possible[torch.randint(len(possible), (count,), generator=rng)]
    return x[possible[:count]]


def _stacked(records: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """Records as ``(walkers, times, ...)``."""
    return {name: torch.stack(value, 1) if value else torch.zeros(0, 0) for name, value in records.items()}


def _trace(case: Case, run: SeedRun, counters: dict[str, Any]) -> None:
    """Add to the curve what the chains said so far, against the energies and seconds it took."""
    entry = case.config.refine
    a, b = case.config.states.a, case.config.states.b
    for done, seconds in counters["marks"]:
        part = done // entry.every
        if part < 2:
            continue
        value, error = two_state(run.chains["s"][:, :part], run.chains["v"][:, :part], a, b)
        if not math.isfinite(value):
            value = delta_f_of_samples(run.chains["s"][:, :part], run.chains["v"][:, :part], a, b)
        left = entry.walkers * (entry.steps - done)
        point = {"energies": counters["calls"] - left, "seconds": seconds, "delta_f_kT": value, "stderr_kT": error}
        run.curve.append(point | {"phase": "refined"})
