"""What every sampler is: something that yields states until the draws are made, and says what it costs and claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from invdiff.guidance.base import Counts
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.solvers.base import State

__all__ = ["Sampler", "start"]


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
