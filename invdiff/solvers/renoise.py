"""DiffPIR's step: towards the denoised image, with part of the noise drawn afresh."""

from __future__ import annotations

import math
from collections.abc import Sequence

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise

__all__ = ["Renoise"]


class Renoise(Stepwise):
    """``x_s = x0 + s (sqrt(1 - zeta) (x_t - x0)/t + sqrt(zeta) z)``.

    Source: Zhu et al., 2023 (DiffPIR), arXiv 2305.08995, algorithm 1, in variance-exploding form.
    """

    name = "renoise"

    def __init__(self, zeta: float = 0.3) -> None:
        if not 0 <= zeta <= 1:
            raise InputError(f"Renoise got zeta = {zeta}; it expects 0 to 1")
        self.zeta, self.stochastic = zeta, zeta > 0

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        t, s, x = sigmas[state.step], sigmas[state.step + 1], state.x
        x0 = denoise(x, t)
        x = x0 if s == 0 else x0 + (s / t) * math.sqrt(1 - self.zeta) * (x - x0)
        if s > 0 and self.zeta > 0:
            x = x.add(rng.normal(x), alpha=s * math.sqrt(self.zeta))
        return state.then(s, x, x0)
