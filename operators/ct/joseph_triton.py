"""Joseph's projector and its adjoint on NVIDIA GPUs, computed as they go.

A program walks a block of neighbouring channels through the planes of voxels together. Positions are fixed-point
numbers (32 bits before and after the point), exact whatever the length of the walk and the same in both directions,
so the adjoint has the weights of its forward to the bit. The adjoint adds with atomics: its sums differ in rounding
from call to call.

The functions below are plain Python until `kernels` has Triton compile them: it is optional. ``TRITON_INTERPRET=1``
runs them on a processor, which is how the tests check them where there is no GPU.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.operators.ct.geometry import Geometry
from invdiff.operators.ct.rays import TIE

__all__ = ["adjoint", "forward", "kernels"]

_BLOCK = 128  # channels walked together
_PAD = 2
tl: Any = None  # triton.language, once it is imported


@functools.cache
def kernels() -> tuple[Any, Any]:
    """Return the compiled forward and adjoint."""
    import triton

    # Triton looks names up in the module of a kernel.
    names = globals()
    names["tl"] = triton.language
    names["_ray"] = triton.jit(_ray)
    return triton.jit(_forward_kernel), triton.jit(_adjoint_kernel)


def forward(x: Tensor, g: Geometry) -> Tensor:
    """Project volumes ``(N, D, H, W)`` to ``(N, views, rows, channels)``."""
    padded = torch.nn.functional.pad(x.detach(), (_PAD,) * 6)
    y = torch.empty(x.shape[0], g.views, g.rows, g.channels, dtype=x.dtype, device=x.device)
    _launch(kernels()[0], padded, y, g)
    return y


def adjoint(y: Tensor, g: Geometry) -> Tensor:
    """Spread data ``(N, views, rows, channels)`` over volumes ``(N, D, H, W)`` with the weights of `forward`."""
    shape = [n + 2 * _PAD for n in g.shape]
    padded = torch.zeros(y.shape[0], *shape, dtype=y.dtype, device=y.device)
    _launch(kernels()[1], padded, y.detach().contiguous(), g)
    return padded[:, _PAD:-_PAD, _PAD:-_PAD, _PAD:-_PAD].contiguous()


def _launch(kernel: Any, volume: Tensor, data: Tensor, g: Geometry) -> None:
    views = g.vectors()
    frames = np.stack([views.sources, views.points, views.e_d, views.e_u, views.e_v], 1)
    grid = np.concatenate([g.spacing, g.origin, [TIE, 2.0**32]])  # numbers in double: arguments would be single
    tables = [
        torch.from_numpy(np.ascontiguousarray(t)).to(data.device) for t in (frames, grid, views.u, views.depth, views.v)
    ]
    blocks = (data.shape[0] * g.views * g.rows, -(-g.channels // _BLOCK))
    kernel[blocks](
        volume, data, *tables, g.views, g.rows, g.channels, *g.shape,
        PARALLEL=g.parallel, PLANAR=g.planar, PAD=_PAD, BLOCK=_BLOCK,
    )  # fmt: skip


def _ray(frame, grid, u, depth, v, depth_n, height_n, width_n, PARALLEL: tl.constexpr):  # type: ignore  # noqa: N803
    """Planes, fixed-point positions and slopes, length and main axis of a block of rays; see `joseph_numba`."""
    ez, ey, ex = tl.load(frame + 6), tl.load(frame + 7), tl.load(frame + 8)
    z = tl.load(frame + 3) + depth * ez + u * tl.load(frame + 9) + v * tl.load(frame + 12)
    y = tl.load(frame + 4) + depth * ey + u * tl.load(frame + 10) + v * tl.load(frame + 13)
    x = tl.load(frame + 5) + depth * ex + u * tl.load(frame + 11) + v * tl.load(frame + 14)
    if PARALLEL:
        dz, dy, dx = ez + 0 * z, ey + 0 * y, ex + 0 * x
    else:
        dz, dy, dx = z - tl.load(frame), y - tl.load(frame + 1), x - tl.load(frame + 2)
    norm = tl.sqrt(dz * dz + dy * dy + dx * dx)
    sz, sy, sx = tl.load(grid), tl.load(grid + 1), tl.load(grid + 2)
    z, y, x = (z - tl.load(grid + 3)) / sz, (y - tl.load(grid + 4)) / sy, (x - tl.load(grid + 5)) / sx
    dz, dy, dx = dz / sz, dy / sy, dx / sx
    tie, unit = tl.load(grid + 6), tl.load(grid + 7)
    along_y = tl.abs(dy) > tl.abs(dz) * tie
    along_x = tl.abs(dx) > tl.maximum(tl.abs(dz), tl.abs(dy)) * tie
    axis = tl.where(along_x, 2, tl.where(along_y, 1, 0))
    m, dm = tl.where(axis == 2, x, tl.where(axis == 1, y, z)), tl.where(axis == 2, dx, tl.where(axis == 1, dy, dz))
    p, dp = tl.where(axis == 0, y, z), tl.where(axis == 0, dy, dz)
    q, dq = tl.where(axis == 2, y, x), tl.where(axis == 2, dy, dx)
    n_m = tl.where(axis == 2, width_n, tl.where(axis == 1, height_n, depth_n))
    n_p, n_q = tl.where(axis == 0, height_n, depth_n), tl.where(axis == 2, height_n, width_n)
    dp, dq = dp / dm, dq / dm
    p, q = p - m * dp, q - m * dq
    low, high = 0 * p, (n_m - 1) + 0 * p
    flat = tl.abs(dp) <= 1e-12
    slope = tl.where(flat, 1.0, dp)
    a, b = (-1 - p) / slope, (n_p - p) / slope
    low = tl.where(flat, low, tl.maximum(low, tl.minimum(a, b)))
    high = tl.where(flat, tl.where((p <= -1) | (p >= n_p), -1.0, high), tl.minimum(high, tl.maximum(a, b)))
    flat = tl.abs(dq) <= 1e-12
    slope = tl.where(flat, 1.0, dq)
    a, b = (-1 - q) / slope, (n_q - q) / slope
    low = tl.where(flat, low, tl.maximum(low, tl.minimum(a, b)))
    high = tl.where(flat, tl.where((q <= -1) | (q >= n_q), -1.0, high), tl.minimum(high, tl.maximum(a, b)))
    seen = low <= high
    low, high = tl.where(seen, low, 0.0), tl.where(seen, high, 0.0)
    first = low.to(tl.int32)
    first = first + (first < low).to(tl.int32)
    last = tl.where(seen, high.to(tl.int32), -1)
    p, q = tl.where(seen, p, 0.0), tl.where(seen, q, 0.0)
    return (
        axis, first, last, ((p + 2) * unit).to(tl.int64), (dp * unit).to(tl.int64), ((q + 2) * unit).to(tl.int64),
        (dq * unit).to(tl.int64), norm / tl.abs(dm),
    )  # fmt: skip


def _forward_kernel(  # type: ignore
    volume, data, frames, grid, u, depth, v, views, rows, channels, depth_n, height_n, width_n,
    PARALLEL: tl.constexpr, PLANAR: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    line = tl.program_id(0).to(tl.int64)
    i, k, n = line % rows, (line // rows) % views, line // (rows * views)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < channels
    axis, first, last, p, dp, q, dq, length = _ray(
        frames + k * 15, grid, tl.load(u + j, mask=inside, other=0.0), tl.load(depth + j, mask=inside, other=0.0),
        tl.load(v + i), depth_n, height_n, width_n, PARALLEL,
    )  # fmt: skip
    last = tl.where(inside, last, -1)
    row = line * 0 + width_n + 2 * PAD  # 64 bits: a volume may have more than 2^31 voxels
    plane = row * (height_n + 2 * PAD)
    s_m, s_p = tl.where(axis == 0, plane, tl.where(axis == 1, row, 1)), tl.where(axis == 0, row, plane)
    s_q = tl.where(axis == 2, row, 1)
    base = volume + n * plane * (depth_n + 2 * PAD)
    total = tl.zeros((BLOCK,), dtype=volume.dtype.element_ty)
    for m in range(tl.min(tl.where(last >= first, first, 1 << 30)), tl.max(last) + 1):
        here = (m >= first) & (m <= last)
        up, at = p + m * dp, q + m * dq
        h = ((up & 4294967295).to(tl.float64) * 2.3283064365386963e-10).to(total.dtype)
        w = ((at & 4294967295).to(tl.float64) * 2.3283064365386963e-10).to(total.dtype)
        t = base + (m + PAD) * s_m + (up >> 32) * s_p + (at >> 32) * s_q
        low = tl.load(t, mask=here, other=0.0) * (1 - w) + tl.load(t + s_q, mask=here, other=0.0) * w
        if PLANAR:
            total += low
        else:
            high = tl.load(t + s_p, mask=here, other=0.0) * (1 - w) + tl.load(t + s_p + s_q, mask=here, other=0.0) * w
            total += low * (1 - h) + high * h
    tl.store(data + line * channels + j, total * length.to(total.dtype), mask=inside)


def _adjoint_kernel(  # type: ignore
    volume, data, frames, grid, u, depth, v, views, rows, channels, depth_n, height_n, width_n,
    PARALLEL: tl.constexpr, PLANAR: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    line = tl.program_id(0).to(tl.int64)
    i, k, n = line % rows, (line // rows) % views, line // (rows * views)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < channels
    axis, first, last, p, dp, q, dq, length = _ray(
        frames + k * 15, grid, tl.load(u + j, mask=inside, other=0.0), tl.load(depth + j, mask=inside, other=0.0),
        tl.load(v + i), depth_n, height_n, width_n, PARALLEL,
    )  # fmt: skip
    last = tl.where(inside, last, -1)
    row = line * 0 + width_n + 2 * PAD  # 64 bits: a volume may have more than 2^31 voxels
    plane = row * (height_n + 2 * PAD)
    s_m, s_p = tl.where(axis == 0, plane, tl.where(axis == 1, row, 1)), tl.where(axis == 0, row, plane)
    s_q = tl.where(axis == 2, row, 1)
    base = volume + n * plane * (depth_n + 2 * PAD)
    value = tl.load(data + line * channels + j, mask=inside, other=0.0)
    value = value * length.to(value.dtype)
    for m in range(tl.min(tl.where(last >= first, first, 1 << 30)), tl.max(last) + 1):
        here = (m >= first) & (m <= last)
        up, at = p + m * dp, q + m * dq
        h = ((up & 4294967295).to(tl.float64) * 2.3283064365386963e-10).to(value.dtype)
        w = ((at & 4294967295).to(tl.float64) * 2.3283064365386963e-10).to(value.dtype)
        t = base + (m + PAD) * s_m + (up >> 32) * s_p + (at >> 32) * s_q
        if PLANAR:
            tl.atomic_add(t, value * (1 - w), mask=here)
            tl.atomic_add(t + s_q, value * w, mask=here)
        else:
            low, high = value * (1 - h), value * h
            tl.atomic_add(t, low * (1 - w), mask=here)
            tl.atomic_add(t + s_q, low * w, mask=here)
            tl.atomic_add(t + s_p, high * (1 - w), mask=here)
            tl.atomic_add(t + s_p + s_q, high * w, mask=here)
