"""Active: choose what to measure next while the posterior is sampled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from invdiff.errors import InputError, UnknownNameError
from invdiff.guidance.base import Guidance
from invdiff.guidance.mmps import MMPS
from invdiff.measurement import Measurement
from invdiff.policies import Belief, Candidates, Entropy, Instrument, Policy
from invdiff.priors.base import Prior
from invdiff.samplers.active.result import Acquisition, Decision
from invdiff.samplers.active.run import Run, finished
from invdiff.solvers.base import Solver, State
from invdiff.solvers.ddim import DDIM

__all__ = ["MODES", "Active"]

MODES = ("renoise", "resample", "online")
GUIDANCE = partial(MMPS, iterations=3)
Watch = Callable[[Decision], None]


class Active:
    """Particles track the belief, a policy picks the next groups of data, the instrument is asked, sampling goes on.

    ``x_1..N ~ p(x | data of the beginning)``; then, until the budget is spent or the target met,

    - decide: groups = policy(particles' predictions); their data join the others;
    - ``renoise``: ``x_i <- x_i + sigma n``, sigma = `lift` times the prior's scale, and back to 0 in `inner`
      evaluations under all data so far; ``resample``: anew from sigma_max in `inner` evaluations; ``online``: the one
      chain of `nfe` evaluations goes on, decisions fall evenly on the part `window` of its steps, and the particles are
      the denoised images of the moment.

    In the first two modes a chain of `nfe` evaluations from pure noise under all data makes the draws, so that they owe
    nothing to how the data were chosen; the draws of `online` are its particles.

    It is not a `Sampler` of `invdiff.sample`: that conditions on all of one measurement, here the data come to be on
    the way, all particles are one population, and the mask is part of the answer. `run` is its door.

    Why `renoise` is the default. While x is mostly noise, denoised images are near the prior's mean and alike, so that
    `online` decides on little. One blob at one of 100 places, 9 of 144 pixels, exact prior, relative squared error:
    random 0.25, fixed greedy design 0.19, online 0.29, resample 0.014, renoise 0.024 with a lift of 3 and 0.21 with 1.4
    (from where the particles do not leave their modes). Real slices: ``benchmarks/results/active.json``.

    Args:
        guidance: ``(prior, measurement) -> Guidance``, of particles and draws. Decisions are as good as the particles:
            with DDS, at a third of the cost, adaptive masks of real slices gain half as much over fixed ones.
        solver: see `invdiff.solvers`; DDIM(0.85) if not given.
        policy: see `invdiff.policies`; `Entropy` if not given. A policy that looks at places only takes all its groups
            at once, before any sampling (not if there is a target).
        budget: groups in all, those of the beginning among them.
        mode: "renoise", "resample" or "online".
        initial: groups measured before the first decision. A prior of relative unit needs some: the size of x is
            read from the data.
        per_decision: groups chosen together.
        nfe, inner, lift, window: see above.
        target: stop when the particles' expected relative error (`Belief.uncertainty`) is at most this.
        texture: see `invdiff.priors.textured`, in units of the noise; for network priors of relative unit.
        factor: prior's unit over that of x; None to read it from the data so far, anew after each decision (`online`:
            from those of the beginning).

    Raises:
        InputError, UnknownNameError: an option is out of its range.

    Source: Nolan, Stevens, van Nierop and van Sloun, 2025, TMLR, arXiv 2406.14388, algorithm 1 (`online`).
    """

    name = "active"

    def __init__(
        self,
        guidance: Callable[[Prior, Measurement], Guidance] = GUIDANCE,
        solver: Solver | None = None,
        policy: Policy | None = None,
        budget: int = 16,
        mode: str = "renoise",
        *,
        initial: Sequence[int] = (),
        per_decision: int = 1,
        nfe: int = 20,
        inner: int = 6,
        lift: float = 4.0,
        window: tuple[float, float] = (0.0, 0.5),
        target: float | None = None,
        texture: float = 0.0,
        factor: float | None = None,
    ) -> None:
        if mode not in MODES:
            raise UnknownNameError(f"no mode {mode!r}; known: {', '.join(MODES)}")
        if min(budget, per_decision, nfe, inner) < 1 or not lift > 0:
            raise InputError(
                f"Active got budget = {budget}, per_decision = {per_decision}, nfe = {nfe}, inner = {inner}, lift ="
                f" {lift}; expected at least 1, and a lift above 0"
            )
        if mode == "online" and nfe < 2:
            raise InputError("online decisions fall between steps; nfe = 1 has none, expected at least 2")
        if not 0 <= window[0] < window[1] <= 1:
            raise InputError(f"Active got window = {window}; expected 0 <= first < last <= 1")
        if target is not None and not 0 < target < 1:
            raise InputError(f"Active got target = {target}; expected a relative error between 0 and 1")
        if factor is not None and not (factor > 0 and math.isfinite(factor)):
            raise InputError(f"Active got factor = {factor}; expected a number above 0")
        self.guidance, self.solver = guidance, solver or DDIM(0.85)
        self.policy: Policy = policy or Entropy()
        self.budget, self.mode, self.initial, self.per_decision = budget, mode, tuple(initial), per_decision
        self.nfe, self.inner, self.lift, self.window = nfe, inner, lift, window
        self.target, self.texture, self.factor = target, texture, factor

    def run(
        self,
        instrument: Instrument,
        candidates: Candidates,
        prior: Prior,
        draws: int = 16,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        progress: bool = True,
        watch: Watch | None = None,
    ) -> Acquisition:
        """Acquire and sample; `watch` is called after each decision.

        Args:
            instrument: see `invdiff.policies.instruments`.
            candidates: groups of the range of its operator.
            prior: see `Prior`.
            draws: particles, and draws in the end; at least 2, and 8 to 32 where a policy looks at them.
            seed: of everything random here, the policy included.

        Raises:
            InputError, ShapeError, DTypeError: see the message.
        """
        if draws < 2:
            raise InputError(f"draws = {draws}; a population needs at least 2 particles, better 8 to 32")
        began = time.monotonic()
        plan = Belief.plan(candidates, self.initial, self.budget)
        with Run(self, instrument, candidates, prior, draws, seed, torch.device(device), progress, plan, watch) as run:
            run.take(list(plan.initial))
            if not self.policy.needs_belief and self.target is None:
                run.take(self.policy(run.belief, self.budget - len(plan.initial), run.choice))
                x = run.last_chain(self.nfe)
            elif self.mode == "online":
                x = self._online(run)
            else:
                x = self._decide(run)
            return finished(run, x, time.monotonic() - began)

    def _decide(self, run: Run) -> torch.Tensor:
        """The loop of `renoise` and `resample`."""
        x = run.chain(None, self.nfe if self.mode == "renoise" else self.inner)
        while run.decide(x, self.per_decision):
            if not run.left:
                break
            if self.mode == "renoise":
                level = self.lift * run.prior.scale
                x = run.chain(run.like_before(x) + level * run.rng.normal(x), self.inner, level)
            else:
                x = run.chain(None, self.inner)
        return run.last_chain(self.nfe)

    def _online(self, run: Run) -> torch.Tensor:
        """One reverse diffusion, with decisions on the way."""
        run.keep_factor()
        state: State | None = None
        decisions = math.ceil(run.left / self.per_decision)
        done = 0
        for state in run.states(None, self.nfe):
            if state.x0 is None:
                raise InputError(f"solver {self.solver.name} shows no denoised image; online decisions need one")
            high = min(self.window[1] * state.total, state.total - 1)  # what is measured at the last step is not used
            low = min(self.window[0] * state.total, high - 1)
            due = math.ceil(decisions * min(1.0, max(0.0, (state.step - low) / (high - low))))
            if due > done and run.left:
                wanted = (due - done) * self.per_decision
                done = due if run.decide(state.x0, wanted) else decisions
        if state is None:
            raise InputError("the solver made no step")
        return state.x
