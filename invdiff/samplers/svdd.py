"""SVDD: soft value-based decoding, guidance by choosing among children; for operators without a derivative."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.schedules import karras
from invdiff.solvers.base import State

__all__ = ["SVDD"]


class SVDD:
    """At each step draw M children of x_t from the reverse transition and keep one, by the value of each.

    ``x_s = D(x_t) + (s/t)^2 (x_t - D(x_t)) + s sqrt(1 - (s/t)^2) n``, chosen with probability ``~ exp(v(x_s)/alpha)``,
    ``v(x_s) = log p(y | x0 = D(x_s))``. The chosen child's denoised image serves the next step, so a step costs M
    evaluations. A is only evaluated. The choice is importance sampling among M at each step by itself, and v takes a
    point for a distribution: exact for no prior, and biased at finite M even with the exact value.

    Args:
        nfe: network evaluations in all, ``1 + M (levels - 1)``.
        children: M; the paper uses 10 to 40.
        alpha: temperature; 1 aims at the posterior.

    Source: Li et al., 2024, arXiv 2408.08252, algorithm 1 with the posterior-mean value (SVDD-PM).
    """

    name, exact_for, unit, uses_vjp = "svdd", "none", 1, False

    def __init__(self, nfe: int = 1000, children: int = 20, alpha: float = 1.0) -> None:
        if nfe < 1 or children < 1 or alpha <= 0:
            raise InputError(
                f"SVDD got nfe = {nfe}, children = {children}, alpha = {alpha}; expected at least 1, 1 and above 0"
            )
        self.nfe, self.children, self.alpha, self.counts = nfe, children, alpha, Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each level."""
        network = Guidance(prior, measurement)
        network.counts = self.counts
        # A step to level s needs the child's denoised image; that of the last level is the draw.
        levels = karras(prior.sigma_min, prior.sigma_max, 1 + (self.nfe - 1) // self.children)[:-1]
        if resume is None:
            x = start(like, levels[0], rng)
            state = State(1, len(levels), levels[0], x, network.denoise(x, levels[0]))
        else:
            state = resume
        if len(levels) == 1:
            assert state.x0 is not None
            yield State(1, 1, 0.0, state.x0, state.x0)
        while state.step < len(levels):
            t, s = levels[state.step - 1], levels[state.step]
            assert state.x0 is not None
            x, x0 = self._choose(network, state.x, state.x0, t, s, rng)
            last = state.step + 1 == len(levels)
            state = State(state.step + 1, len(levels), 0.0 if last else s, x0 if last else x, x0)
            yield state

    def _choose(
        self, network: Guidance, x: Tensor, x0: Tensor, t: float, s: float, rng: Streams
    ) -> tuple[Tensor, Tensor]:
        """One of M children, with its denoised image: the one of the largest ``v/alpha`` plus Gumbel noise."""
        mean = x0 + (s / t) ** 2 * (x - x0)
        best = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        chosen, image = x, x0
        for _ in range(self.children):
            child = mean.add(rng.normal(x), alpha=s * math.sqrt(1 - (s / t) ** 2))
            denoised = network.denoise(child, s)
            value = network.measurement.log_likelihood(denoised).double() / self.alpha
            gumbel = -torch.log(-torch.log(rng.uniform(best[:, None].clone())[:, 0].clamp(1e-300, 1 - 1e-16)))
            take = value + gumbel > best
            best = torch.where(take, value + gumbel, best)
            wide = take.reshape(-1, *[1] * (x.ndim - 1))
            chosen, image = torch.where(wide, child, chosen), torch.where(wide, denoised, image)
        return chosen, image
