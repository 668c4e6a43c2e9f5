"""PnP-DM: split Gibbs sampling, a likelihood step and a denoising posterior step in turn."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import descend, start
from invdiff.samplers.likelihood import LikelihoodStep
from invdiff.solvers import DPMpp2M
from invdiff.solvers.base import Solver, State, steps_within

__all__ = ["PnPDM"]


class PnPDM:
    """Alternate ``z ~ p(y | z) N(z; x, rho^2)`` and ``x ~ p(x0 | x0 + rho n = z)`` while rho falls.

    The first draw is `LikelihoodStep`; the second integrates the reverse SDE from noise level rho to 0 at z. With rho
    held the chain's law is ``p(x) int p(y | z) N(z; x, rho^2) dz``: the posterior with a likelihood smoothed by rho,
    so that for a linear operator the noise variance becomes ``S + rho^2 A A^H``. The bias is of order rho^2.

    Args:
        nfe: network evaluations in all, shared by the iterations.
        steps: evaluations of one denoising step; None for ``sqrt(nfe / 3)`` (the paper has 100).
        rho_max, rho_min: ends of the annealing in units of the prior's scale; rho falls by the same factor at each
            iteration and stays at rho_min for the last fifth of them. Where the operator is linear and the noise
            Gaussian, rho ends no higher than 0.3 times the noise as x sees it, ``sigma / |A|``.
        solve, moves: see `LikelihoodStep`.
        solver: integrates the reverse SDE; None for DPM-Solver++(2M) with noise.

    Source: Wu et al., 2024, arXiv 2405.18782, algorithm 1.
    """

    name, exact_for, unit, uses_vjp = "pnpdm", "none", 1, False

    def __init__(
        self,
        nfe: int = 1000,
        steps: int | None = None,
        rho_max: float = 1.0,
        rho_min: float = 0.02,
        solve: int = 50,
        moves: int = 100,
        solver: Solver | None = None,
    ) -> None:
        steps = max(2, round(math.sqrt(nfe / 3))) if steps is None else steps
        if not 0 < rho_min <= rho_max or nfe < 1 or steps < 1:
            raise InputError(
                f"PnPDM got rho {rho_max} to {rho_min}, nfe = {nfe}, steps = {steps}; expected"
                " 0 < rho_min <= rho_max and at least 1 evaluation and 1 step"
            )
        self.nfe, self.inner, self.rho_max, self.rho_min = nfe, min(steps, nfe), rho_max, rho_min
        self.solve, self.moves, self.solver, self.counts = solve, moves, solver or DPMpp2M(1.0), Counts()
        steps_within(self.solver, self.inner)

    def rhos(self, prior: Prior, measurement: Measurement) -> list[float]:
        """rho of each iteration, in the unit of x."""
        total = max(1, self.nfe // self.inner)
        falling = max(1, math.ceil(0.8 * total) - 1)
        high, low = self.rho_max * prior.scale, self.rho_min * prior.scale
        if isinstance(measurement.operator, LinearOperator) and isinstance(measurement.noise, Gaussian):
            quietest = torch.as_tensor(measurement.noise.sigma).min()
            low = min(low, 0.3 * float(quietest) / max(measurement.operator.norm(), 1e-30))
        return [high * (low / high) ** min(1.0, k / falling) for k in range(total)]

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each iteration."""
        network = Guidance(prior, measurement)
        network.counts = self.counts
        likelihood = LikelihoodStep(measurement, self.solve, self.moves)
        rhos = self.rhos(prior, measurement)
        x, first = (start(like, rhos[0], rng), 0) if resume is None else (resume.x, resume.step)
        for k in range(first, len(rhos)):
            z = likelihood(x, rhos[k], rng)
            x = descend(network, z, rhos[k], self.solver, self.inner, rng)
            yield State(k + 1, len(rhos), rhos[k], x, x)
