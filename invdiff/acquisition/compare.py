"""One policy, and others at the same budget, scored alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.acquisition.subject import Subject
from invdiff.errors import InputError
from invdiff.guidance import DDS
from invdiff.measurement import Measurement
from invdiff.metrics.image import nmse, ssim
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.policies import Candidates, Fixed, Oracle, Policy, greedy_design, named_policy
from invdiff.policies import policy_names as _names
from invdiff.priors.base import Prior
from invdiff.samplers.active import Acquisition, Active, load_order
from invdiff.samplers.guided import Guided
from invdiff.sampling import sample
from invdiff.solvers import DDIM
from invdiff.units import rescale

__all__ = ["Comparison", "acquire", "policy_names", "prior_draws"]

PRIOR = 2**32 + 5  # a seed far from those of the draws
DRAWS, STEPS = 32, 20  # of the prior, for the fixed design
LIFT = 1.0  # lines of anatomy: particles that are lifted little differ where the data are silent


@dataclass
class Comparison:
    """What `acquire` made: an acquisition for each policy, the one that was asked for first, and the figures."""

    runs: dict[str, Acquisition]
    reference: Tensor
    figures: dict[str, Any] = field(default_factory=dict)


def policy_names() -> list[str]:
    """The names that `acquire` takes; a mask file is taken, too."""
    return [*_names(), "fixed", "oracle"]


def acquire(
    subject: Subject,
    prior: Prior,
    policy: str = "entropy",
    compare: Sequence[str] = (),
    *,
    acceleration: float = 8.0,
    mode: str = "renoise",
    draws: int = 16,
    nfe: int = 16,
    inner: int = 4,
    initial: int | None = None,
    per_decision: int | None = None,
    target: float | None = None,
    axis: int = -1,
    texture: float = 0.0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
    report: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Acquire by a policy, and at the same budget by others, and score them all.

    Args:
        subject: see `from_file`.
        prior: of images like it.
        policy, compare: names (`policy_names`) or mask files of earlier runs.
        acceleration: lines that exist over lines that are measured.
        mode, draws, nfe, inner, texture: see `Active`.
        initial: lines in the centre to begin with (of a mask file, its first); a quarter of the budget if not given.
        per_decision: lines chosen together; as many as make six decisions or so if not given.
        target: stop when the expected relative error is this; the others then get what the policy took.
        axis: of the k-space, along which lines are counted: -1 for columns.
        seed, device, progress: as in `invdiff.sample`.
        report: told what is being done.

    Raises:
        InvdiffError: see the message.
    """
    op, noise = subject.instrument.operator, subject.instrument.noise
    candidates = Candidates.along(op, axis)
    exist = int(candidates.exists.sum())
    kept = {name: load_order(name, candidates) for name in (policy, *compare) if Path(name).suffix in (".npz", ".npy")}
    budget = round(exist / acceleration) if acceleration >= 1 else 0
    if policy in kept:
        budget = len(kept[policy])
        report(f"{policy}: {budget} lines, as it has them, for all")
    for name, order in kept.items():
        if len(order) != budget:
            raise InputError(f"{name} has {len(order)} lines, the budget is {budget}; compare masks of one size")
    if budget < 1:
        raise InputError(f"acceleration {acceleration:g} of {exist} lines leaves {budget}; expected at least 1 line")
    first = max(1, budget // 4) if initial is None else initial
    if not 0 <= first <= budget:
        raise InputError(f"initial = {first} lines of a budget of {budget}")
    centre = _central(candidates, first)
    step = max(1, math.ceil((budget - first) / 6)) if per_decision is None else per_decision
    runs: dict[str, Acquisition] = {}
    designed: Fixed | None = None
    for name in dict.fromkeys([policy, *compare]):
        if name == "fixed" and designed is None:
            report(f"fixed: a greedy design from {DRAWS} draws of the prior")
            factor = rescale(_whole(subject, centre, candidates), prior)[1]
            x = prior_draws(prior, op, DRAWS, seed, device, progress)
            designed = greedy_design(x, op, noise.scaled(factor), candidates, budget, centre)
        chosen: Policy = (
            designed if name == "fixed" and designed is not None
            else Fixed(kept[name], Path(name).stem) if name in kept
            else Oracle(subject.reference) if name == "oracle"
            else named_policy(name)
        )  # fmt: skip
        active = Active(
            policy=chosen, budget=budget, mode=mode, initial=kept.get(name, centre)[:first],
            per_decision=step, nfe=nfe, inner=inner, lift=LIFT, target=target if not runs else None, texture=texture,
        )  # fmt: skip
        label = next(k for k in (chosen.name, name, f"{name} (policy)") if k not in runs)
        runs[label] = active.run(
            subject.instrument, candidates, prior, draws, seed=seed, device=device, progress=progress
        )
        if target is not None and len(runs) == 1:
            budget = len(runs[label].order)  # the same for the others
    done = Comparison(runs, subject.reference)
    done.figures = figures(done, subject) | {
        "policy": next(iter(runs)), "acceleration": exist / len(next(iter(runs.values())).order), "mode": mode,
        "budget": budget, "initial": first, "per_decision": step, "draws": draws, "seed": seed, "target": target,
        **subject.meta,
    }  # fmt: skip
    return done


def figures(done: Comparison, subject: Subject) -> dict[str, Any]:
    """Scores by policy, and of the first what was chosen and how long it took."""
    main = next(iter(done.runs.values()))
    means = {name: torch.from_numpy(run.posterior.mean().values) for name, run in done.runs.items()}
    return {
        "nmse": {name: nmse(subject.reference, x) for name, x in means.items()},
        "ssim": {name: ssim(subject.reference, x) for name, x in means.items()},
        "entropy": {name: run.entropy[-1] for name, run in done.runs.items()},
        "expected_error": {name: run.uncertainty[-1] for name, run in done.runs.items()},
        "lines": main.order,
        "entropy_after_each_decision": main.entropy,
        "seconds_per_decision": main.seconds_per_decision,
        "policy_seconds": main.posterior.diagnostics["policy_seconds"],
        "seconds": {name: round(run.seconds, 2) for name, run in done.runs.items()},
        "nfe": {name: run.nfe for name, run in done.runs.items()},
    }


def prior_draws(
    prior: Prior, op: LinearOperator, count: int, seed: int = 0, device: str | torch.device = "cpu",
    progress: bool = True,
) -> Tensor:  # fmt: skip
    """Draws of the prior ``(count, *event)`` in its own unit: what its sampler makes of no data."""
    nothing = Measurement(
        torch.zeros(op.range_shape, dtype=torch.complex64 if op.range == "complex" else torch.float32), op,
        Gaussian(1e4 * prior.scale),
    )  # fmt: skip
    units, prior.units = prior.units, None  # data of zeros have no scale
    try:
        method = Guided(DDS, DDIM(0.85), nfe=STEPS, uses_vjp=False, name="draws of the prior")
        found = sample(nothing, prior, method, count, seed=PRIOR + seed, device=device, progress=progress)
    finally:
        prior.units = units
    return torch.from_numpy(found.draws.values)


def _central(candidates: Candidates, count: int) -> list[int]:
    free, chosen = candidates.exists.clone(), []
    for _ in range(count):
        chosen.append(candidates.nearest_centre(free))
        free[chosen[-1]] = False
    return chosen


def _whole(subject: Subject, groups: Sequence[int], candidates: Candidates) -> Measurement:
    """The measurement of the first lines: what the prior's unit is read from."""
    if not groups:
        raise InputError("the fixed design needs the unit of x, which is read from initial lines: at least 1 of them")
    some, y = candidates.restrict(subject.instrument.operator, subject.instrument.y, groups)
    return Measurement(y, some, subject.instrument.noise)
