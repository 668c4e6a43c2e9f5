"""The processor's kernels of `invdiff.operators.ct.backprojection`; plain Python until `kernels` compiles them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

__all__ = ["kernels"]

prange = range


@functools.cache
def kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `gather` and its transpose `scatter`, compiled; numba keeps the result on disk for the next process."""
    import numba

    names = globals()
    names["prange"] = numba.prange
    names["_place"] = numba.njit(cache=True, error_model="numpy")(_place)
    compiled = numba.njit(cache=True, parallel=True, error_model="numpy")
    return compiled(_gather), compiled(_scatter)


def _place(along: float, across: float, up: float, beam: Any, detector: Any) -> Any:
    """Channel and row (fractions) that see a point, and the weight of the view there."""
    kind, near, far = beam[0], beam[1], beam[2]
    if kind == 0:
        u, v, weight = across, up, 1.0
    elif kind == 1:
        u, v, weight = across * far / along, up * far / along, (near / along) ** 2
    else:
        rho = math.sqrt(along * along + across * across)
        u, v, weight = far * math.atan2(across, along), up * far / rho, 1 / (rho * rho)
    cos, sin = detector[0], detector[1]
    return (cos * u + sin * v - detector[2]) / detector[3], (cos * v - sin * u - detector[4]) / detector[5], weight


def _gather(q: Any, out: Any, turns: Any, beam: Any, detector: Any, grid: Any, half: float, planar: bool) -> None:
    """Add to each voxel of `out` (D, H, W) what the views q (views, rows, channels) hold where they see it."""
    views, rows, channels = q.shape
    depth, height, width = out.shape
    for line in prange(depth * height):
        d, h = line // height, line % height
        z, y = grid[0, 0] + d * grid[1, 0], grid[0, 1] + h * grid[1, 1]
        for k in range(views):
            cos, sin, lift = turns[k, 0], turns[k, 1], z - turns[k, 2]
            if lift <= -half or lift > half:
                continue
            for w in range(width):
                x = grid[0, 2] + w * grid[1, 2]
                j, i, weight = _place(beam[1] + y * cos - x * sin, x * cos + y * sin, lift, beam, detector)
                if not -1e-6 < j < channels - 1 + 1e-6:
                    continue
                j = min(max(j, 0.0), channels - 1.0)
                a = min(int(j), max(channels - 2, 0))
                b, f = min(a + 1, channels - 1), j - a
                if planar:
                    out[d, h, w] += weight * (q[k, 0, a] * (1 - f) + q[k, 0, b] * f)
                    continue
                if not -1e-6 < i < rows - 1 + 1e-6:
                    continue
                i = min(max(i, 0.0), rows - 1.0)
                m = min(int(i), max(rows - 2, 0))
                n, g = min(m + 1, rows - 1), i - m
                low, high = q[k, m, a] * (1 - f) + q[k, m, b] * f, q[k, n, a] * (1 - f) + q[k, n, b] * f
                out[d, h, w] += weight * (low * (1 - g) + high * g)


def _scatter(x: Any, q: Any, turns: Any, beam: Any, detector: Any, grid: Any, half: float, planar: bool) -> None:
    """The transpose of `_gather`: each view of q is written by one thread."""
    views, rows, channels = q.shape
    depth, height, width = x.shape
    for k in prange(views):
        cos, sin = turns[k, 0], turns[k, 1]
        for d in range(depth):
            lift = grid[0, 0] + d * grid[1, 0] - turns[k, 2]
            if lift <= -half or lift > half:
                continue
            for h in range(height):
                y = grid[0, 1] + h * grid[1, 1]
                for w in range(width):
                    x0 = grid[0, 2] + w * grid[1, 2]
                    j, i, weight = _place(beam[1] + y * cos - x0 * sin, x0 * cos + y * sin, lift, beam, detector)
                    if not -1e-6 < j < channels - 1 + 1e-6:
                        continue
                    j = min(max(j, 0.0), channels - 1.0)
                    a = min(int(j), max(channels - 2, 0))
                    b, f, value = min(a + 1, channels - 1), j - a, weight * x[d, h, w]
                    if planar:
                        q[k, 0, a] += value * (1 - f)
                        q[k, 0, b] += value * f
                        continue
                    if not -1e-6 < i < rows - 1 + 1e-6:
                        continue
                    i = min(max(i, 0.0), rows - 1.0)
                    m = min(int(i), max(rows - 2, 0))
                    n, g = min(m + 1, rows - 1), i - m
                    q[k, m, a] += value * (1 - f) * (1 - g)
                    q[k, m, b] += value * f * (1 - g)
                    q[k, n, a] += value * (1 - f) * g
                    q[k, n, b] += value * f * g
