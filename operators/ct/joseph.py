"""Projections computed as they go, for what has no room for a matrix: numba on the processor, Triton on NVIDIA GPUs,
plain torch anywhere. All follow `invdiff.operators.ct.rays`, and each adjoint has the weights of its forward.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import InputError, missing_extra
from invdiff.operators.ct.geometry import Geometry
from invdiff.operators.ct.rays import OTHERS, rays_of

__all__ = ["adjoint", "chosen", "forward", "threads"]

_PIECE = 1 << 21  # interpolated values worked on at a time in plain torch


def chosen(backend: str, device: torch.device) -> str:
    """Return the kernel for a device: ``auto`` takes the fastest that is installed.

    Raises:
        MissingExtraError: it was named and is not installed. InputError: it does not run on this device.
    """
    home = {"numba": "cpu", "triton": "cuda"}
    if backend == "auto":
        fast = {"cpu": "numba", "cuda": "triton"}.get(device.type, "torch")
        return fast if fast == "torch" or importlib.util.find_spec(fast) else "torch"
    if backend == "torch":
        return backend
    if importlib.util.find_spec(backend) is None:
        raise missing_extra(backend, {"numba": "ct", "triton": "gpu"}[backend], f"the {backend} projector")
    if device.type != home[backend]:
        raise InputError(f"backend {backend!r} runs on {home[backend]}, not on {device.type}: use 'auto' or 'torch'")
    return backend


def forward(x: Tensor, g: Geometry, backend: str = "auto") -> Tensor:
    """Project volumes ``(N, D, H, W)`` to ``(N, views, rows, channels)``."""
    kernel = chosen(backend, x.device)
    if kernel == "triton":
        from invdiff.operators.ct import joseph_triton

        return joseph_triton.forward(x, g)
    if kernel == "numba":
        return _forward_numba(x, g)
    padded = torch.nn.functional.pad(x, (2, 2) * 3).flatten(1)
    y = x.new_zeros(x.shape[0], g.rays)
    for ray, voxel, weight in _weights(g, x):
        y[:, ray] += (padded[:, voxel] * weight).sum(-1)
    return y.reshape(-1, g.views, g.rows, g.channels)


def adjoint(y: Tensor, g: Geometry, backend: str = "auto") -> Tensor:
    """Spread data ``(N, views, rows, channels)`` over volumes ``(N, D, H, W)`` with the weights of `forward`."""
    kernel = chosen(backend, y.device)
    if kernel == "triton":
        from invdiff.operators.ct import joseph_triton

        return joseph_triton.adjoint(y, g)
    if kernel == "numba":
        return _adjoint_numba(y, g)
    flat, shape = y.flatten(1), [n + 4 for n in g.shape]
    x = y.new_zeros(y.shape[0], int(np.prod(shape)))
    for ray, voxel, weight in _weights(g, y):
        x.index_add_(1, voxel.flatten(), (flat[:, ray, None] * weight).flatten(1))
    return x.reshape(-1, *shape)[:, 2:-2, 2:-2, 2:-2].contiguous()


def _weights(g: Geometry, like: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rays ``(n,)``, and the padded voxels and weights ``(n, planes)`` of each corner, piece by piece."""
    views, padded = g.vectors(), [n + 4 for n in g.shape]
    strides = (padded[1] * padded[2], padded[2], 1)
    per_view = g.rows * g.channels
    step = max(1, _PIECE // (per_view * max(g.shape)))
    for first in range(0, g.views, step):
        found = rays_of(g, views, first, min(first + step, g.views))
        for axis in range(3):
            (rows,) = np.nonzero(found.axis == axis)
            part = max(1, _PIECE // g.shape[axis])
            for some in (rows[i : i + part] for i in range(0, len(rows), part)):
                m = torch.arange(g.shape[axis], device=like.device)
                corners = [((m + 2) * strides[axis], torch.ones((), device=like.device, dtype=like.dtype))]
                for start, slope, b in ((found.p, found.dp, OTHERS[axis][0]), (found.q, found.dq, OTHERS[axis][1])):
                    a, da = (torch.from_numpy(v[some]).to(like.device)[:, None] for v in (start, slope))
                    at = (a + da * m + 2).clamp(0, g.shape[b] + 2)  # beyond the border it is zero anyway
                    below = at.floor()
                    upper = (at - below).to(like.dtype)
                    low = below.long() * strides[b]
                    sides = [(low, 1 - upper), (low + strides[b], upper)]
                    sides = sides[:1] if g.planar and b == 0 else sides  # a planar ray stays in the one slice
                    corners = [(v + shift, w * share) for v, w in corners for shift, share in sides]
                length = torch.from_numpy(found.length[some]).to(like)[:, None]
                ray = torch.from_numpy(some + first * per_view).to(like.device)
                for voxel, weight in corners:
                    yield ray, voxel.expand(len(some), -1), weight * length


def _forward_numba(x: Tensor, g: Geometry) -> Tensor:
    from invdiff.operators.ct.joseph_numba import PAD, arguments, kernels

    project, _ = kernels()
    padded = torch.nn.functional.pad(x.detach(), (PAD, PAD) * 3).flatten(1).numpy()
    with threads():
        return torch.stack([torch.from_numpy(project(volume, *arguments(g))) for volume in padded])


def _adjoint_numba(y: Tensor, g: Geometry) -> Tensor:
    from invdiff.operators.ct.joseph_numba import PAD, arguments, kernels

    _, spread = kernels()
    x = y.new_zeros(y.shape[0], *[n + 2 * PAD for n in g.shape])
    with threads() as workers:
        for values, volume in zip(y.detach().contiguous().numpy(), x.flatten(1).numpy(), strict=True):
            for main in (0, 1, 2) if _steep(g) else (1, 2):
                spread(values, volume, *arguments(g), main, min(g.shape[main], workers))
    return x[:, PAD:-PAD, PAD:-PAD, PAD:-PAD].contiguous()


def _steep(g: Geometry) -> bool:
    """Whether a ray may advance most along z, which only a very open cone does."""
    if g.parallel or g.planar:
        return False
    views = g.vectors()
    lift = np.abs(views.v).max() + np.abs(views.u * np.sin(g.tilt)).max()
    level = g.source_detector + views.depth.min()
    return bool(lift / g.spacing[0] > level / (2 * max(g.spacing[1:])))


@contextmanager
def threads() -> Iterator[int]:
    """Let numba use as many threads as torch does."""
    import numba

    before = numba.get_num_threads()
    wanted = min(torch.get_num_threads(), before)
    numba.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        numba.set_num_threads(before)
