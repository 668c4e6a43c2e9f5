"""System matrices kept on disk, under a size limit.

They stand in the folder ``INVDIFF_CACHE`` names (``~/.cache/invdiff`` where it is not set), sub-folder ``ct``, one
file a matrix, named by the hash of its geometry. ``INVDIFF_CACHE_LIMIT`` is the limit in bytes for all of them
(2 GiB where it is not set, 0 to keep nothing); the matrices used longest ago are removed first. Nothing depends on
the cache: what is missing, damaged or cannot be written is computed again.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import FileError, InputError
from invdiff.files import replacing

__all__ = ["folder", "limit", "load", "store"]

# Part of the file name: raise it whenever the weights or the layout change, or old files would be read as new ones.
_VERSION = 1


def folder() -> Path:
    """Return the folder of the matrices (it need not exist)."""
    base = (
        os.environ.get("INVDIFF_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "invdiff"
    )
    return Path(base) / "ct"


def limit() -> int:
    """Return the limit in bytes. Raises InputError where the variable is no number."""
    text = os.environ.get("INVDIFF_CACHE_LIMIT", str(2 << 30))
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"INVDIFF_CACHE_LIMIT is {text!r}; it expects a number of bytes (0 keeps nothing)") from error


def load(key: str) -> dict[str, NDArray] | None:
    """Return the arrays stored under a key, or None."""
    path = _path(key)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        os.utime(path)  # used now: last to be removed
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    sound = {"start", "column", "value"} <= arrays.keys() and len(arrays["start"]) > 0
    return arrays if sound and arrays["start"][-1] == len(arrays["column"]) == len(arrays["value"]) else None


def store(key: str, arrays: Mapping[str, NDArray]) -> None:
    """Keep arrays under a key, removing the oldest others to stay within the limit; do nothing where it cannot be."""
    size, most = sum(a.nbytes for a in arrays.values()) + 4096, limit()
    if size > most:
        return
    try:
        _path(key).parent.mkdir(parents=True, exist_ok=True)
        _make_room(most - size)
        with replacing(_path(key)) as part, part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except (OSError, FileError):
        return


def _make_room(most: int) -> None:
    files = [(p, p.stat()) for p in folder().glob("*.npz")]
    total = sum(s.st_size for _, s in files)
    for path, status in sorted(files, key=lambda item: item[1].st_mtime):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= status.st_size


def _path(key: str) -> Path:
    return folder() / f"{key[:32]}-v{_VERSION}.npz"
