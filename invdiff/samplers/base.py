"""What every sampler is: something that yields states until the draws are made, and says what it costs and claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from invdiff.guidance.base import Counts, Guidance
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.schedules import karras
from invdiff.solvers.base import Solver, State, steps_within

__all__ = ["Sampler", "descend", "start"]


class Sampler(Protocol):
    """A posterior sampler.

    Attributes:
        name: what it is called at the command line and in results.
        exact_for: the priors it is exact for at infinitely many steps: "gaussian", "any" or "none".
        unit: number of draws that depend on each other (1, or a population's size).
        uses_vjp: whether it differentiates the network.
        counts: network evaluations and vector-Jacobian products of the run so far (each for the whole batch).
    """

    name: str
    exact_for: str
    unit: int
    uses_vjp: bool
    counts: Counts

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield states for draws of the shape, dtype and device of `like` ``(N, *event)``; the last x is the draws."""
        ...


def start(like: Tensor, sigma: float, rng: Streams) -> Tensor:
    """Pure noise of standard deviation `sigma` per real component."""
    with torch.no_grad():
        return sigma * rng.normal(like)


def descend(network: Guidance, x: Tensor, level: float, solver: Solver, nfe: int, rng: Streams) -> Tensor:
    """Take x from noise level `level` to 0 with `nfe` evaluations of the prior alone, on a grid of its own."""
    low = min(network.prior.sigma_min, level / 10)
    for state in solver.steps(network.denoise, x, karras(low, level, steps_within(solver, nfe)), rng):
        x = state.x
    return x
