"""Langevin steps: a corrector after each step of a solver, and a Markov chain in place of a solver's first steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise
from invdiff.solvers.ddim import DDIM

__all__ = ["DenoisingMCMC", "LangevinPC", "langevin"]


def langevin(denoise: Denoise, x: Tensor, sigma: float, snr: float, rng: Streams) -> tuple[Tensor, Tensor]:
    """``x + d (D - x)/sigma^2 + sqrt(2 d) z`` with ``d = 2 (snr sigma)^2``, a step that keeps the law of x at sigma.

    The published step has ``snr |z|/|score|`` for ``snr sigma``: the same number where the score is that of noise,
    but one that depends on chance and, taken over the batch, on the other draws. Returns x and the denoised image.
    """
    x0 = denoise(x, sigma)
    pull = 2 * snr**2
    return x.lerp(x0, pull).add(rng.normal(x), alpha=sigma * math.sqrt(2 * pull)), x0


class LangevinPC(Stepwise):
    """A step of the predictor, then `corrections` Langevin steps at the new level (none at 0).

    Source: Song et al., 2021, arXiv 2011.13456, algorithm 2 (variance-exploding), snr 0.16.
    """

    stochastic = True

    def __init__(self, predictor: Stepwise | None = None, corrections: int = 1, snr: float = 0.16) -> None:
        self.predictor = DDIM(1.0) if predictor is None else predictor
        if corrections < 1 or not 0 < snr < 0.7:
            raise InputError(f"LangevinPC got corrections = {corrections}, snr = {snr}; expected >= 1 and 0 to 0.7")
        self.corrections, self.snr, self.name = corrections, snr, f"langevin-{self.predictor.name}"
        self.evaluations_per_step = self.predictor.evaluations_per_step + corrections
        self.extra_evaluations = self.predictor.extra_evaluations

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        after = self.predictor.step(denoise, state, sigmas, rng)
        for _ in range(self.corrections if after.sigma > 0 else 0):
            after.x, _ = langevin(denoise, after.x, after.sigma, self.snr, rng)
        return after


class DenoisingMCMC(Stepwise):
    """A Markov chain at a middle noise level m makes the point from which the inner solver starts.

    The first `share` of the steps is the chain's: ``x = D(x_T, T) + m z``, then
    ``x <- D + a (x - D) + m sqrt(1 - a^2) z``, Langevin's step with the noise part integrated exactly. For a prior
    variance v the chain's variance is ``(1 + a)(v + m^2)/(2 v + (1 + a) m^2)`` of the exact one, and the draws inherit
    that: an error that no number of steps removes, small where m is well above the prior's deviation. Then the grid
    goes on below m.

    The paper draws m too, anew for each draw of a long chain, with a classifier of noise levels, and gets draws that
    depend on each other. Here m is one level of the grid and each draw has a chain of its own, so that draws stay
    independent; the chain's length is what they must be traded for.

    Source: Kim and Ye, 2022, arXiv 2209.14593, algorithm 1.
    """

    stochastic = True

    def __init__(self, inner: Stepwise, share: float = 0.4, a: float = 0.7) -> None:
        if not 0 < share < 1 or not 0 <= a < 1:
            raise InputError(f"DenoisingMCMC got share = {share}, a = {a}; expected both between 0 and 1")
        self.inner, self.share, self.a, self.name = inner, share, a, f"dmcmc-{inner.name}"
        self.evaluations_per_step, self.extra_evaluations = inner.evaluations_per_step, inner.extra_evaluations

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step of the chain, or of the inner solver."""
        length = round(self.share * state.total)
        if state.step > length:
            return self.inner.step(denoise, state, sigmas, rng)
        if state.step == length:  # the chain has no past that a multistep rule could use
            fresh = State(state.step, state.total, state.sigma, state.x)
            return self.inner.step(denoise, fresh, sigmas, rng)
        middle, a = sigmas[length], self.a if state.step else 0.0
        x0 = denoise(state.x, middle if state.step else sigmas[0])
        x = x0.lerp(state.x, a).add(rng.normal(x0), alpha=middle * math.sqrt(1 - a**2))
        return state.then(middle, x, x0)
