"""BART arrays in and out: ``NAME.hdr`` (text: dimensions) and ``NAME.cfl`` (complex64, first axis fastest).

Axes by number: 0 to 2 readout and two phase encodings, 3 coils, 4 sets of maps; all further ones must be of length 1
in k-space, except 13, slices. K-space of one slice is read with the readout as rows.

BART's Fourier transform is centred at ``n // 2`` like ours; scales of k-space are kept as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.kspace import RawKspace, as_kspace, chosen_slices, sampled
from invdiff.errors import FileError, FormatError, InputError
from invdiff.files import existing, head, replacing, sha256

__all__ = ["AXES", "read", "read_array", "recognise", "write"]

AXES = ("x", "y", "z", "coil", "set", "te", "coefficient", "coefficient_2", "iteration", "cshift", "time", "time_2",
        "level", "slice", "average", "batch")  # fmt: skip


def _both(path: str | Path) -> tuple[Path, Path]:
    path = Path(path)
    if path.suffix not in (".cfl", ".hdr"):
        return path.with_name(path.name + ".hdr"), path.with_name(path.name + ".cfl")
    return path.with_suffix(".hdr"), path.with_suffix(".cfl")


def recognise(path: str | Path) -> bool:
    """Whether this is one of a pair ``.cfl`` and ``.hdr`` whose header gives dimensions that fit."""
    if Path(path).suffix not in (".cfl", ".hdr"):
        return False
    try:
        _dimensions(*_both(path))
    except FileError:
        return False
    return True


def _dimensions(header: Path, data: Path) -> list[int]:
    lines = head(existing(header), 4096).decode("latin-1").splitlines()
    following = [b for a, b in zip(lines, lines[1:], strict=False) if a.strip() == "# Dimensions"]
    try:
        dims = [int(n) for n in following[0].split()]
    except (IndexError, ValueError) as error:
        raise FormatError(f"{header} has no '# Dimensions' with whole numbers below; expected a BART header") from error
    if not 1 <= len(dims) <= len(AXES) or min(dims) < 1:
        raise FormatError(f"{header} has dimensions {dims}; expected up to {len(AXES)} numbers above 0")
    held = existing(data).stat().st_size
    if held != 8 * math.prod(dims):
        raise FormatError(f"{data} has {held} bytes; dimensions {dims} need {8 * math.prod(dims)}, copy it again")
    return dims


def read_array(path: str | Path) -> NDArray[np.complex64]:
    """Read any array: complex64, its axes as in the file, without those of length 1 at the end.

    Raises:
        FileError: one of the two files cannot be opened. FormatError: they do not fit each other.
    """
    header, data = _both(path)
    dims = _dimensions(header, data)
    while len(dims) > 1 and dims[-1] == 1:
        dims.pop()
    try:
        values: NDArray[np.complex64] = np.fromfile(data, "<c8").reshape(dims, order="F")
    except MemoryError as error:
        raise FileError(f"{data} does not fit into memory") from error
    return values


def read(path: str | Path, slice: int | Sequence[int] | None = None) -> RawKspace:
    """Read Cartesian k-space; a position counts as sampled where any coil is nonzero.

    Args:
        path: either of the two files, or their common name.
        slice: of several (axis 13) the slice, or slices, to read; None for all.

    Raises:
        FileError: a file cannot be opened. FormatError: they do not fit each other, or hold no such k-space: a volume
        has to be transformed along its readout first. InputError: there is no such slice.
    """
    header, data = _both(path)
    values = read_array(path)
    dims = list(values.shape) + [1] * (len(AXES) - values.ndim)
    # Two of the first three axes are the plane: BART puts 2D k-space into 0 and 1, or leaves 0 empty.
    plane = [axis for axis in range(3) if dims[axis] > 1]
    if len(plane) != 2 or any(dims[a] > 1 for a in range(4, len(AXES)) if a != 13):
        raise FormatError(
            f"{data} has dimensions {dims}; expected k-space of a plane: two of the first three, coils as the fourth"
            " and slices as the fourteenth"
        )
    order = [13, 3, *plane, *(a for a in range(len(AXES)) if a not in (13, 3, *plane))]
    stack = values.reshape(dims, order="F").transpose(order)
    stack = stack.reshape(stack.shape[:4])
    chosen = chosen_slices(data, slice, len(stack))
    kspace = as_kspace(stack[chosen], f"{data}: k-space", chosen)
    meta = {"file": str(data), "sha256": sha256(data), "format": "bart", "slice": chosen}
    return RawKspace(kspace, sampled(kspace), meta)


def write(path: str | Path, values: NDArray[Any], axes: Sequence[str]) -> Path:
    """Write an array as complex64; `axes` names its axes, each one of `AXES`.

    K-space ``(coils, H, W)`` is written with ``axes=("coil", "x", "y")``. Returns the path of the ``.cfl`` file.

    Raises:
        InputError: unknown or repeated names, or not as many as axes. FileError: the files cannot be written.
    """
    header, data = _both(path)
    values = np.asarray(values)
    if len(axes) != values.ndim or len(set(axes)) != len(axes) or not set(axes) <= set(AXES) or 0 in values.shape:
        raise InputError(f"axes are {list(axes)} for shape {values.shape}; expected one of {', '.join(AXES)} for each")
    order = sorted(range(values.ndim), key=lambda i: AXES.index(axes[i]))
    dims = [1] * len(AXES)
    for name, n in zip(axes, values.shape, strict=True):
        dims[AXES.index(name)] = n
    with replacing(data) as data_part, replacing(header) as header_part:
        header_part.write_text(f"# Dimensions\n{' '.join(map(str, dims))}\n", encoding="ascii")
        with data_part.open("wb") as file:
            file.write(values.transpose(order).astype("<c8").tobytes(order="F"))
    return data
