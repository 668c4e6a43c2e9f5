"""DAPS: decoupled noise annealing; each noise level restarts from a fresh draw of x0."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance, spread2
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import descend, start
from invdiff.samplers.likelihood import LikelihoodStep
from invdiff.schedules import karras
from invdiff.solvers import DDIM
from invdiff.solvers.base import Solver, State, steps_within

__all__ = ["DAPS"]


class DAPS:
    """At each level t: follow the probability-flow ODE from x_t to its end c; draw ``x0 ~ p(y | x0) N(x0; c, r^2)``;
    noise it to the next level, ``x_s = x0 + s n``.

    The paper takes r = t. Beyond the prior's scale that doubles the noise, so here ``r^2 = v t^2/(v + t^2)``, v the
    prior's variance, which is t^2 where t is small.

    The draw of x0 is `LikelihoodStep`: exact for a linear operator with Gaussian noise, else Metropolis-adjusted
    Langevin steps (the paper's are not adjusted) on the same density. The levels' laws would be exact if
    ``N(c, t^2)`` were ``p(x0 | x_t)``; it is not, even for a Gaussian prior, whose mean given x_t is the denoised
    image and not c. So the method is exact for no prior.

    Args:
        nfe: network evaluations in all; nfe / steps levels. The paper uses 200 levels.
        steps: evaluations of one ODE; the paper uses 5.
        sigma_max, sigma_min: ends of the annealing in units of the prior's scale; the paper has 100 and 0.1 for
            images of deviation about 0.5. None for the prior's own.
        solve, moves: see `LikelihoodStep`.
        solver: of the ODE; None for Euler, as published.

    Source: Zhang et al., 2024, arXiv 2407.01521, algorithm 1.
    """

    name, exact_for, unit, uses_vjp = "daps", "none", 1, False

    def __init__(
        self,
        nfe: int = 1000,
        steps: int = 5,
        sigma_max: float | None = None,
        sigma_min: float | None = None,
        solve: int = 50,
        moves: int = 100,
        solver: Solver | None = None,
    ) -> None:
        if nfe < 1 or steps < 1:
            raise InputError(f"DAPS got nfe = {nfe}, steps = {steps}; expected at least 1 of each")
        self.nfe, self.inner, self.sigma_max, self.sigma_min = nfe, min(steps, nfe), sigma_max, sigma_min
        self.solve, self.moves, self.solver, self.counts = solve, moves, solver or DDIM(0.0), Counts()
        steps_within(self.solver, self.inner)

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each noise level."""
        network = Guidance(prior, measurement)
        network.counts = self.counts
        likelihood = LikelihoodStep(measurement, self.solve, self.moves)
        high = prior.sigma_max if self.sigma_max is None else self.sigma_max * prior.scale
        low = prior.sigma_min if self.sigma_min is None else self.sigma_min * prior.scale
        levels = karras(low, high, max(1, self.nfe // self.inner))
        x, first = (start(like, high, rng), 0) if resume is None else (resume.x, resume.step)
        for i in range(first, len(levels) - 1):
            t, s = levels[i], levels[i + 1]
            end = descend(network, x, t, self.solver, self.inner, rng)
            x0 = likelihood(end, math.sqrt(spread2(prior, t)), rng)
            x = x0.add(rng.normal(x0), alpha=s) if s > 0 else x0
            yield State(i + 1, len(levels) - 1, s, x, x0)
