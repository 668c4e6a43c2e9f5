"""Joseph's projector and its exact adjoint on the processor, computed as they go: no memory but the volume.

`forward` shares the rays among threads. `adjoint` shares the planes of voxels: in a block of planes one thread walks
all rays, so no two threads write to one voxel and the result does not depend on their number. Volumes carry a border
of two voxels on each side (`PAD`), which spares the inner loops all tests.

The functions below are plain Python until `kernels` has numba compile them: it is optional and slow to import.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from invdiff.operators.ct.geometry import Geometry
from invdiff.operators.ct.rays import TIE

__all__ = ["PAD", "arguments", "kernels"]

PAD = 2
prange = range


@functools.cache
def kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `forward` and `adjoint`, compiled; numba keeps the result on disk for the next process."""
    import numba

    # They find each other and `prange` by their names in this module, so these have to be the compiled ones.
    names = globals()
    names["prange"] = numba.prange
    for name in ("_ray", "_strides"):
        names[name] = numba.njit(cache=True, error_model="numpy")(names[name])
    compiled = numba.njit(cache=True, parallel=True, error_model="numpy")
    return compiled(_forward), compiled(_adjoint)


def _ray(frame: Any, point: Any, depth: float, u: float, v: float, parallel: bool, spacing: Any, shape: Any) -> Any:
    """One ray: main axis, first and last plane inside the grid, p, dp, q, dq and length per plane."""
    # frame: rows source, point, e_d, e_u, e_v, each (z, y, x); point: the origin of the grid
    z = frame[1, 0] + depth * frame[2, 0] + u * frame[3, 0] + v * frame[4, 0]
    y = frame[1, 1] + depth * frame[2, 1] + u * frame[3, 1] + v * frame[4, 1]
    x = frame[1, 2] + depth * frame[2, 2] + u * frame[3, 2] + v * frame[4, 2]
    if parallel:
        dz, dy, dx = frame[2, 0], frame[2, 1], frame[2, 2]
    else:
        dz, dy, dx = z - frame[0, 0], y - frame[0, 1], x - frame[0, 2]
    norm = math.sqrt(dz * dz + dy * dy + dx * dx)
    z, y, x = (z - point[0]) / spacing[0], (y - point[1]) / spacing[1], (x - point[2]) / spacing[2]
    dz, dy, dx = dz / spacing[0], dy / spacing[1], dx / spacing[2]
    axis, largest = 0, abs(dz)
    if abs(dy) > largest * TIE:
        axis, largest = 1, abs(dy)
    if abs(dx) > largest * TIE:
        axis, largest = 2, abs(dx)
    if axis == 0:
        m, dm, p, dp, q, dq, n_m, n_p, n_q = z, dz, y, dy, x, dx, shape[0], shape[1], shape[2]
    elif axis == 1:
        m, dm, p, dp, q, dq, n_m, n_p, n_q = y, dy, z, dz, x, dx, shape[1], shape[0], shape[2]
    else:
        m, dm, p, dp, q, dq, n_m, n_p, n_q = x, dx, z, dz, y, dy, shape[2], shape[0], shape[1]
    dp, dq = dp / dm, dq / dm
    p, q = p - m * dp, q - m * dq
    low, high = 0.0, n_m - 1.0
    if abs(dp) > 1e-12:
        a, b = (-1 - p) / dp, (n_p - p) / dp
        low, high = max(low, min(a, b)), min(high, max(a, b))
    elif p <= -1 or p >= n_p:
        high = -1.0
    if abs(dq) > 1e-12:
        a, b = (-1 - q) / dq, (n_q - q) / dq
        low, high = max(low, min(a, b)), min(high, max(a, b))
    elif q <= -1 or q >= n_q:
        high = -1.0
    first, last = (int(math.ceil(low)), int(math.floor(high))) if low <= high else (0, -1)
    return axis, first, last, p + 2, dp, q + 2, dq, norm / abs(dm)


def _strides(axis: int, rows: int, columns: int) -> Any:
    """Steps in a padded volume from plane to plane, and along p and q."""
    if axis == 0:
        return rows * columns, columns, 1
    if axis == 1:
        return columns, rows * columns, 1
    return 1, rows * columns, columns


def _forward(
    vol: Any, shape: Any, frames: Any, u: Any, depth: Any, v: Any, grid: Any, parallel: bool, planar: bool
) -> Any:  # fmt: skip
    """Project one padded volume, flattened: ``(views, rows, channels)``. `grid`: spacing and origin."""
    views, n_v, n_u = frames.shape[0], v.shape[0], u.shape[0]
    rows, columns = shape[1] + 2 * PAD, shape[2] + 2 * PAD
    out = np.zeros((views, n_v, n_u), vol.dtype)
    for line in prange(views * n_v):
        k, i = line // n_v, line % n_v
        for j in range(n_u):
            axis, first, last, p, dp, q, dq, length = _ray(
                frames[k], grid[1], depth[j], u[j], v[i], parallel, grid[0], shape
            )
            s_m, s_p, s_q = _strides(axis, rows, columns)
            total = 0.0
            if planar:
                base = PAD * s_m + PAD * s_p
                for m in range(first, last + 1):
                    at = q + dq * m
                    b = int(at)
                    w = at - b
                    t = base + m * s_m + b * s_q
                    total += vol[t] * (1 - w) + vol[t + s_q] * w
            else:
                for m in range(first, last + 1):
                    at, up = q + dq * m, p + dp * m
                    b, a = int(at), int(up)
                    w, h = at - b, up - a
                    t = (m + PAD) * s_m + a * s_p + b * s_q
                    low = vol[t] * (1 - w) + vol[t + s_q] * w
                    high = vol[t + s_p] * (1 - w) + vol[t + s_p + s_q] * w
                    total += low * (1 - h) + high * h
            out[k, i, j] = total * length
    return out


def _adjoint(
    y: Any, vol: Any, shape: Any, frames: Any, u: Any, depth: Any, v: Any, grid: Any, parallel: bool, planar: bool,
    main: int, blocks: int,
) -> None:  # fmt: skip
    """Add to a padded volume, flattened, what rays with main axis `main` spread; y is ``(views, rows, channels)``."""
    views, n_v, n_u = frames.shape[0], v.shape[0], u.shape[0]
    rows, columns = shape[1] + 2 * PAD, shape[2] + 2 * PAD
    s_m, s_p, s_q = _strides(main, rows, columns)
    planes = shape[main]
    for block in prange(blocks):
        lowest, highest = planes * block // blocks, planes * (block + 1) // blocks - 1
        for k in range(views):
            for i in range(n_v):
                for j in range(n_u):
                    axis, first, last, p, dp, q, dq, length = _ray(
                        frames[k], grid[1], depth[j], u[j], v[i], parallel, grid[0], shape
                    )
                    if axis != main:
                        continue
                    value = y[k, i, j] * length
                    first, last = max(first, lowest), min(last, highest)
                    if planar:
                        base = PAD * s_m + PAD * s_p
                        for m in range(first, last + 1):
                            at = q + dq * m
                            b = int(at)
                            w = at - b
                            t = base + m * s_m + b * s_q
                            vol[t] += value * (1 - w)
                            vol[t + s_q] += value * w
                    else:
                        for m in range(first, last + 1):
                            at, up = q + dq * m, p + dp * m
                            b, a = int(at), int(up)
                            w, h = at - b, up - a
                            t = (m + PAD) * s_m + a * s_p + b * s_q
                            low, high = value * (1 - h), value * h
                            vol[t] += low * (1 - w)
                            vol[t + s_q] += low * w
                            vol[t + s_p] += high * (1 - w)
                            vol[t + s_p + s_q] += high * w


def arguments(g: Geometry) -> tuple[Any, ...]:
    """Return what both kernels want to know of a geometry."""
    views = g.vectors()
    frames = np.stack([views.sources, views.points, views.e_d, views.e_u, views.e_v], 1)
    grid = np.stack([np.array(g.spacing), g.origin])
    return np.array(g.shape), frames, views.u, views.depth, views.v, grid, g.parallel, g.planar
