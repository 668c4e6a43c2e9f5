"""HDF5: opening so that every failure is one of ours; tensors and JSON as named members of a group.

An array carries its type as attribute ``dtype``. Complex arrays have a last axis (re, im), booleans are stored as 0
and 1, half precision as float32. Complex numbers in JSON are ``{"__complex__": [re, im]}``.
"""

from __future__ import annotations

import functools
import io
import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import FileError, FormatError, InputError, InvdiffError
from invdiff.files import existing, head, replacing

if TYPE_CHECKING:
    import h5py

__all__ = [
    "MAGIC",
    "check_heaps",
    "creating",
    "get_array",
    "get_group",
    "get_json",
    "get_tensor",
    "open_hdf5",
    "plain_attribute",
    "put_json",
    "put_tensor",
]

MAGIC = b"\x89HDF\r\n\x1a\n"
_PACKED = 1100  # deflate makes nothing smaller than by 1032 times: a damaged shape must not ask for all memory
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    )
}


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; whatever HDF5 raises inside the block becomes a FormatError.

    Raises:
        FileError: the file does not exist or cannot be opened. FormatError: it is not HDF5, or is damaged.
    """
    path = existing(path)
    first = head(path)
    import h5py

    if not h5py.is_hdf5(path):
        raise FormatError(f"{path} is not an HDF5 file: it begins with {first!r}, HDF5 with {MAGIC!r}")
    check_heaps(path)
    try:
        with h5py.File(path, "r") as file:
            _check_attributes(file, path)
            yield file
    except InvdiffError:
        raise
    except MemoryError as error:
        raise FileError(f"{path} does not fit into memory; read fewer slices at a time") from error
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError) as error:
        raise FormatError(
            f"{path} is an HDF5 file that cannot be read: {error}; it is damaged or cut short, copy it again"
        ) from error


@contextmanager
def creating(path: str | Path) -> Iterator[h5py.File]:
    """Give a new HDF5 file, which appears as `path`, replacing what is there, when all of it is written.

    Raises:
        FileError: it cannot be written (no such folder, no space).
    """
    import h5py

    with replacing(path) as part, _Sink(part, "w+") as sink:
        with h5py.File(sink, "w") as file:
            yield file
        if sink.failure is not None:
            raise sink.failure


class _Sink(io.FileIO):
    """A file that takes everything and remembers what failed: the HDF5 library crashes where a disk is full."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.failure is None:
            try:
                done += super().write(view[done:]) or 0
            except OSError as error:
                self.failure = error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = super().readinto(view) or 0
        view[done:] = bytes(len(view) - done)  # what was lost
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0


def check_heaps(path: Path) -> None:
    """Raise FormatError where a heap of texts is damaged so that the HDF5 library never ends, or takes all memory."""
    stat = path.stat()
    if not _heaps_end(path, stat.st_size, stat.st_mtime_ns):
        raise FormatError(
            f"{path} is an HDF5 file that cannot be read: a damaged heap of texts; it is damaged or cut short, copy it"
            " again"
        )


@functools.lru_cache(64)
def _heaps_end(path: Path, size: int, changed: int) -> bool:
    """Whether the objects of each global heap collection fill it (format specification III.E)."""
    if size < 32:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(b"GCOL\x01\0\0\0")
        while at >= 0:
            end = at + struct.unpack_from("<Q", data, at + 8)[0] if at + 16 <= size else 0
            if not at + 16 <= end <= size:
                return False
            place = at + 16
            while place + 16 <= end:
                index, length = struct.unpack_from("<H6xQ", data, place)
                step = length if index == 0 else 16 + (length + 7) // 8 * 8
                if step < 16 or place + step > end:
                    return False
                place += step
            at = data.find(b"GCOL\x01\0\0\0", at + 1)
    return True


def _check_attributes(file: h5py.File, path: Path) -> None:
    """Raise FormatError where an attribute is a list of any length: nobody writes such, and reading one can crash."""
    import h5py

    def check(name: str, item: Any) -> None:
        for number in range(h5py.h5a.get_num_attrs(item.id)):
            found = h5py.h5a.open(item.id, index=number)
            if found.get_type().get_class() == h5py.h5t.VLEN and found.name != b"DIMENSION_LIST":  # NetCDF's own
                raise FormatError(
                    f"{path}: attribute {found.name.decode(errors='replace')} of {name or 'the root'} is a list of any"
                    " length; expected text or numbers: the file is damaged, copy it again"
                )

    check("", file)
    file.visititems(check)


def get_array(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """Return a dataset, not yet read. Raises FormatError where the group has none of that name."""
    found = group.get(name)
    if found is None or getattr(found, "shape", None) is None:
        what = "is no array" if found is not None else f"is missing (found: {', '.join(sorted(group)) or 'nothing'})"
        raise FormatError(f"{path}: {_full(group, name)} {what}; expected an array of that name")
    size, held = math.prod(found.shape) * found.dtype.itemsize, path.stat().st_size
    if size > (held if found.chunks is None else _PACKED * held):
        raise FormatError(
            f"{path}: {_full(group, name)} of shape {found.shape} claims {size} bytes, in a file of {held} bytes;"
            " it is damaged or cut short, copy it again"
        )
    return found


def get_group(parent: h5py.Group, name: str, path: Path) -> h5py.Group:
    """Return a group. Raises FormatError where there is none of that name."""
    found = parent.get(name)
    if found is None or not hasattr(found, "items"):
        held = ", ".join(sorted(parent)) or "nothing"
        raise FormatError(f"{path}: {_full(parent, name)} is missing (found: {held}); expected a group of that name")
    return found


def put_tensor(group: h5py.Group, name: str, value: Tensor) -> None:
    """Store a tensor of any of the usual types. Raises InputError for others."""
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise InputError(f"{name} is {dtype}, which cannot be saved; expected one of {', '.join(_DTYPES)}")
    value = value.detach().cpu().resolve_conj().resolve_neg()
    if value.is_complex():
        value = torch.view_as_real(value)
    elif value.dtype in (torch.float16, torch.bfloat16):
        value = value.float()
    array = value.to(torch.uint8).numpy() if value.dtype == torch.bool else value.numpy()
    # Undersampled k-space is mostly zeros: the fastest level packs those, and costs little elsewhere.
    packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if array.nbytes > 1 << 16 else {}
    group.create_dataset(name, data=array, **packing).attrs["dtype"] = dtype


def get_tensor(group: h5py.Group, name: str, path: Path) -> Tensor:
    """Read a tensor that `put_tensor` stored. Raises FormatError where it is missing or of another layout."""
    stored = get_array(group, name, path)
    given = plain_attribute(stored.attrs.get("dtype"))
    dtype = _DTYPES.get(given) if isinstance(given, str) else None
    if dtype is None or stored.dtype.kind not in "biuf" or (dtype.is_complex and stored.shape[-1:] != (2,)):
        raise FormatError(
            f"{path}: {_full(group, name)} is {stored.dtype} {stored.shape} with attribute dtype {given!r}; expected"
            f" one of {', '.join(_DTYPES)}, complex arrays with a last axis (re, im)"
        )
    value = torch.from_numpy(np.asarray(stored[()]).astype(stored.dtype.newbyteorder("="), copy=False))
    if not dtype.is_complex:
        return value.to(dtype)
    return torch.view_as_complex(value.to(dtype.to_real()).contiguous())


def put_json(group: h5py.Group, name: str, value: Mapping[str, Any]) -> None:
    """Store a mapping as JSON text. Raises InputError where it holds what JSON cannot."""

    def other(item: Any) -> Any:
        if isinstance(item, complex):
            return {"__complex__": [item.real, item.imag]}
        if hasattr(item, "tolist"):
            return item.tolist()
        if isinstance(item, Path):
            return str(item)
        raise TypeError(f"a {type(item).__name__}")

    try:
        group[name] = json.dumps(dict(value), default=other)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds {error}, which cannot be saved; expected numbers, text, lists") from error


def get_json(group: h5py.Group, name: str, path: Path) -> dict[str, Any]:
    """Read a mapping that `put_json` stored. Raises FormatError where it is missing or no JSON object."""

    def back(item: dict[str, Any]) -> Any:
        return complex(*item["__complex__"]) if list(item) == ["__complex__"] else item

    stored = get_array(group, name, path)
    try:
        found = json.loads(stored.asstr()[()], object_hook=back)
        if not isinstance(found, dict):
            raise ValueError(f"it is a {type(found).__name__}")
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path}: {_full(group, name)} is not a JSON object: {error}") from error
    return found


def plain_attribute(value: Any) -> Any:
    """An HDF5 attribute as JSON can hold it: numbers, text, lists."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist() if value.dtype.kind in "biufUO" else str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _full(group: h5py.Group, name: str) -> str:
    return f"{group.name}/{name}".strip("/")
