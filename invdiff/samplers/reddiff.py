"""RED-diff: one image fitted to the data and to the denoiser by stochastic gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance
from invdiff.linalg import power_norm
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.solvers.base import State

__all__ = ["REDDiff"]

BETAS, EPSILON = (0.9, 0.99), 1e-8


class REDDiff:
    """Adam on mu with the gradient ``A'(mu)^H (A(mu) - y)/|A|^2 + lambda sigma (eps(mu + sigma e) - e)``.

    ``eps(x) = (x - D(x))/sigma`` is the network's noise, e the noise that was added, so the second part is
    ``lambda (mu - D(mu + sigma e))``; sigma runs down from the largest level to the smallest. Lengths are in units of
    the prior's scale. The result is a point near a mode, not a draw: its spread over draws is that of the
    optimiser, and the noise level of the data is not used, as published.

    Args:
        nfe: number of steps; the paper uses 1000.
        weight: lambda; the paper uses 0.25.
        rate: Adam's step in units of the prior's scale; the paper uses 0.1.

    Source: Mardani, Song, Kautz and Vahdat, 2023, arXiv 2305.04391, algorithm 1.
    """

    name, exact_for, unit, uses_vjp = "reddiff", "none", 1, False

    def __init__(self, nfe: int = 1000, weight: float = 0.25, rate: float = 0.1) -> None:
        if nfe < 1 or weight <= 0 or rate <= 0:
            raise InputError(f"REDDiff got nfe = {nfe}, weight = {weight}, rate = {rate}; expected values above 0")
        self.nfe, self.weight, self.rate, self.counts = nfe, weight, rate, Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step; its memory holds Adam's two averages."""
        network = Guidance(prior, measurement)
        network.counts = self.counts
        sigmas = _levels(prior, self.nfe)
        if resume is None:
            mu, size2 = _begin(measurement, like, prior.scale, rng)
            state = State(0, self.nfe, sigmas[0], mu, None, (torch.zeros_like(mu), torch.zeros_like(mu.real), size2))
        else:
            state = resume
        while state.step < self.nfe:
            mu, (mean, square, size2) = state.x, state.memory
            sigma = sigmas[state.step]
            x0 = network.denoise(mu.add(rng.normal(mu), alpha=sigma), sigma)
            gradient = misfit_gradient(measurement, mu) / size2 + self.weight * (mu - x0)
            k = state.step + 1
            mean = mean.lerp(gradient, 1 - BETAS[0])
            square = square.lerp(gradient.abs() ** 2, 1 - BETAS[1])
            height = (square / (1 - BETAS[1] ** k)).sqrt() + EPSILON * prior.scale
            mu = mu - self.rate * prior.scale / (1 - BETAS[0] ** k) * mean / height
            state = State(k, self.nfe, sigma, mu, x0, (mean, square, size2))
            yield state


def misfit_gradient(measurement: Measurement, x: Tensor) -> Tensor:
    """``A'(x)^H (A(x) - y)``, and x itself where it is known to be zero."""
    op = measurement.operator
    residual = -measurement.residual(x)
    with torch.inference_mode(False):
        gradient = op.vjp(x.clone(), residual.clone())
    return gradient if op.support is None else gradient * op.support + x * ~op.support


def _begin(measurement: Measurement, like: Tensor, scale: float, rng: Streams) -> tuple[Tensor, Tensor]:
    """The first image and ``|A|^2`` (of a nonlinear operator, that of its derivative there), shape ``(N, 1, ...)``."""
    op = measurement.operator
    if isinstance(op, LinearOperator):
        size2 = torch.full((len(like),), max(op.norm(), 1e-30) ** 2)
        first = (op.adjoint(measurement.data) / size2[0]).expand_as(like).clone()
    else:
        first = scale * rng.normal(like)
        with torch.inference_mode(False):
            at = first.clone()
            size2 = power_norm(lambda v: op.vjp(at, op.jvp(at, v)), rng.normal(like).clone(), iterations=10)
    return first.to(like.dtype), size2.to(like.device, like.real.dtype).reshape(-1, *[1] * (like.ndim - 1))


def _levels(prior: Prior, steps: int) -> list[float]:
    """The paper's levels, the variance-preserving ones at equal times: ``1 + sigma^2 = exp(b t + (B - b) t^2 / 2)``."""
    low, high = 0.1, 20.0
    times = [1 - i / steps for i in range(steps)]
    found = [prior.scale * math.sqrt(math.expm1(low * t + (high - low) * t**2 / 2)) for t in times]
    return [min(max(s, prior.sigma_min), prior.sigma_max) for s in found]
