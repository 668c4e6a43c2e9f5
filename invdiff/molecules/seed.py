"""One run from one seed: data to start from, training, draws, refinement. Every part is kept and gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.bridges.asbs import Trainer
from invdiff.bridges.bias import Bias
from invdiff.bridges.checkpoint import restore_trainer, trainer_state
from invdiff.bridges.internal_coordinates import Chart
from invdiff.bridges.refine import begin, walk
from invdiff.metrics.free_energy import delta_f_of_grid, effective_size
from invdiff.molecules.chains import refine
from invdiff.molecules.keeping import Keeper, Progress, SeedRun
from invdiff.molecules.parts import make_bias, make_chart, make_trainer
from invdiff.molecules.systems import Case
from invdiff.random import generator

__all__ = ["SeedRun", "run_seed"]


def run_seed(case: Case, folder: Path, seed: int, progress: Progress, plain: bool = False) -> SeedRun:
    """Run a case from a seed in a folder, going on from what the folder holds.

    Args:
        case: see `invdiff.molecules.systems.build`; its counters are taken over.
        folder: made if absent; keeps ``start``, ``train``, ``draws`` and ``chains`` as safetensors.
        seed: of everything random.
        progress: is told what is going on.
        plain: the sampler without the configuration's bias, trained the same way, and without chains from its draws.
    """
    folder.mkdir(parents=True, exist_ok=True)
    case.target.energy.calls = case.target.failed = 0
    keeper = Keeper(case, folder)
    start, counters = _start(case, keeper, seed)
    chart = make_chart(case, start)
    assert case.target.variable is not None
    bias = None if plain else make_bias(case.config, case.target.variable.period)
    run = SeedRun(seed, bias, {}, {}, {"start": counters["calls"]}, {"start": counters["seconds"]})
    trainer = make_trainer(case, chart, start, bias, seed)
    counters = _train(case, keeper, trainer, run, progress)
    run.energies["training"], run.seconds["training"] = counters["calls"], counters["seconds"]
    run.draws = _draw(case, keeper, trainer, chart)
    if not plain:
        counters = refine(case, keeper, run, progress)
        run.accepted = counters["accepted"]
    run.energies["total"], run.seconds["total"] = counters["calls"], counters["seconds"]
    run.failed = counters["failed"]
    return run


def _start(case: Case, keeper: Keeper, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Short dynamics near one configuration: data for the warm start, and scales of internal coordinates."""
    kept = keeper.found("start")
    if kept is not None:
        return kept[0]["x"], kept[1]
    entry, rng = case.config.start, generator(seed, 0)
    data = case.x[None]
    if case.config.training.warm or case.config.coordinates == "internal":
        noise = torch.randn(entry.walkers, *case.x.shape, generator=rng)
        masses = case.heavy(entry.hydrogen_mass)
        now = begin(case.target, case.x + entry.spread * noise, entry.step, rng, masses)
        steps = walk(case.target, None, now, entry.steps, rng, entry.every, masses=masses)
        records = [record.x for k, (_, record) in enumerate(steps) if (k + 1) * entry.every > entry.skip]
        data = torch.cat(records)
    return data, keeper.keep("start", {"x": data})


def _train(case: Case, keeper: Keeper, trainer: Trainer, run: SeedRun, progress: Progress) -> dict[str, Any]:
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
            point = {"energies": epoch.energies, "seconds": keeper.seconds(), "delta_f_kT": news["delta_f"]}
            run.curve.append(point | {"phase": "bias"})
        progress(news)
        if keeper.due() and epoch.number < epoch.total:
            keeper.keep("train", trainer_state(trainer), done=trainer.done, curve=run.curve)
    return keeper.keep("train", trainer_state(trainer), done=trainer.done, curve=run.curve)


def _draw(case: Case, keeper: Keeper, trainer: Trainer, chart: Chart | None) -> dict[str, Tensor]:
    """The sampler's own draws, in the coordinates of the energy."""
    kept = keeper.found("draws")
    if kept is not None:
        return kept[0]
    x = trainer.sample(case.config.samples)
    x = x if chart is None else chart.decode(x.double()).float()
    found = {"x": x, "s": case.target.variables(x)}
    keeper.keep("draws", found)
    return found


def _of_bias(case: Case, bias: Bias) -> float:
    axes = [axis.grid() for axis in bias.axes]
    return delta_f_of_grid(bias.free_energy(), axes, case.config.states.a, case.config.states.b)


def _ess(bias: Bias, s: Tensor) -> float:
    s = s[torch.isfinite(s).all(1)]
    return effective_size(bias(s)[0]) / max(1, len(s)) if len(s) else 0.0
