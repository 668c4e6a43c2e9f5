"""First order: Euler (eta = 0), DDIM(eta), ancestral sampling (eta = 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise

__all__ = ["DDIM"]


class DDIM(Stepwise):
    """``x_s = x0 + sqrt(s^2 - u^2) (x_t - x0)/t + u z`` with ``u^2 = eta^2 s^2 (t^2 - s^2)/t^2``, s < t noise levels.

    eta = 0 follows the probability-flow ODE by Euler's rule; eta = 1 draws from the exact reverse transition of a
    Dirac at x0 (DDPM). Source: Song et al., 2021, arXiv 2010.02502, eq. 12, in variance-exploding form.
    """

    def __init__(self, eta: float = 1.0) -> None:
        if not 0 <= eta <= 1:
            raise InputError(f"DDIM got eta = {eta}; it expects 0 (deterministic) to 1 (ancestral)")
        self.eta, self.stochastic = eta, eta > 0
        self.name = "euler" if eta == 0 else "ddim"

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        t, s, x = sigmas[state.step], sigmas[state.step + 1], state.x
        x0 = denoise(x, t)
        fresh = self.eta * s * math.sqrt(max(0.0, 1 - (s / t) ** 2))
        kept = math.sqrt(s**2 - fresh**2) / t
        x = torch.lerp(x0, x, kept) if s > 0 else x0
        if fresh > 0:
            x = x.add_(rng.normal(x), alpha=fresh)  # lerp made it
        return state.then(s, x, x0)
