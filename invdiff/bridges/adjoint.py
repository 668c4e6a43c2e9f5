"""Adjoint matching: regress the control on the adjoint at the end point (Havens et al. 2025, arXiv 2504.11713).

For a pair (x0, x1) of the current diffusion, t uniform in [0, 1] and x_t from the base bridge between them,
``L = |v(t, x_t) + a(x1)|^2`` with ``a = clip(grad U + grad V + grad W) + h(x1)`` in kT. h is the corrector: for a
start at one point (Adjoint Sampling) it is ``grad log p_base(x1) = -x1 / K``, otherwise it is learned
(`invdiff.bridges.asbs`). The target is a constant of the regression: nothing is differentiated through the SDE, and
one force serves many gradient steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.bridges.sde import Schedule, bridge

__all__ = ["Field", "Memoryless", "NoCorrector", "adjoint_matching", "bridge_matching", "clip"]

Field = Callable[[Tensor, Tensor], Tensor]  # (t, x) -> vector field at x


class Memoryless:
    """The corrector of a diffusion from one point: ``h(x1) = -x1 / K``."""

    def __init__(self, total: float) -> None:
        self.total = total

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return -x / self.total


class NoCorrector:
    """``h = 0``, with which a Schrödinger bridge begins."""

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def clip(gradient: Tensor, largest: float, particles: bool) -> Tensor:
    """Shorten vectors above a length: each particle's ``(N, particles, dim)`` by itself, else each row as a whole."""
    axes = (-1,) if particles else tuple(range(1, gradient.ndim))
    length = gradient.square().sum(axes, keepdim=True).sqrt()
    return gradient * (largest / length.clamp_min(1e-30)).clamp_max(1.0)


def adjoint_matching(
    control: Field,
    x0: Tensor,
    x1: Tensor,
    adjoint: Tensor,
    schedule: Schedule,
    rng: torch.Generator,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the mean over the batch of ``|v(t, x_t) + adjoint|^2``, a scalar with a gradient for the control.

    Args:
        control: v.
        x0, x1: ends of the diffusion, ``(N, *event)``.
        adjoint: a(x1), ``(N, *event)``.
        schedule: of the base process.
        rng: t and the bridge.
        project: as in `invdiff.bridges.sde.simulate`.
    """
    t = torch.rand(x1.shape[0], generator=rng, dtype=x1.dtype, device=x1.device)
    x_t = bridge(x0, x1, t, schedule, rng, project)
    return (control(t, x_t) + adjoint).square().flatten(1).sum(1).mean()


def bridge_matching(
    control: Field,
    x0: Tensor,
    x1: Tensor,
    schedule: Schedule,
    rng: torch.Generator,
    project: Callable[[Tensor], Tensor] | None = None,
    latest: float = 0.99,
) -> Tensor:
    """Warm start from data x1 coupled at random with x0: ``k |v(t, x_t) - (x1 - x_t)/k|^2``, k = kappa_1 - kappa_t.

    It takes the diffusion to where the data are; it is not the bridge's fixed point. t stays below `latest`.
    """
    t = latest * torch.rand(x1.shape[0], generator=rng, dtype=x1.dtype, device=x1.device)
    x_t = bridge(x0, x1, t, schedule, rng, project)
    left = (schedule.total - schedule.kappa(t)).reshape(-1, *[1] * (x1.ndim - 1))
    return (left * (control(t, x_t) - (x1 - x_t) / left).square()).flatten(1).sum(1).mean()
