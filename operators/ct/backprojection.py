"""Backprojection as filtered backprojection needs it: each voxel collects, from each view, the value at the place of
the detector that sees it, interpolated and with the weight of the beam.

It is not the adjoint of the projector (that would ring where channels and pixels differ in size), but linear, and its
own transpose is here too, so that a reconstruction can be differentiated.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from invdiff.operators.autograd import linear
from invdiff.operators.ct.geometry import Geometry
from invdiff.operators.ct.joseph import chosen, threads

__all__ = ["backproject"]


def backproject(q: Tensor, g: Geometry, half_height: float = math.inf) -> Tensor:
    """Return ``sum_k weight_k(r) q_k(place of r)``: (N, views, rows, channels) to (N, D, H, W), differentiable.

    The weight is 1 (parallel), ``(source_axis / depth)^2`` (flat detector) or ``1 / distance^2`` (curved). Only views
    within `half_height` of a voxel's height count, and only where it falls on the detector.
    """
    return linear(q, lambda v: _gather(v, g, half_height), lambda x: _scatter(x, g, half_height))


def _gather(q: Tensor, g: Geometry, half: float) -> Tensor:
    out = q.new_zeros(q.shape[0], *g.shape)
    if chosen("auto", q.device) == "numba":
        from invdiff.operators.ct.backprojection_numba import kernels

        gather, _ = kernels()
        with threads():
            for values, volume in zip(q.detach().contiguous().numpy(), out.numpy(), strict=True):
                gather(values, volume, *_arguments(g, half))
        return out
    flat = q.flatten(2)
    for k in range(g.views):
        for index, weight in _corners(g, k, half, q):
            out += (flat[:, k, index] * weight).reshape(out.shape)
    return out


def _scatter(x: Tensor, g: Geometry, half: float) -> Tensor:
    q = x.new_zeros(x.shape[0], g.views, g.rows, g.channels)
    if chosen("auto", x.device) == "numba":
        from invdiff.operators.ct.backprojection_numba import kernels

        _, scatter = kernels()
        with threads():
            for volume, values in zip(x.detach().contiguous().numpy(), q.numpy(), strict=True):
                scatter(volume, values, *_arguments(g, half))
        return q
    flat, voxels = q.flatten(2), x.flatten(1)
    for k in range(g.views):
        for index, weight in _corners(g, k, half, x):
            flat[:, k].index_add_(1, index, voxels * weight)
    return q


def _arguments(g: Geometry, half: float) -> tuple[object, ...]:
    theta = np.array(g.angles)
    turns = np.stack([np.cos(theta), np.sin(theta), np.array(g.z)], 1)
    kind = 0.0 if g.parallel else 2.0 if g.curved else 1.0
    near, far = (0.0, 0.0) if g.parallel else (g.source_axis, g.source_detector)
    first = [math.cos(g.tilt), math.sin(g.tilt), g.u()[0], g.channel_spacing, g.v()[0], g.row_spacing]
    grid = np.stack([g.origin, np.array(g.spacing)])
    return turns, np.array([kind, near, far]), np.array(first), grid, half, g.planar


def _corners(g: Geometry, k: int, half: float, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Plain torch: for view k, the detector's element (flattened) and its weight for each voxel, corner by corner."""
    steps = [torch.arange(n, dtype=torch.float64, device=like.device) for n in g.shape]
    axes = [first + step * size for first, step, size in zip(g.origin, steps, g.spacing, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    cos, sin, lift = math.cos(g.angles[k]), math.sin(g.angles[k]), z - g.z[k]
    along, across = y * cos - x * sin, x * cos + y * sin
    if g.parallel:
        u, v, weight = across, lift, torch.ones_like(z)
    elif g.curved:
        along = along + g.source_axis
        rho = torch.hypot(along, across)
        u, v, weight = g.source_detector * torch.atan2(across, along), lift * g.source_detector / rho, rho**-2
    else:
        along = along + g.source_axis
        scale = g.source_detector / along
        u, v, weight = across * scale, lift * scale, (g.source_axis / along) ** 2
    turn, skew = math.cos(g.tilt), math.sin(g.tilt)
    j = (turn * u + skew * v - g.u()[0]) / g.channel_spacing
    i = (turn * v - skew * u - g.v()[0]) / g.row_spacing
    seen = (j > -1e-6) & (j < g.channels - 1 + 1e-6) & (lift > -half) & (lift <= half)
    if not g.planar:
        seen &= (i > -1e-6) & (i < g.rows - 1 + 1e-6)
    (a, b, f), (m, n, h) = _between(j, g.channels), _between(i, 1 if g.planar else g.rows)
    weight = weight * seen
    pairs = [(m, a, (1 - h) * (1 - f)), (m, b, (1 - h) * f), (n, a, h * (1 - f)), (n, b, h * f)]
    return [
        ((row * g.channels + column).flatten(), (weight * share).flatten().to(like.dtype))
        for row, column, share in pairs[: 2 if g.planar else 4]
    ]


def _between(at: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    at = at.clamp(0, n - 1)
    low = at.floor().clamp_max(max(n - 2, 0))
    return low.long(), (low.long() + 1).clamp_max(n - 1), at - low
