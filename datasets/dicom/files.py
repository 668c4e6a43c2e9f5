"""DICOM files: found in a folder or named by a DICOMDIR, told from others, and grouped by SeriesInstanceUID."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from invdiff import files
from invdiff.errors import FileError, FormatError
from invdiff.files import existing, head

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["find", "is_dicom", "is_projection", "kind", "load", "parsing"]

_DICOMDIR = "1.2.840.10008.1.3.10"


@contextmanager
def parsing(where: str | Path) -> Iterator[None]:
    """Whatever pydicom raises inside becomes a FormatError; its own warnings are not shown, what counts is checked."""
    with files.parsing(where, "DICOM"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does, with the preamble or (old files) without."""
    try:
        first = head(path, 132)
    except FileError:
        return False
    if first[128:] == b"DICM":
        return True
    named = first[4:6].isalpha() and first[4:6].isupper()  # a value representation
    return first[:2] in (b"\x08\x00", b"\x02\x00") and (named or first[6:8] == b"\0\0")


def is_projection(path: Path) -> bool:
    """Whether this is a projection (DICOM-CT-PD) instead of an image."""
    if not is_dicom(path):
        return False
    try:
        with parsing(path):
            return (0x7029, 0x1010) in load(path)
    except FileError:
        return False


def load(path: Path, pixels: bool = False) -> Dataset:
    """Parse a file, with or without its pixels; to be called inside `parsing`."""
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=not pixels, force=head(path, 132)[128:] != b"DICM")


def kind(header: Dataset) -> str:
    """What kind of object this is, in words."""
    stored = getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID")
    return getattr(header.get("SOPClassUID") or stored, "name", "no SOP class")


def find(path: str | Path) -> tuple[dict[str, list[tuple[Path, Dataset]]], list[str]]:
    """Headers of all images in a file, a folder (and folders in it) or what a DICOMDIR names, by SeriesInstanceUID.

    In folders, files that are no DICOM are passed over unless they are empty or their name ends in ``.dcm``.

    Returns:
        The headers, and notes that the user should see: objects without an image, files passed over or not there.

    Raises:
        FileError: there is no such file or folder. FormatError: there is no image, or a file is damaged.
    """
    path = Path(path)
    single = not path.is_dir()
    paths = [existing(path)] if single else sorted(p for p in path.rglob("*") if p.is_file())
    found: dict[str, list[tuple[Path, Dataset]]] = {}
    others: list[str] = []
    foreign: list[str] = []
    notes: list[str] = []
    listed = False
    while paths:
        part = paths.pop(0)
        if not is_dicom(part):
            if part.name.startswith(".") and not single:
                continue
            existing(part)  # empty: a copy that failed
            if single or listed or part.suffix.lower() == ".dcm":
                raise FormatError(f"{part} is not DICOM: it begins with {head(part)!r}")
            foreign.append(part.name)
            continue
        with parsing(part):
            header = load(part)
            meta = getattr(header, "file_meta", None)
            if meta is not None and meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
                paths += _listed(part, header, notes) if single else []
                single, listed = False, single
            elif "Rows" in header and "Columns" in header:
                found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((part, header))
            elif "Image Storage" in kind(header):
                raise FormatError(f"{part} is a {kind(header)} without Rows and Columns; it is damaged or cut short")
            else:
                others.append(f"{part.name} ({kind(header)})")
    if not found:
        held = f"; it holds {', '.join(others[:5])}" if others else ""
        raise FormatError(f"{path} holds no DICOM image{held}; expected images of a CT or MR series")
    if others:
        notes.append(f"{path}: passed over {len(others)} object(s) without an image: {', '.join(others[:5])}")
    if foreign:
        notes.append(f"{path}: passed over {len(foreign)} file(s) that are no DICOM: {', '.join(foreign[:5])}")
    return found, notes


def _listed(path: Path, header: Dataset, notes: list[str]) -> list[Path]:
    """The files that a DICOMDIR names."""
    found: list[Path] = []
    missing: list[Path] = []
    for record in header.get("DirectoryRecordSequence") or []:
        parts = record.get("ReferencedFileID")
        if not parts:
            continue
        parts = [parts] if isinstance(parts, str) else list(parts)
        if any(part in ("", ".", "..") or set(part) & set("/\\:") for part in parts):
            raise FormatError(f"{path} names {'/'.join(parts)}; expected a file in its own folder or below")
        file = path.parent.joinpath(*parts)
        (found if file.is_file() else missing).append(file)
    if missing:
        text = f"{path} names {len(missing)} file(s) that do not exist, the first {missing[0]}"
        if not found:
            raise FormatError(text)
        notes.append(text)
    return found
