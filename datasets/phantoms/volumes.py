"""A procedural head in three dimensions: ellipsoids in a skull, the same structures seen in every plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import ShapeError

__all__ = ["head_volume"]


def head_volume(rng: torch.Generator, shape: Sequence[int], structures: int = 30) -> Tensor:
    """Draw a volume ``(z, y, x)`` in float32: 0 outside, about 0.9 in the bone, 0.3 to 0.7 inside.

    Raises:
        ShapeError: the shape has not three axes of at least 8 voxels.
    """
    if len(shape) != 3 or min(shape) < 8:
        raise ShapeError(f"a head has three axes of at least 8 voxels; got {tuple(shape)}")
    grid = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    soft = 2 / min(shape)  # edges as wide as a voxel

    def ellipsoid(centre: Sequence[float], radii: Sequence[float], turn: float) -> Tensor:
        z, y, x = (g - c for g, c in zip(grid, centre, strict=True))
        y, x = math.cos(turn) * y - math.sin(turn) * x, math.sin(turn) * y + math.cos(turn) * x
        distance = ((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2).sqrt()
        return torch.sigmoid((1 - distance) * min(radii) / (0.4 * soft))

    def numbers(n: int) -> list[float]:
        found: list[float] = torch.rand(n, generator=rng).tolist()
        return found

    outer, inner = (0.95, 0.9, 0.78), (0.87, 0.82, 0.7)
    brain = ellipsoid((0, 0, 0), inner, 0.0)
    values = torch.full(tuple(shape), 0.5)
    for _ in range(structures):
        u = numbers(8)
        direction = torch.tensor(u[:3]) - 0.5
        at = (0.7 * u[3] * direction / direction.norm() * torch.tensor(inner)).tolist()
        radii = [0.06 + 0.22 * r for r in u[4:7]]
        share = ellipsoid(at, radii, math.pi * u[7])
        values = torch.lerp(values, torch.full_like(values, 0.3 + 0.4 * numbers(1)[0]), share)
    bone = ellipsoid((0, 0, 0), outer, 0.0)
    return bone * torch.lerp(torch.full_like(values, 0.9), values, brain)
