"""First order: Euler (eta = 0), DDIM(eta), ancestral sampling (eta = 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State

__all__ = ["DDIM"]


class DDIM:
    """``x_s = x0 + sqrt(s^2 - u^2) (x_t - x0)/t + u z`` with ``u^2 = eta^2 s^2 (t^2 - s^2)/t^2``, s < t noise levels.

    eta = 0 follows the probability-flow ODE by Euler's rule; eta = 1 draws from the exact reverse transition of a
    Dirac at x0 (DDPM). Source: Song et al., 2021, arXiv 2010.02502, eq. 12, in variance-exploding form.
    """

    evaluations_per_step = 1

    def __init__(self, eta: float = 1.0) -> None:
        if not 0 <= eta <= 1:
            raise InputError(f"DDIM got eta = {eta}; it expects 0 (deterministic) to 1 (ancestral)")
        self.eta = eta
        self.name = "euler" if eta == 0 else "ddim"

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
            fresh = self.eta * s * math.sqrt(max(0.0, 1 - (s / t) ** 2))
            kept = math.sqrt(s**2 - fresh**2) / t
            x = x0 + kept * (x - x0) if s > 0 else x0
            if fresh > 0:
                x = x.add(rng.normal(x), alpha=fresh)
            yield State(i + 1, total, s, x, x0)
