"""Options that several commands share, and checks of output files before any work is done."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff.errors import FileError, InputError, UnknownNameError

__all__ = [
    "Device",
    "Draws",
    "Json",
    "Nfe",
    "Read",
    "Seed",
    "Solver",
    "check_output",
    "check_result",
    "memory_size",
    "reader_options",
    "write_json",
]

Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.", metavar="FILE")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result, to the bit, on the same device.")]
Draws = Annotated[int, typer.Option(min=1, help="Number of posterior draws.")]
Nfe = Annotated[int | None, typer.Option(min=1, help="Network evaluations per draw.", show_default="the method's own")]
Solver = Annotated[str | None, typer.Option(help="Solver (see invdiff info).", show_default="the method's own")]
Read = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        help="An option of the file's reader, may be repeated: series=3, select.EchoNumbers=1, strict=false, volume=0,"
        " units=HU, spacing=1.",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")]

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def memory_size(text: str, option: str = "--memory") -> int:
    """Return a number of bytes from "2GiB", "500 MB", "8G" or "1000000"; the units are powers of 1024.

    Raises:
        InputError: it is none of these, or less than 1 MiB.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if not found:
        raise InputError(f"{option} is {text!r}; it expects a size like 2GiB, 500MiB or 8G")
    size = int(float(found[1]) * _UNITS[found[2]])
    if size < 2**20:
        raise InputError(f"{option} is {text!r}, {size} bytes; it expects at least 1MiB")
    return size


def reader_options(texts: list[str] | None, own: Collection[str] = ()) -> dict[str, Any]:
    """Return options of a reader from "name=value"; "select.name=value" goes into a dictionary.

    Values that are JSON (numbers, true, lists) are taken as such, others as text. Raises InputError for what is none
    of this, named twice, or among `own`, those that the command has options of their own for.
    """
    found: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not all(part.isidentifier() for part in name.split(".")) or name.count(".") > 1:
            raise InputError(f"--read is {text!r}; it expects NAME=VALUE, like series=3 or select.EchoNumbers=1")
        try:
            known: Any = json.loads(value)
        except ValueError:
            known = value
        first, _, inner = name.partition(".")
        if first in own:
            raise InputError(f"--read is {text!r}; the command has an option of its own for {first}")
        held = found.setdefault(first, {}) if inner else found
        key = inner or first
        if not isinstance(held, dict) or key in held:
            raise InputError(f"--read is {text!r}; {first} was given before")
        held[key] = known
    return found


def check_output(path: Path | None, suffix: str = "", option: str = "") -> None:
    """See that a file can be written later, so that no long run ends with nothing.

    Raises:
        FileError: its folder does not exist or the path is a folder. UnknownNameError: it does not end in `suffix`.
    """
    if path is None:
        return
    if suffix and path.suffix.lower() != suffix:
        raise UnknownNameError(f"{option} is {path}; its name must end in {suffix}")
    if path.is_dir():
        raise FileError(f"{option} is {path}, which is a folder; a file name was expected")
    if not path.parent.is_dir():
        raise FileError(f"{option} is {path}, but the folder {path.parent.absolute()} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"{option} is {path}, but the folder {path.parent.absolute()} is not writable; choose another")


def check_result(path: Path, format: str | None) -> None:
    """See that a posterior can be written later, as a file or a folder by name or format (`Posterior.save`).

    Raises:
        FileError: the folder does not exist, is not writable or, for DICOM, is not empty. UnknownNameError: the name
            or the format is of no known kind.
    """
    from invdiff.datasets.outputs import FORMATS, format_of

    images = format_of(path) is not None
    known = ("netcdf", *FORMATS)
    if format is not None and format not in known:
        raise UnknownNameError(f"--format is {format!r}; it expects one of {', '.join(known)}")
    if format is None and path.suffix and not images and path.suffix.lower() not in (".nc", ".nc4", ".h5", ".hdf5"):
        raise UnknownNameError(
            f"-o is {path}; its name must end in .nc, .h5, .nii, .nii.gz, .mha, .nrrd or .cfl, or have no suffix for a"
            " DICOM folder"
        )
    if format in ("dicom", "parametric-map") or (format is None and not path.suffix):
        if path.is_dir() and any(path.iterdir()):
            raise FileError(f"-o is {path}, a folder that is not empty; a new or empty one was expected")
        if path.is_file():
            raise FileError(f"-o is {path}, a file; DICOM goes to a folder, new or empty")
        path = path.with_name(f"{path.name}.part") if path.is_dir() else path
    check_output(path, option="-o")


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write figures as JSON, the whole file at once; a number that is not finite becomes null."""
    if path is None:
        return
    from invdiff.files import replacing

    text = json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
