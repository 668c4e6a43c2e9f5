"""Plain ``.npy`` k-space, complex ``(coils, ky, kx)`` or ``(slices, coils, ky, kx)``: centred, zero if not sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from invdiff.datasets.kspace import RawKspace, as_kspace, chosen_slices, sampled
from invdiff.errors import FileError, FormatError
from invdiff.files import existing, head, sha256

__all__ = ["read", "recognise"]

_MAGIC = b"\x93NUMPY"


def recognise(path: str | Path) -> bool:
    """Whether the file begins as a ``.npy`` file does."""
    try:
        return head(existing(path)).startswith(_MAGIC)
    except FileError:
        return False


def read(path: str | Path, slice: int | Sequence[int] | None = None) -> RawKspace:
    """Read k-space; a position counts as sampled where any coil is nonzero.

    Args:
        path: the file.
        slice: of four-dimensional arrays the slice, or slices, to read; None for all. Only these are loaded.

    Raises:
        FileError: the file cannot be opened. FormatError: it is not a ``.npy`` file, is cut short, holds pickled
            objects, or no usable k-space. InputError: there is no such slice.
    """
    path = existing(path)
    first = head(path)
    if not first.startswith(_MAGIC):
        raise FormatError(f"{path} is not a .npy file: it begins with {first!r}, a .npy file with {_MAGIC!r}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, which fails in many ways
        raise FormatError(
            f"{path} cannot be read as .npy: {error}; expected a whole file with a complex array, saved by numpy.save"
        ) from error
    if array.ndim not in (3, 4):
        raise FormatError(
            f"{path} has shape {array.shape}; expected k-space (coils, ky, kx) or (slices, coils, ky, kx)"
        )
    chosen = chosen_slices(path, slice, len(array) if array.ndim == 4 else 1)
    kspace = as_kspace(array[chosen] if array.ndim == 4 else array, f"{path}: k-space", chosen)
    meta = {"file": str(path), "sha256": sha256(path), "format": "npy", "slice": chosen}
    return RawKspace(kspace, sampled(kspace), meta)
