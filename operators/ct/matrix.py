"""The system matrix of a tomograph in compressed rows, with its transpose: the fastest projector where it fits.

Both are bound by memory traffic, so indices have 32 bits and values single precision; several images at once read
the matrix once.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.operators.ct import cache
from invdiff.operators.ct.geometry import Geometry
from invdiff.operators.ct.rays import OTHERS, Rays, rays_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["CSR", "build", "matrix_bytes", "matrix_pair"]

_PIECE = 1 << 22  # entries worked on at a time
_WORTH_KEEPING = 4 << 20  # entries; smaller matrices are built again faster than a disk is asked


class CSR(NamedTuple):
    """Row pointers, column indices (int32) and values of a matrix; ``(rows, columns)`` is kept by its owner."""

    start: Tensor
    column: Tensor
    value: Tensor

    def times(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the product with each row of x: ``(N, columns)`` to ``(N, rows)``."""
        _silence()
        value = self.value.to(x.dtype)
        matrix = torch.sparse_csr_tensor(self.start, self.column, value, shape, check_invariants=False)
        if x.shape[0] == 1:
            return (matrix @ x[0])[None]
        return (matrix @ x.t().contiguous()).t().contiguous()


def matrix_bytes(geometry: Geometry) -> int:
    """Return (nearly) the bytes of matrix and transpose, from the number of planes that each ray crosses."""
    views, planes = geometry.vectors(), 0.0
    for first, last in _pieces(geometry, geometry.rows * geometry.channels * 8):
        found = rays_of(geometry, views, first, last)
        planes += float(_crossed(geometry, found).sum())
    return int(planes * (2 if geometry.planar else 4) * 2 * 8) + 4 * (geometry.rays + int(np.prod(geometry.shape)))


def matrix_pair(geometry: Geometry, keep: bool = True) -> tuple[CSR, CSR]:
    """Return A and its transpose, from the disk cache where it has A; `keep` puts a large A there."""
    from scipy.sparse import csr_array

    shape = (geometry.rays, int(np.prod(geometry.shape)))
    stored = cache.load(geometry.key())
    if stored is not None and _fits(stored, shape):
        matrix = csr_array((stored["value"], stored["column"], stored["start"]), shape=shape)
    else:
        matrix = build(geometry)
        if keep and matrix.nnz >= _WORTH_KEEPING:
            arrays = {"start": matrix.indptr, "column": matrix.indices, "value": matrix.data}
            cache.store(geometry.key(), arrays)
    transpose = matrix.tocsc()
    return _csr(matrix), _csr(transpose)


def build(geometry: Geometry) -> csr_array:
    """Return the matrix ``(rays, voxels)`` in float32 with sorted int32 indices."""
    from scipy.sparse import coo_array, csr_array

    views, shape = geometry.vectors(), (geometry.rays, int(np.prod(geometry.shape)))
    starts, columns, values, count = [np.zeros(1, np.int64)], [], [], 0
    for first, last in _pieces(geometry, geometry.rows * geometry.channels * max(geometry.shape) * 4):
        found = rays_of(geometry, views, first, last)
        parts = [part for axis in range(3) for part in _entries(geometry, found, axis)]
        row, column, value = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        piece = coo_array((value, (row, column)), shape=(len(found.axis), shape[1])).tocsr()
        piece.sort_indices()
        starts.append(piece.indptr[1:].astype(np.int64) + count)
        columns.append(piece.indices.astype(np.int32, copy=False))
        values.append(piece.data)
        count += piece.nnz
    start = np.concatenate(starts).astype(np.int32 if count < 2**31 else np.int64)
    return csr_array((np.concatenate(values), np.concatenate(columns), start), shape=shape)


def _entries(g: Geometry, rays: Rays, axis: int) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """(ray, voxel, weight) of the rays with one main axis, for each of the corners that Joseph interpolates between."""
    (row,) = np.nonzero(rays.axis == axis)
    other, strides = OTHERS[axis], (g.shape[1] * g.shape[2], g.shape[2], 1)
    m = np.arange(g.shape[axis])
    corners: list[list[tuple[NDArray, NDArray, NDArray]]] = []
    for start, slope, b in ((rays.p, rays.dp, other[0]), (rays.q, rays.dq, other[1])):
        if g.planar and b == 0:
            corners.append([(np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32), np.ones((1, 1), np.bool_))])
            continue
        at = start[row, None] + slope[row, None] * m
        below = np.floor(at)
        upper = (at - below).astype(np.float32)
        index = np.clip(below, -2, g.shape[b]).astype(np.int32)
        size = g.shape[b]
        corners.append(
            [
                (index * np.int32(strides[b]), 1 - upper, (index >= 0) & (index < size)),
                ((index + 1) * np.int32(strides[b]), upper, (index >= -1) & (index < size - 1) & (upper > 0)),
            ]
        )
    length = rays.length[row, None].astype(np.float32)
    for at_p, weight_p, inside_p in corners[0]:
        for at_q, weight_q, inside_q in corners[1]:
            inside = inside_p & inside_q
            voxel = at_p + at_q + (m * strides[axis]).astype(np.int32)
            ray = np.broadcast_to(row[:, None].astype(np.int32), inside.shape)
            yield ray[inside], voxel[inside], (weight_p * weight_q * length)[inside]


def _crossed(g: Geometry, rays: Rays) -> NDArray[np.float64]:
    """Planes on which each ray is inside the grid."""
    out = np.zeros(len(rays.axis))
    for axis in range(3):
        at = rays.axis == axis
        low, high = np.zeros(int(at.sum())), np.full(int(at.sum()), g.shape[axis] - 1.0)
        for start, slope, other in ((rays.p, rays.dp, OTHERS[axis][0]), (rays.q, rays.dq, OTHERS[axis][1])):
            if g.planar and other == 0:
                continue
            flat = np.abs(slope[at]) < 1e-12
            step = np.where(flat, 1.0, slope[at])
            ends = np.sort([(-1 - start[at]) / step, (g.shape[other] - start[at]) / step], axis=0)
            outside = flat & ((start[at] <= -1) | (start[at] >= g.shape[other]))
            low = np.where(flat, low, np.maximum(low, ends[0]))
            high = np.where(outside, low - 1, np.where(flat, high, np.minimum(high, ends[1])))
        out[at] = np.maximum(0, high - low + 1)
    return out


def _pieces(geometry: Geometry, cost: int) -> Iterator[tuple[int, int]]:
    size = max(1, _PIECE // max(cost, 1))
    for first in range(0, geometry.views, size):
        yield first, min(first + size, geometry.views)


def _fits(stored: dict[str, NDArray], shape: tuple[int, int]) -> bool:
    """Whether arrays from a file are a matrix of that shape: a wrong index would be read out of bounds."""
    start, column = stored["start"], stored["column"]
    kinds = start.dtype.kind == column.dtype.kind == "i" and stored["value"].dtype == np.float32
    if not kinds or len(start) != shape[0] + 1 or start[0] != 0 or bool((np.diff(start) < 0).any()):
        return False
    return len(column) == 0 or (int(column.min()) >= 0 and int(column.max()) < shape[1])


@functools.cache
def _silence() -> None:
    """Take torch's one remark that sparse tensors are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64), torch.zeros(0), (1, 1))


def _csr(matrix: csr_array) -> CSR:
    index = torch.int32 if matrix.nnz < 2**31 else torch.int64
    return CSR(
        torch.from_numpy(matrix.indptr).to(index),
        torch.from_numpy(matrix.indices).to(index),
        torch.from_numpy(matrix.data),
    )
