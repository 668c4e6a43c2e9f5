"""Readouts of ISMRMRD files, sorted onto the encoded grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import FormatError

__all__ = ["flag", "gridded"]

_REVERSE = 22


def flag(heads: NDArray[Any], bit: int) -> NDArray[np.bool_]:
    """Which readouts have a flag; the standard counts bits from 1."""
    return (heads["flags"] >> np.uint64(bit - 1)) & np.uint64(1) != 0


def gridded(
    heads: NDArray[Any], data: NDArray[Any], header: Mapping[str, Any], mixing: NDArray[Any] | None, path: Path
) -> tuple[NDArray[np.complex64], NDArray[np.int32], list[int]]:
    """Sums on the grid (slices, coils, z, x, y), how many there are of each, and the slices' numbers."""
    nx, ny, nz = header["encoded_matrix"]
    numbers, which = np.unique(heads["idx"]["slice"], return_inverse=True)
    coils = len(data[0])
    if coils * len(numbers) * nx * ny * nz > 64 * sum(d.size for d in data) + (1 << 24):
        raise FormatError(
            f"{path}: an encoded matrix of {nx} x {ny} x {nz} is far larger than its {len(data)} readouts"
        )
    kspace = np.zeros((len(numbers), coils, nz, nx, ny), np.complex64)
    counts = np.zeros((len(numbers), nz, nx, ny), np.int32)
    y = _lines(heads["idx"]["kspace_encode_step_1"], header.get("limits"), ny, "kspace_encode_step_1", path)
    z = _lines(heads["idx"]["kspace_encode_step_2"], header.get("limits_2"), nz, "kspace_encode_step_2", path)
    backwards = flag(heads, _REVERSE)
    for i, values in enumerate(data):
        head, n = heads[i], values.shape[1]
        first, stop, centre = int(head["discard_pre"]), n - int(head["discard_post"]), int(head["center_sample"])
        if backwards[i]:
            values, first, stop, centre = values[:, ::-1], n - stop, n - first, n - 1 - centre
        start = nx // 2 - centre
        if not (0 <= first < stop <= n and start + first >= 0 and start + stop <= nx):
            raise FormatError(
                f"{path}: a readout of samples {first} to {stop} with its centre at {centre} does not fit a grid of"
                f" {nx}"
            )
        values = values[:, first:stop] if mixing is None else mixing @ values[:, first:stop]
        kspace[which[i], :, z[i], start + first : start + stop, y[i]] += values
        counts[which[i], z[i], start + first : start + stop, y[i]] += 1
    return kspace, counts, numbers.tolist()


def _lines(steps: NDArray[Any], limits: Mapping[str, int] | None, n: int, name: str, path: Path) -> NDArray[np.int_]:
    """Positions on the grid, the centre of k-space at n // 2."""
    found = steps.astype(int) + n // 2 - (limits["center"] if limits else n // 2)
    if found.min() < 0 or found.max() >= n:
        raise FormatError(
            f"{path}: {name} runs from {steps.min()} to {steps.max()} with its centre at {limits and limits['center']};"
            f" a grid of {n} cannot hold that"
        )
    return found
