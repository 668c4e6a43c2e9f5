"""DualFast: a solver for the discretisation error, and against the network's own error its first answer mixed in."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise

__all__ = ["DualFast"]


class DualFast(Stepwise):
    """The inner solver on ``e' = (1 + c_i) e(x_t, t) - c_i e(x_T, T)``, ``e = (x - D)/sigma``, in place of e(x_t, t).

    A network's error grows from T, where all is noise, down to 0; the first prediction is the reference that the later
    ones are pushed away from. ``c_i = c (1 - i/n)`` falls linearly over the n steps. With an exact denoiser there is
    nothing to reduce and c > 0 leaves an error that more steps do not remove; it is for few steps.

    Source: Yu, Luo, Wang and Zhao, 2025, arXiv 2506.13058.
    """

    def __init__(self, inner: Stepwise, c: float = 0.1) -> None:
        if c < 0:
            raise InputError(f"DualFast got c = {c}; it expects 0 (the inner solver) or more")
        self.inner, self.c, self.name, self.stochastic = inner, c, f"dualfast-{inner.name}", inner.stochastic
        self.evaluations_per_step, self.extra_evaluations = inner.evaluations_per_step, inner.extra_evaluations

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step; the first noise is kept before the inner solver's memory."""
        first = [state.memory[0]] if state.memory else []
        c = self.c * (1 - state.step / state.total)

        def mixed(x: Tensor, sigma: float) -> Tensor:
            noise = (x - denoise(x, sigma)) / sigma
            if not first:
                first.append(noise)
            return x - sigma * ((1 + c) * noise - c * first[0])

        inner = State(state.step, state.total, state.sigma, state.x, state.x0, state.memory[1:])
        after = self.inner.step(mixed, inner, sigmas, rng)
        after.memory = (first[0], *after.memory)
        return after
