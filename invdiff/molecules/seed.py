"""One run from one seed: data to start from, training, draws, refinement. Every part is kept and gone on from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.bridges.asbs import Trainer
from invdiff.bridges.bias import Bias
from invdiff.bridges.checkpoint import load, restore_trainer, restore_walkers, save, trainer_state, walkers_state
from invdiff.bridges.internal_coordinates import Chart
from invdiff.bridges.refine import Walkers, begin, walk
from invdiff.metrics.free_energy import delta_f_of_grid, effective_size
from invdiff.molecules.parts import make_bias, make_chart, make_trainer
from invdiff.molecules.systems import Case
from invdiff.random import generator

__all__ = ["SeedRun", "run_seed"]

Progress = Callable[[dict[str, Any]], None]


@dataclass
class SeedRun:
    """What a seed gave: the bias, the sampler's draws (x, s), the chains' records ``(walkers, times, ...)``."""

    seed: int
    bias: Bias | None
    draws: dict[str, Tensor]
    chains: dict[str, Tensor]
    energies: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: int = 0
    accepted: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)


class _Keeper:
    """Counts energies and seconds over interruptions; keeps a state at most every so often."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.began = self.last = time.monotonic()
        self.counters: dict[str, Any] = {"calls": case.target.calls, "failed": 0, "seconds": 0.0}

    def found(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            return None
        tensors, counters = load(path)
        self.case.target.energy.calls, self.case.target.failed = counters["calls"], counters["failed"]
        self.began = time.monotonic() - counters["seconds"]
        return tensors, counters

    def due(self) -> bool:
        return time.monotonic() - self.last >= self.case.config.checkpoint_every

    def keep(self, name: str, tensors: dict[str, Tensor], **more: Any) -> dict[str, Any]:
        target = self.case.target
        counters = {"calls": target.calls, "failed": target.failed, "seconds": time.monotonic() - self.began, **more}
        save(self.folder / f"{name}.safetensors", tensors, counters)
        self.last = time.monotonic()
        return counters


def run_seed(case: Case, folder: Path, seed: int, biased: bool, progress: Progress) -> SeedRun:
    """Run a case from a seed in a folder, going on from what the folder holds.

    Args:
        case: see `invdiff.molecules.systems.build`; its counters are taken over.
        folder: made if absent; keeps ``start``, ``train``, ``draws`` and ``chains`` as safetensors.
        seed: of everything random.
        biased: with the configuration's bias; without it the plain sampler is trained the same way.
        progress: is told what is going on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    case.target.energy.calls = case.target.failed = 0
    keeper = _Keeper(case, folder)
    start, counters = _start(case, keeper, seed)
    chart = make_chart(case, start)
    assert case.target.variable is not None
    bias = make_bias(case.config, case.target.variable.period) if biased else None
    run = SeedRun(seed, bias, {}, {}, {"start": counters["calls"]}, {"start": counters["seconds"]})
    trainer = make_trainer(case, chart, start, bias, seed)
    counters = _train(case, keeper, trainer, run, progress)
    run.energies["training"], run.seconds["training"] = counters["calls"], counters["seconds"]
    run.draws = _draw(case, keeper, trainer, chart)
    if biased:
        counters = _refine(case, keeper, run, progress)
        run.accepted = counters["accepted"]
    run.energies["total"], run.seconds["total"] = counters["calls"], counters["seconds"]
    run.failed = counters["failed"]
    return run


def _start(case: Case, keeper: _Keeper, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Short dynamics near one configuration: data for the warm start, and scales of internal coordinates."""
    kept = keeper.found("start")
    if kept is not None:
        return kept[0]["x"], kept[1]
    entry, rng = case.config.start, generator(seed, 0)
    data = case.x[None]
    if case.config.training.warm or case.config.coordinates == "internal":
        noise = torch.randn(entry.walkers, *case.x.shape, generator=rng)
        now = begin(case.target, case.x + entry.spread * noise, entry.step, rng, case.masses)
        steps = walk(case.target, None, now, entry.steps, rng, entry.every, masses=case.masses)
        records = [record.x for k, (_, record) in enumerate(steps) if (k + 1) * entry.every > entry.skip]
        data = torch.cat(records)
    return data, keeper.keep("start", {"x": data})


def _train(case: Case, keeper: _Keeper, trainer: Trainer, run: SeedRun, progress: Progress) -> dict[str, Any]:
    kept = keeper.found("train")
    if kept is not None:
        restore_trainer(trainer, kept[0], kept[1]["done"])
        run.curve = kept[1]["curve"]
        if kept[1]["done"] == len(trainer.plan):
            return kept[1]
    for epoch in trainer.run():
        news = {
            "phase": f"{epoch.kind} {epoch.stage + 1}",
            "done": epoch.number,
            "total": epoch.total,
            "energies": epoch.energies,
            "hills": epoch.hills,
        }
        if trainer.bias is not None and epoch.kind == "adjoint":
            news |= {"delta_f": _of_bias(case, trainer.bias), "ess": _ess(trainer.bias, epoch.s)}
            run.curve.append({"energies": epoch.energies, "delta_f_kT": news["delta_f"], "phase": "bias"})
        progress(news)
        if keeper.due() and epoch.number < epoch.total:
            keeper.keep("train", trainer_state(trainer), done=trainer.done, curve=run.curve)
    return keeper.keep("train", trainer_state(trainer), done=trainer.done, curve=run.curve)


def _draw(case: Case, keeper: _Keeper, trainer: Trainer, chart: Chart | None) -> dict[str, Tensor]:
    """The sampler's own draws, in the coordinates of the energy."""
    kept = keeper.found("draws")
    if kept is not None:
        return kept[0]
    x = trainer.sample(case.config.samples)
    x = x if chart is None else chart.decode(x.double()).float()
    found = {"x": x, "s": case.target.variables(x)}
    keeper.keep("draws", found)
    return found


def _refine(case: Case, keeper: _Keeper, run: SeedRun, progress: Progress) -> dict[str, Any]:
    """Chains from the draws in the frozen bias; records are kept as they come."""
    entry, bias = case.config.refine, run.bias
    rng = generator(run.seed, 2)
    masses = case.masses if entry.method == "langevin" else None
    kept = keeper.found("chains")
    records: dict[str, list[Tensor]] = {"s": [], "u": [], "v": [], "x": []}
    burnt = done = 0
    accepted = 0.0
    if kept is not None:
        tensors, counters = kept
        burnt, done, accepted = counters["burnt"], counters["done"], counters["accepted"]
        records = {name: list(tensors[name].unbind(1)) for name in records}
        if done == entry.steps:
            run.chains = {name: tensors[name] for name in records}
            run.curve = counters["curve"]
            return counters
        rng.set_state(tensors["rng"])
        now = restore_walkers(tensors)
    else:
        x = run.draws["x"]
        possible = torch.isfinite(x).flatten(1).all(1).nonzero()[:, 0]
        rows = possible[torch.randint(len(possible), (entry.walkers,), generator=rng)]
        if len(possible) >= entry.walkers:
            rows = possible[: entry.walkers]
        now = begin(case.target, x[rows], entry.step, rng, masses)

    def keep(now: Walkers) -> dict[str, Any]:
        tensors = {name: torch.stack(value, 1) if value else torch.zeros(entry.walkers, 0) for name, value in
                   records.items()}
        tensors |= walkers_state(now) | {"rng": rng.get_state()}
        return keeper.keep("chains", tensors, burnt=burnt, done=done, accepted=accepted, curve=run.curve)

    def note(phase: str, step: int, total: int) -> None:
        news = {"phase": phase, "done": step, "total": total, "energies": case.target.calls}
        progress(news)

    if burnt < entry.burn:
        walkers = walk(case.target, bias, now, entry.burn - burnt, rng, adapt=True, masses=masses,
                       friction=entry.friction)
        for now, _ in walkers:
            burnt += 1
            note("settling", burnt, entry.burn)
            if keeper.due():
                keep(now)
    rest = walk(case.target, bias, now, entry.steps - done, rng, masses=masses, friction=entry.friction)
    for now, record in rest:
        done += 1
        accepted += (now.accepted - accepted) / done
        if done % entry.every == 0:
            for name in ("s", "u", "v"):
                records[name].append(getattr(record, name))
        if done % entry.keep == 0:
            records["x"].append(record.x)
        if done % 10 == 0:
            note("refining", done, entry.steps)
        if keeper.due() and done < entry.steps:
            keep(now)
    counters = keep(now)
    run.chains = {name: torch.stack(value, 1) for name, value in records.items()}
    return counters


def _of_bias(case: Case, bias: Bias) -> float:
    axes = [axis.grid() for axis in bias.axes]
    return delta_f_of_grid(bias.free_energy(), axes, case.config.states.a, case.config.states.b)


def _ess(bias: Bias, s: Tensor) -> float:
    s = s[torch.isfinite(s).all(1)]
    return effective_size(bias(s)[0]) / max(1, len(s)) if len(s) else 0.0
