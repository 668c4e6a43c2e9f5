"""Where the diffusion starts: a point (Adjoint Sampling) or a Gaussian (Schrödinger bridges)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.bridges.sde import centred

__all__ = ["GaussianSource"]


@dataclass(frozen=True)
class GaussianSource:
    """``N(0, scale^2)`` on every coordinate, mean-free over particles where `mean_free`; a point with scale 0.

    A harmonic source on a fully connected graph of particles is exactly this once its centre of mass is taken off.

    Args:
        shape: event shape.
        scale: standard deviation, in the unit of x.
        mean_free: take the centre of mass off ``(particles, dim)``.
    """

    shape: tuple[int, ...]
    scale: float
    mean_free: bool = False

    def draw(self, count: int, rng: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Return `count` starting points, float32."""
        x = self.scale * torch.randn(count, *self.shape, generator=rng, device=device)
        return centred(x) if self.mean_free else x
