"""Sliced Wasserstein distances: the mean distance of one-dimensional projections.

Source: N. Bonneel, J. Rabin, G. Peyre and H. Pfister, 2015, J. Math. Imaging Vis. 51.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import ShapeError

__all__ = ["project", "slices", "wasserstein"]


def slices(size: int, count: int, rng: torch.Generator) -> Tensor:
    """Directions uniform on the sphere, shape ``(size, count)`` float64."""
    u = torch.randn(size, count, generator=rng, dtype=torch.float64)
    return u / torch.linalg.vector_norm(u, dim=0)


def project(values: Tensor, directions: Tensor) -> Tensor:
    """Sorted projections ``(n, count)`` of n points ``(n, size)``."""
    return (values @ directions).sort(dim=0).values


def wasserstein(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return ``mean_u W1`` and ``(mean_u W2^2)^(1/2)`` of two sets of sorted projections ``(n, count)``.

    Raises ShapeError where they are not equally many.
    """
    if a.shape != b.shape:
        raise ShapeError(f"wasserstein got {tuple(a.shape)} and {tuple(b.shape)}; it expects equally many points")
    gap = a - b
    return float(gap.abs().mean()), math.sqrt(float((gap**2).mean()))
