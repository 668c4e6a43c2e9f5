"""Second order, two evaluations a step: Heun's rule on the probability-flow ODE."""

from __future__ import annotations

from collections.abc import Sequence

from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise

__all__ = ["Heun"]


class Heun(Stepwise):
    """``d = (x - D(x,t))/t``, Euler to s, then the mean of both slopes; the last step to 0 is Euler's.

    Source: Karras et al., 2022, arXiv 2206.00364, algorithm 1. A run of n steps costs 2 n - 1 evaluations.
    """

    name = "heun"
    evaluations_per_step = 2

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        del rng
        t, s, x = sigmas[state.step], sigmas[state.step + 1], state.x
        x0 = denoise(x, t)
        if s == 0:
            return state.then(s, x0, x0)
        slope = (x - x0) / t
        end = x + (s - t) * slope
        x0 = denoise(end, s)
        return state.then(s, x + (s - t) / 2 * (slope + (end - x0) / s), x0)
