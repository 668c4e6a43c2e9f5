"""The project's own measurement file, read back (layout: `invdiff.storage`)."""

from __future__ import annotations

from pathlib import Path

from invdiff.errors import FileError
from invdiff.hdf5 import open_hdf5
from invdiff.measurement import Measurement

__all__ = ["read", "recognise"]


def recognise(path: str | Path) -> bool:
    """Whether this is an HDF5 file whose attribute ``invdiff_format`` is "measurement"."""
    try:
        with open_hdf5(path) as file:
            return bool(file.attrs.get("invdiff_format") == "measurement")
    except FileError:
        return False


def read(path: str | Path) -> Measurement:
    """Read a file that `Measurement.save` wrote. Raises FileError, FormatError."""
    return Measurement.load(path)
