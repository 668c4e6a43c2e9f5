"""What an active acquisition holds while it runs: the data so far, the prior in their unit, and what it has cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.policies import Belief, Candidates, Instrument
from invdiff.policies.instruments import data_of
from invdiff.posterior import Posterior
from invdiff.priors.base import Prior
from invdiff.random import Streams, generator
from invdiff.samplers.active.result import Acquisition, Decision
from invdiff.samplers.base import start
from invdiff.schedules import karras
from invdiff.solvers.base import State, steps_within
from invdiff.units import rescale, with_texture

if TYPE_CHECKING:
    from invdiff.samplers.active.loop import Active

__all__ = ["Run", "finished"]

_CHOICE, _BELIEF = 2**48, 2**49  # streams of the policies and of the particles, far from those of the draws


class Run(AbstractContextManager["Run"]):
    """The state of one acquisition; see `Active`, whose options it is given."""

    def __init__(
        self,
        options: Active,
        instrument: Instrument,
        candidates: Candidates,
        prior: Prior,
        draws: int,
        seed: int,
        device: torch.device,
        progress: bool,
        plan: Belief,
        watch: Callable[[Decision], None] | None,
    ) -> None:
        from tqdm import tqdm

        op = instrument.operator.to(device)
        if not isinstance(op, LinearOperator):
            raise InputError(f"active acquisition needs a linear operator; got {op!r}")
        prior.check(tuple(op.domain_shape), op.domain)
        self.options, self.instrument, self.candidates, self.watch = options, instrument, candidates, watch
        self.operator: LinearOperator = op
        self.bare = prior.to(device)
        self.prior, self.factor, self._frozen = self.bare, options.factor or 1.0, options.factor is not None
        self.noise: Gaussian = instrument.noise.to(device)
        self.plan = self.belief = plan
        self.order: list[int] = []
        self.decisions: list[Decision] = []
        self.counts, self.choice = Counts(), generator(seed, _CHOICE)
        self.seed, self.rng = seed, Streams(seed, range(_BELIEF, _BELIEF + draws), device)
        dtype = torch.complex64 if op.domain == "complex" else torch.float32
        self.like = torch.empty(draws, *op.domain_shape, dtype=dtype, device=device)
        kind = torch.complex64 if op.range == "complex" else torch.float32
        self.y = torch.zeros(op.range_shape, dtype=kind, device=device)
        self.bar = tqdm(total=plan.budget, desc=options.policy.name, unit="group", disable=not progress)
        self._scaled: Measurement | None = None
        self._final = 0.0

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

    @property
    def left(self) -> int:
        """How many groups may still be chosen."""
        return self.plan.budget - len(self.order)

    # ---- data --------------------------------------------------------------------------------------------------
    def take(self, groups: Sequence[int]) -> None:
        """Measure groups and add them to the data."""
        if groups:
            self.y = self.y + data_of(self.instrument, self.candidates, groups).to(self.y)
        self.order += groups
        self.belief = self.belief.after([g for g in groups if not bool(self.belief.taken[g])])
        self._scaled = None
        self.bar.update(len(groups))

    @property
    def measurement(self) -> Measurement:
        """The data so far, in the instrument's unit."""
        op, y = self.candidates.restrict(self.operator, self.y, self.order)
        noise, sigma = self.noise, self.noise.sigma
        if isinstance(sigma, Tensor) and tuple(op.range_shape) != tuple(self.operator.range_shape):
            rows = self.candidates.mask(self.order).reshape(-1).nonzero()[:, 0]
            noise = Gaussian(sigma.expand(self.operator.range_shape)[rows])
        coords = getattr(self.instrument, "coords", None)
        return Measurement(y, op, noise, coords, getattr(self.instrument, "meta", None))

    def scaled(self) -> Measurement:
        """The data so far in the prior's unit; `factor` and `prior` follow."""
        if self._scaled is None:
            found = self.measurement
            self.prior = with_texture(self.bare, found, self.options.texture) if self.options.texture else self.bare
            if not self._frozen:
                _, self.factor = rescale(found, self.bare)
            self._scaled = Measurement(found.y * self.factor, found.operator, found.noise.scaled(self.factor))  # type: ignore[attr-defined]
        return self._scaled

    def keep_factor(self) -> None:
        """Let the unit be what the data so far say, for good."""
        self.scaled()
        self._frozen = True

    # ---- sampling ----------------------------------------------------------------------------------------------
    def chain(self, x: Tensor | None, nfe: int, level: float | None = None) -> Tensor:
        """Particles under the data so far, from noise `level`, or from pure noise where x is None."""
        *_, last = self.states(x, nfe, level)
        return last.x

    def states(self, x: Tensor | None, nfe: int, level: float | None = None) -> Iterator[State]:
        """The states of a chain; data that are taken meanwhile count from the next step on."""
        self.scaled()
        top = self.prior.sigma_max if level is None else level
        sigmas = karras(self.prior.sigma_min, top, steps_within(self.options.solver, nfe))
        x = start(self.like, top, self.rng) if x is None else x
        kept: tuple[Measurement, Guidance] | None = None

        def denoise(x: Tensor, sigma: float) -> Tensor:
            nonlocal kept
            measurement = self.scaled()
            if kept is None or kept[0] is not measurement:
                guidance = self.options.guidance(self.prior, measurement)
                guidance.counts = self.counts
                guidance.begin()
                kept = measurement, guidance
            return kept[1](x, sigma)

        with torch.no_grad():
            yield from self.options.solver.steps(denoise, x, sigmas, self.rng)

    def like_before(self, x: Tensor) -> Tensor:
        """Particles of before the last decision in the unit of now."""
        before = self.factor
        self.scaled()
        return x * (self.factor / before)

    def last_chain(self, nfe: int) -> Tensor:
        """The draws in the end, of random numbers of their own: one mask means one result, however it was chosen."""
        began = time.monotonic()
        self.rng = Streams(self.seed, range(len(self.like)), self.like.device)
        x = self.chain(None, nfe)
        self._final = time.monotonic() - began
        return x

    def between(self, seconds: float) -> float:
        """Mean time from one decision to the next in a run of so many seconds."""
        decided = sum(1 for d in self.decisions if d.groups)
        return (seconds - self._final) / decided if decided else 0.0

    # ---- deciding ----------------------------------------------------------------------------------------------
    def decide(self, x: Tensor, count: int) -> bool:
        """Look at particles x, choose up to `count` groups and measure them; false if the target is met or no more."""
        began = time.monotonic()
        belief = self.belief.of_particles(x, self.operator, self.noise.scaled(self.factor))
        self.belief = replace(belief, unit=self.factor)
        met = self.options.target is not None and self.belief.uncertainty <= self.options.target
        groups: list[int] = []
        if not met and self.left:
            groups = self.options.policy(self.belief, min(count, self.left), self.choice)
        thought = time.monotonic() - began
        seen = Decision(
            groups, self.belief.entropy, self.belief.uncertainty, thought, self.counts.nfe, (x / self.factor).cpu()
        )
        self.decisions.append(seen)
        if groups:
            self.take(groups)
        if self.watch:
            self.watch(seen)
        return bool(groups)


def finished(run: Run, x: Tensor, seconds: float) -> Acquisition:
    """Gather a run's results; x are the draws in the prior's unit."""
    belief = run.belief.of_particles(x, run.operator, run.noise.scaled(run.factor))
    x = x / run.factor
    if run.operator.support is not None:
        x = x * run.operator.support
    decided = [d for d in run.decisions if d.groups]
    entropy = [d.entropy for d in run.decisions] + [belief.entropy]
    uncertainty = [d.uncertainty for d in run.decisions] + [belief.uncertainty]
    measurement = run.measurement
    between = run.between(seconds)
    diagnostics: dict[str, Any] = {
        "nfe": run.counts.nfe,
        "vjp": run.counts.vjp,
        "seconds": round(seconds, 3),
        "seconds_per_decision": between,
        "policy_seconds": sum(d.seconds for d in decided) / max(1, len(decided)),
        "entropy": entropy,
        "uncertainty": uncertainty,
        "order": run.order,
    }
    if measurement.count:
        diagnostics["chi2_ratio"] = float(measurement.chi2(x).mean()) / measurement.count
    options = run.options
    posterior = Posterior.from_draws(
        x,
        coords=measurement.coords,
        attrs={
            "sampler": options.name, "policy": options.policy.name, "mode": options.mode, "seed": run.seed,
            "budget": options.budget, "operator": repr(measurement.operator), "scale_to_prior_unit": run.factor,
            **measurement.attributes(),
            **run.bare.describe(),
        },
        diagnostics=diagnostics,
    )  # fmt: skip
    return Acquisition(
        posterior, measurement, run.candidates.mask(run.order), run.order, len(run.plan.initial), run.decisions,
        entropy, uncertainty, seconds, run.counts.nfe, run.candidates,
    )  # fmt: skip
