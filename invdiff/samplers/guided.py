"""A guidance under a solver: the sampler that most methods are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import Tensor

from invdiff.guidance.base import Counts, Guidance
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.schedules import Grid, karras
from invdiff.solvers.base import Solver, State, steps_within

__all__ = ["Guided"]


class Guided:
    """Integrate the posterior denoiser ``guidance(x, sigma)`` from noise to a draw.

    Args:
        guidance: ``(prior, measurement) -> Guidance``, a class or a partial of one.
        solver: see `invdiff.solvers`.
        nfe: network evaluations per draw (the number of steps is what the solver makes of them).
        sigma_max, sigma_min: ends of the noise grid in the prior's unit; None for the prior's own.
        grid: ``(sigma_min, sigma_max, steps) -> levels``, one of `invdiff.schedules`.
        name: for results.
    """

    unit = 1

    def __init__(
        self,
        guidance: Callable[[Prior, Measurement], Guidance],
        solver: Solver,
        nfe: int = 50,
        sigma_max: float | None = None,
        sigma_min: float | None = None,
        grid: Grid = karras,
        name: str = "guided",
        exact_for: str = "none",
        uses_vjp: bool = True,
    ) -> None:
        steps_within(solver, nfe)  # raises where it is not one step
        self.guidance, self.solver, self.nfe, self.grid, self.name = guidance, solver, nfe, grid, name
        self.sigma_max, self.sigma_min = sigma_max, sigma_min
        self.exact_for, self.uses_vjp = exact_for, uses_vjp
        self.counts = Counts()

    def sigmas(self, prior: Prior, evaluations: int = 1) -> list[float]:
        """The noise levels of a run, descending, 0 last, of guidance that asks the network so many times a call."""
        steps = steps_within(self.solver, self.nfe // evaluations)
        return self.grid(self.sigma_min or prior.sigma_min, self.sigma_max or prior.sigma_max, steps)

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step of the solver."""
        guidance = self.guidance(prior, measurement)
        guidance.counts = self.counts
        guidance.begin()
        sigmas = self.sigmas(prior, guidance.evaluations)
        if resume is None:
            x = start(like, sigmas[0], rng)
        else:  # a state's memory is the solver's, then the guidance's
            own = len(resume.memory) - guidance.carries
            guidance.restore(resume.memory[own:])
            x, resume = resume.x, replace(resume, memory=resume.memory[:own])
        for state in self.solver.steps(guidance, x, sigmas, rng, resume):
            yield replace(state, memory=(*state.memory, *guidance.carried())) if guidance.carries else state
