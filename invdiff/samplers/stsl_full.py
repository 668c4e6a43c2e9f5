"""STSL with the full covariance of second-order Tweedie in place of its trace."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts
from invdiff.guidance.second_order import SecondOrder
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.schedules import karras
from invdiff.solvers import DPMpp2M
from invdiff.solvers.base import Solver, State, steps_within

__all__ = ["STSLFull"]


class STSLFull:
    """Any solver with the posterior denoiser of `invdiff.guidance.second_order.SecondOrder`, a fresh probe each call.

    Exact for Gaussian priors at many steps, as MMPS; under others the slope of the covariance, which MMPS leaves out,
    brings the draws nearer to the posterior (benchmarks/stsl_findings.py). A call costs 3 network evaluations.

    Args:
        solver: None for DPM-Solver++ 2M as an SDE.
        iterations: conjugate-gradient steps of each of the two inner systems; no more than there are data.
        width: see `SecondOrder`.
        nfe: network evaluations in all.

    Raises:
        InputError: values out of range, a nonlinear operator, or noise that is not Gaussian.
    """

    exact_for, unit, uses_vjp = "gaussian", 1, True
    name = "stsl-full"

    def __init__(self, solver: Solver | None = None, iterations: int = 5, width: float = 0.1, nfe: int = 150) -> None:
        self.solver = solver or DPMpp2M(1.0)
        if nfe < 3 * (self.solver.extra_evaluations + self.solver.evaluations_per_step):
            raise InputError(f"nfe = {nfe}; stsl-full takes 3 evaluations for each of {self.solver.name}")
        self.iterations, self.width, self.nfe, self.counts = iterations, width, nfe, Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step of the solver."""
        guidance = SecondOrder(prior, measurement, self.iterations, self.width)
        guidance.counts = self.counts
        sigmas = karras(prior.sigma_min, prior.sigma_max, steps_within(self.solver, self.nfe // 3))
        data = measurement.data[:1].expand(like.shape[0], *measurement.data.shape[1:])
        x = start(like, sigmas[0], rng) if resume is None else resume.x

        def denoise(x: Tensor, sigma: float) -> Tensor:
            return guidance.at(x, sigma, rng.normal(data))

        yield from self.solver.steps(denoise, x, sigmas, rng, resume)
