"""Start where the prior stops being Gaussian: from an exact draw of its Gaussian part's posterior."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from invdiff.guidance.base import Counts
from invdiff.guidance.declared import Declared
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.schedules import karras
from invdiff.solvers.base import Solver, State, steps_within

__all__ = ["Warm"]


class Warm:
    """Guidance by the declared covariance (`invdiff.guidance.declared.Declared`) from sigma_max of the prior down.

    Above its sigma_max the prior is its Gaussian part, whose posterior is known, so the run begins with

        x = x0 + sigma_max n,   x0 an exact draw of the Gaussian posterior,

    which is what integrating down from any higher noise level would give.

    Args:
        solver: see `invdiff.solvers`. nfe: network evaluations per draw. sigma_max: where to start, in the prior's
            unit; None for the prior's own.
    """

    exact_for, unit, uses_vjp, name = "gaussian", 1, False, "warm"

    def __init__(self, solver: Solver, nfe: int = 12, sigma_max: float | None = None) -> None:
        steps_within(solver, nfe)  # raises where it is not one step
        self.solver, self.nfe, self.sigma_max = solver, nfe, sigma_max
        self.counts = Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step of the solver."""
        guidance = Declared(prior, measurement)
        guidance.counts = self.counts
        sigmas = karras(prior.sigma_min, self.sigma_max or prior.sigma_max, steps_within(self.solver, self.nfe))
        x = like
        if resume is None:
            with torch.no_grad():
                noise = rng.normal(like.new_empty(len(like), *measurement.operator.range_shape))
                x = guidance.posterior_draw(rng.normal(like), noise) + sigmas[0] * rng.normal(like)
        yield from self.solver.steps(guidance, x, sigmas, rng, resume)
