"""MALA: Langevin steps with a Metropolis correction, each example of a batch with its own step size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.linalg import inner
from invdiff.random import Streams

__all__ = ["mala"]

ACCEPTANCE = 0.574  # the rate at which MALA moves fastest in many dimensions (Roberts and Rosenthal, 1998)


def mala(log_density: Callable[[Tensor], Tensor], x: Tensor, rng: Streams, steps: int, size: float) -> Tensor:
    """Move each example of x ``(N, *event)`` by `steps` Metropolis-adjusted Langevin steps towards a density.

    ``z' = z + h g(z) + sqrt(2 h) n`` with ``g = grad log p``, accepted with probability
    ``min(1, p(z') q(z|z') / (p(z) q(z'|z)))``, ``q(b|a) = N(b; a + h g(a), 2 h)``. The step h starts from the largest
    curvature found near x and follows the acceptance in the first half of the steps; in the second half it is fixed,
    so that the law there is left exactly invariant.

    Args:
        log_density: differentiable, ``(N, *event) -> (N,)``, up to a constant.
        x: where to start, real or complex (then its real and imaginary parts are what moves).
        rng: the streams of the N examples.
        steps: how many.
        size: a length at which the density is smooth, in the unit of x; curvature is measured over a hundredth of it.

    Source: Roberts and Tweedie, 1996, Bernoulli 2(4).
    """
    components = x[0].numel() * (2 if x.is_complex() else 1)
    z, (value, slope) = x, _slope(log_density, x)
    h = 1.36 * components ** (-1 / 3) / _curvature(log_density, x, slope, rng, size)
    for k in range(steps):
        proposal = _step(z, slope, h) + _scaled((2 * h).sqrt(), rng.normal(z))
        there, back = _slope(log_density, proposal)
        ratio = (there - value).double() + _log_move(z, proposal, back, h) - _log_move(proposal, z, slope, h)
        chance = torch.nan_to_num(ratio.clamp_max(0).exp(), nan=0.0)
        take = rng.uniform(chance[:, None])[:, 0] < chance
        z, slope = (torch.where(_wide(take, z), new, old) for new, old in ((proposal, z), (back, slope)))
        value = torch.where(take, there, value)
        if k < steps // 2:
            h = h * torch.exp((chance - ACCEPTANCE) / math.sqrt(k + 1))
    return z


def _slope(log_density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        value = log_density(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


def _curvature(
    log_density: Callable[[Tensor], Tensor], x: Tensor, slope: Tensor, rng: Streams, size: float, iterations: int = 5
) -> Tensor:
    """Largest |second derivative| at x, by power iteration on differences of the gradient, ``(N,)``."""
    v = rng.normal(x)
    for _ in range(iterations):
        v = _scaled(0.01 * size / inner(v, v).sqrt(), v)
        length = inner(v, v).sqrt()
        v = _slope(log_density, x + v)[1] - slope
    return inner(v, v).sqrt() / length


def _step(x: Tensor, slope: Tensor, h: Tensor) -> Tensor:
    return x + _scaled(h, slope)


def _log_move(to: Tensor, start: Tensor, slope: Tensor, h: Tensor) -> Tensor:
    """``log q(to | start)`` up to a constant."""
    gap = to - _step(start, slope, h)
    return -inner(gap, gap) / (4 * h)


def _scaled(c: Tensor, x: Tensor) -> Tensor:
    return _wide(c.to(x.real.dtype), x) * x


def _wide(c: Tensor, x: Tensor) -> Tensor:
    return c.reshape(-1, *[1] * (x.ndim - 1))
