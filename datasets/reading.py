"""Read a measurement from a file of any known format, recognised by its content.

A format is an entry point of the group ``invdiff.formats``: a module (or object) with

- ``recognise(path) -> bool``, quick and without exceptions;
- ``read(path, **options)``, which returns a `Measurement`, a `RawKspace` or `RawProjections` of which one is made here,
  or (for images, which `read_volume` reads) a `Volume`. It gets the options that its signature names (all of them where
  it takes ``**options``).

An entry that names the function ``read`` itself stands for the module that it is in.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from invdiff.datasets import kspace, projections
from invdiff.datasets.kspace import RawKspace
from invdiff.datasets.projections import RawProjections
from invdiff.datasets.volume import Volume
from invdiff.errors import FileError, FormatError, InputError, UnknownNameError
from invdiff.files import existing, head
from invdiff.hdf5 import MAGIC, open_hdf5
from invdiff.measurement import Measurement

__all__ = ["formats", "read", "read_volume"]

_GROUP = "invdiff.formats"
_MAKERS: dict[type, Any] = {RawKspace: kspace.to_measurement, RawProjections: projections.to_measurement}


def formats() -> list[str]:
    """The names of the formats that are installed."""
    return sorted(set(entry_points(group=_GROUP).names))


def read(path: str | Path, format: str | None = None, **options: Any) -> Measurement:
    """Read a measurement.

    Args:
        path: the file (of projections in DICOM the folder); its content decides, not its suffix.
        format: the name of a format, to be used without asking it whether it recognises the file.
        options: for the format's own ``read`` (``slice``, for k-space), and for what makes a measurement of raw data:
            `invdiff.datasets.kspace.to_measurement` (``sigma``, ``n_sets``, ``calibration``, ``coil_maps``,
            ``keep_oversampling``) or `invdiff.datasets.projections.to_measurement` (``slice``, ``views``, ``bin``,
            ``size``, ``sigma``, ``centre``).

    Raises:
        FileError: the file cannot be opened. FormatError: no format recognises it, or its content is not what it
            should be. UnknownNameError: there is no such format. InputError: an option is unknown or cannot be used.
    """
    path = Path(path)
    if not path.is_dir():
        existing(path)
    entry = _recognised(path) if format is None else _named(format)
    reader = _load(entry)
    own, rest = _split(options, reader.read)
    found = reader.read(path, **own)
    make = _MAKERS.get(type(found))
    if make is not None:
        _, unknown = _split(rest, make)
        if not unknown:
            made: Measurement = make(found, **rest)
            return made
        rest = unknown
    elif isinstance(found, Volume):
        raise FormatError(
            f"{path} (format {entry.name}) holds images, not measured data; read it with"
            " invdiff.datasets.reading.read_volume, and simulate a measurement of it"
        )
    elif not isinstance(found, Measurement):
        raise FormatError(
            f"{path}: format {entry.name} ({entry.value}) returned {type(found).__name__}; expected a Measurement"
        )
    if rest:
        known = [*inspect.signature(reader.read).parameters][1:]
        known += [*inspect.signature(make).parameters][1:] if make else []
        raise InputError(
            f"{path} (format {entry.name}) was to be read with {', '.join(rest)}; its options are"
            f" {', '.join(known) or 'none'}"
        )
    return found


def read_volume(path: str | Path, format: str | None = None, **options: Any) -> Volume:
    """Read images, such as a ground truth: DICOM (also a folder), NIfTI, and what else is installed.

    Args are those of `read`; `options` go to the format (``series``, ``strict``, ``select`` of DICOM).

    Raises what `read` does.
    """
    path = Path(path)
    if not path.is_dir():
        existing(path)
    entry = _recognised(path) if format is None else _named(format)
    reader = _load(entry)
    own, rest = _split(options, reader.read)
    if rest:
        known = [*inspect.signature(reader.read).parameters][1:]
        raise InputError(
            f"{path} (format {entry.name}) was to be read with {', '.join(rest)}; its options are"
            f" {', '.join(known) or 'none'}"
        )
    found = reader.read(path, **own)
    if not isinstance(found, Volume):
        raise FormatError(f"{path} (format {entry.name}) holds measured data, not images; read it with invdiff.read")
    return found


def _recognised(path: Path) -> EntryPoint:
    first = b"" if path.is_dir() else head(path)
    found = [entry for entry, reader in _loaded() if reader.recognise(path)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{e.name} ({e.value})" for e in found)
        raise FormatError(f"{path} is claimed by several formats, {names}; name one with format=...")
    what = "it is a folder" if path.is_dir() else f"it begins with {first!r}"
    if first.startswith(MAGIC):
        with open_hdf5(path) as file:  # raises where it is cut short
            what = f"it is HDF5 with {', '.join(sorted(file)) or 'nothing'} at its root"
    raise FormatError(
        f"{path} is of no known format: {what}; supported are {', '.join(formats())} (HDF5 with kspace, .npy k-space,"
        " measurement files, DICOM, NIfTI, and what is installed as invdiff.formats)"
    )


def _named(name: str) -> EntryPoint:
    found = [entry for entry in entry_points(group=_GROUP) if entry.name == name]
    if not found:
        raise UnknownNameError(f"format {name!r} is not known; there are {', '.join(formats())}")
    return found[0]


def _loaded() -> Iterator[tuple[EntryPoint, Any]]:
    """All formats that can be loaded; one that cannot must not keep the others from reading."""
    for entry in entry_points(group=_GROUP):
        try:
            yield entry, _load(entry)
        except FileError as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=4)


def _load(entry: EntryPoint) -> Any:
    try:
        found = entry.load()
    except Exception as error:  # a plug-in's import can fail in any way
        owner = entry.dist.name if entry.dist else "an unknown distribution"
        raise FileError(f"format {entry.name} ({entry.value}) of {owner} cannot be loaded: {error}") from error
    return sys.modules[found.__module__] if inspect.isfunction(found) else found


def _split(options: dict[str, Any], function: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that a function takes, and the others. Raises InputError for one of another type than it names."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return options, {}
    own = {k: v for k, v in options.items() if k in parameters}
    try:
        hints = get_type_hints(function)
    except NameError:  # a plug-in that imports its types for checkers alone
        hints = {}
    for name, value in own.items():
        if name in hints and not _is_a(value, hints[name]):
            raise InputError(f"option {name} is {value!r}; it expects {parameters[name].annotation}")
    return own, {k: v for k, v in options.items() if k not in parameters}


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a plain value, such as a command line makes, is of a declared type; what lists hold is not looked at."""
    if type(value) not in (str, bool, int, float, list, dict):
        return True
    if get_origin(hint) in (Union, UnionType):
        return any(_is_a(value, one) for one in get_args(hint))
    kind = get_origin(hint) or hint
    if not isinstance(kind, type):  # Any
        return True
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (kind, type(value)) in ((bool, int), (float, int))
