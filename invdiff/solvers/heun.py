"""Second order, two evaluations a step: Heun's rule on the probability-flow ODE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State

__all__ = ["Heun"]


class Heun:
    """``d = (x - D(x,t))/t``, Euler to s, then the mean of both slopes; the last step to 0 is Euler's.

    Source: Karras et al., 2022, arXiv 2206.00364, algorithm 1. A run of n steps costs 2 n - 1 evaluations.
    """

    name = "heun"
    evaluations_per_step = 2

    def steps(
        self, denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step."""
        del rng
        total, first = len(sigmas) - 1, 0
        if resume is not None:
            x, first = resume.x, resume.step
        for i in range(first, total):
            t, s = sigmas[i], sigmas[i + 1]
            x0 = denoise(x, t)
            if s == 0:
                x = x0
            else:
                slope = (x - x0) / t
                end = x + (s - t) * slope
                x0 = denoise(end, s)
                x = x + (s - t) / 2 * (slope + (end - x0) / s)
            yield State(i + 1, total, s, x, x0)
