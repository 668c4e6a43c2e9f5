"""DiffPIR's step: towards the denoised image, with part of the noise drawn afresh."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State

__all__ = ["Renoise"]


class Renoise:
    """``x_s = x0 + s (sqrt(1 - zeta) (x_t - x0)/t + sqrt(zeta) z)``.

    Source: Zhu et al., 2023 (DiffPIR), arXiv 2305.08995, algorithm 1, in variance-exploding form.
    """

    name = "renoise"
    evaluations_per_step = 1

    def __init__(self, zeta: float = 0.3) -> None:
        if not 0 <= zeta <= 1:
            raise InputError(f"Renoise got zeta = {zeta}; it expects 0 to 1")
        self.zeta = zeta

    def steps(
        self, denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step."""
        total, first = len(sigmas) - 1, 0
        if resume is not None:
            x, first = resume.x, resume.step
        for i in range(first, total):
            t, s = sigmas[i], sigmas[i + 1]
            x0 = denoise(x, t)
            x = x0 if s == 0 else x0 + (s / t) * math.sqrt(1 - self.zeta) * (x - x0)
            if s > 0 and self.zeta > 0:
                x = x.add(rng.normal(x), alpha=s * math.sqrt(self.zeta))
            yield State(i + 1, total, s, x, x0)
