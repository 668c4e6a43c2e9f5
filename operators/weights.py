"""Matrices that map samples on one axis to samples on another: overlaps, interpolation kernels, slice profiles.

Rows are what each new sample is made of and sum to 1 unless said otherwise. Positions are in pixels: pixel j covers
``[j, j + 1]`` and its centre is ``j + 1/2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.errors import InputError

__all__ = ["kernel_matrix", "known_method", "overlap_matrix", "profile_matrix"]


def overlap_matrix(edges: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Mean over the intervals ``[low, high]`` of what is constant between neighbouring `edges`; ``(m, n)``, float64.

    Args:
        edges: ascending, ``(n + 1,)``. low, high: ``(m,)``, each interval inside the edges.
    """
    edges, low, high = edges.double(), low.double()[:, None], high.double()[:, None]
    shared = (torch.minimum(edges[1:], high) - torch.maximum(edges[:-1], low)).clamp_min(0)
    return shared / shared.sum(1, keepdim=True)


def kernel_matrix(n: int, m: int, method: str) -> Tensor:
    """Resample n pixels to m over the same extent; ``(m, n)``, float64.

    The kernel is widened by n / m where the axis is made shorter (antialiasing), and what of it lies outside the
    image is left out, the rest summing to 1. Keys' cubic has a = -1/2 (R. Keys, IEEE Trans. ASSP 29, 1981).
    """
    scale = n / m
    centres = (torch.arange(m, dtype=torch.float64) + 0.5) * scale
    if method == "area":
        return overlap_matrix(torch.arange(n + 1, dtype=torch.float64), centres - scale / 2, centres + scale / 2)
    pixels = torch.arange(n, dtype=torch.float64) + 0.5
    weights = _KERNELS[method]((pixels - centres[:, None]) / max(scale, 1.0))
    return weights / weights.sum(1, keepdim=True)


def profile_matrix(n: int, centres: Tensor, thickness: float, profile: str) -> Tensor:
    """Means over slices with the given centres (in pixels) and thickness; ``(m, n)``, float64.

    ``"box"`` has sharp edges; ``"gaussian"`` has `thickness` as its full width at half maximum, integrated over each
    pixel. A box must lie inside the axis; of a Gaussian, what lies outside is left out.
    """
    centres, edges = centres.double(), torch.arange(n + 1, dtype=torch.float64)
    if profile == "box":
        return overlap_matrix(edges, centres - thickness / 2, centres + thickness / 2)
    sigma = thickness / (2 * math.sqrt(2 * math.log(2)))
    steps = torch.special.ndtr((edges - centres[:, None]) / sigma)
    weights = steps.diff(dim=1)
    return weights / weights.sum(1, keepdim=True)


def _triangle(t: Tensor) -> Tensor:
    return (1 - t.abs()).clamp_min(0)


def _cubic(t: Tensor) -> Tensor:
    t = t.abs()
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t < 1, near, torch.where(t < 2, far, 0))


_KERNELS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": _triangle, "bicubic": _cubic}


def known_method(method: str) -> None:
    """Raises InputError unless `kernel_matrix` knows the method."""
    if method != "area" and method not in _KERNELS:
        raise InputError(f"method is {method!r}; it expects 'area', {', '.join(map(repr, _KERNELS))}")
