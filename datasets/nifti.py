"""NIfTI in and out, with its affine: the file's world is RAS (x grows to the right), that of `Volume` LPS, both mm."""

from __future__ import annotations

import gzip
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.datasets.volume import Volume, lengths, without_lengths
from invdiff.errors import FileError, FormatError, InputError, missing_extra
from invdiff.files import existing, head, parsing, replacing, sha256

__all__ = ["read", "recognise", "write", "write_all"]

_MAGIC = ((344, b"n+1\0"), (4, b"n+2\0"))
_PACKED = 1100  # deflate makes nothing smaller than by 1032 times: a damaged shape must not ask for all memory
_MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS to LPS, and back


def recognise(path: str | Path) -> bool:
    """Whether this is a NIfTI-1 or NIfTI-2 file, also compressed (``.nii.gz``)."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        first = head(path, 348)
        if first.startswith(b"\x1f\x8b"):
            with gzip.open(path) as file:
                first = file.read(348)
    except (FileError, OSError, EOFError, zlib.error):
        return False
    return any(first[at : at + 4] == magic for at, magic in _MAGIC)


def read(
    path: str | Path,
    volume: int | None = None,
    units: str | None = None,
    spacing: float | Sequence[float] | None = None,
) -> Volume:
    """Read a volume, with the file's scaling applied.

    Args:
        path: a single file, ``.nii`` or ``.nii.gz``.
        volume: which one of a file that holds several (along its fourth axis).
        units: of the values ("HU"), which the format has no field for; None for what our own files say of it.
        spacing: of a file that lacks it: mm between slices, rows and columns, or one number for all.

    Returns:
        Slices, rows and columns are the file's third, second and first axis.

    Raises:
        FileError: the file cannot be opened. FormatError: it is not NIfTI, is damaged, holds several volumes and none
        is named, colours, or NaN, or says not how large a voxel is. InputError: there is no such volume, or `spacing`
        is no length. MissingExtraError: nibabel is not installed.
    """
    nibabel = _nibabel()
    path = existing(path)
    if not recognise(path):
        raise FormatError(f"{path} is not a single-file NIfTI: it begins with {head(path)!r}")
    with parsing(path, "NIfTI"):
        try:
            packed = head(path, 2) == b"\x1f\x8b"
            start = _begin(path, packed, 540)
            kind = nibabel.Nifti2Image if start[4:8] == b"n+2\0" else nibabel.Nifti1Image
            # As it is: nibabel's checks would mend it, taking voxels without a size for 1 mm.
            header = kind.header_class(start[: kind.header_class.sizeof_hdr], check=False)
            shape = header.get_data_shape()
            size = int(np.prod([int(n) for n in shape], dtype=object)) * header.get_data_dtype().itemsize
            held = path.stat().st_size
            if size > held * (_PACKED if packed else 1) or min(shape, default=0) < 1:
                raise FormatError(
                    f"{path} claims shape {shape}, {size} bytes, in a file of {held} bytes; it is damaged or cut short"
                )
            image = kind.from_bytes(_begin(path, packed, size + int(header.get_data_offset())))
            values = _chosen(np.asanyarray(image.dataobj), volume, path)
            affine = _affine(image, header, path, spacing)
            if not np.isfinite(values).all():
                raise FormatError(f"{path} holds NaN or infinity in {int((~np.isfinite(values)).sum())} voxels")
            meta = {"file": str(path), "format": "nifti", "sha256": sha256(path)}
            said = re.match(rb"units=([^\s;]+)", bytes(header["descrip"].item()))
            unit = units if units is not None else said[1].decode("ascii", "replace") if said else ""
            return Volume(values.transpose(2, 1, 0), affine, unit, meta=meta)
        except InputError as error:
            if "volume is" in str(error) or "spacing is" in str(error):
                raise
            raise FormatError(f"{path}: {error}") from error


def write(path: str | Path, volume: Volume, description: str = "") -> Path:
    """Write a volume as NIfTI-1, float32 or complex64, compressed where the name ends in ``.gz``.

    `description` goes into the header, which holds 79 bytes of it.

    Raises:
        FileError: the file cannot be written. MissingExtraError: nibabel is not installed.
    """
    return write_all({Path(path): volume}, description)[0]


def write_all(volumes: Mapping[Path, Volume], description: str = "") -> list[Path]:
    """Write several files as `write` does: all of them appear, or none."""
    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path)) for path in volumes]
        for part, (path, volume) in zip(parts, volumes.items(), strict=True):
            content = _encoded(volume, description)
            part.write_bytes(gzip.compress(content, 6, mtime=0) if path.suffix.lower() == ".gz" else content)
    return list(volumes)


def _encoded(volume: Volume, description: str) -> bytes:
    affine = _FLIP @ volume.affine[:, [2, 1, 0, 3]]
    image = _nibabel().Nifti1Image(np.ascontiguousarray(volume.values.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    unit = f"units={volume.units}; " if volume.units else ""
    image.header["descrip"] = f"{unit}{description}".encode("ascii", "replace")[:79]
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner" if _boxes(affine) else "unknown")
    content: bytes = image.to_bytes()
    return content


def _affine(image: Any, header: Any, path: Path, spacing: float | Sequence[float] | None) -> np.ndarray:
    """From (slice, row, column) to LPS in mm."""
    scale = _MM.get(header.get_xyzt_units()[0], 1.0)
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    given = [float(d) for d in header["pixdim"][1:4]]
    known = int(header["sform_code"]) > 0 or all(d > 0 for d in given[: min(3, len(header.get_data_shape()))])
    if not known and spacing is None:
        raise without_lengths(path)
    if not placed:
        warnings.warn(
            f"{path} says not where it stands (sform and qform are 0): columns are taken to run to the left, rows to"
            " the back, slices to the head",
            RuntimeWarning,
            stacklevel=4,
        )
        steps = lengths(spacing) if spacing is not None else [scale * d if d > 0 else 1.0 for d in given[::-1]]
        return np.array([[0, 0, steps[2], 0], [0, steps[1], 0, 0], [steps[0], 0, 0, 0], [0, 0, 0, 1]], float)
    if known:
        return np.asarray((_FLIP @ np.diag([scale, scale, scale, 1.0]) @ image.affine)[:, [2, 1, 0, 3]])
    affine = np.asarray((_FLIP @ image.affine)[:, [2, 1, 0, 3]], float)  # a qform, whose zeros nibabel takes for ones
    affine[:3, :3] *= np.array(lengths(spacing)) / np.linalg.norm(affine[:3, :3], axis=0)
    return affine


def _boxes(affine: np.ndarray) -> bool:
    """Whether the axes are at right angles, which is all that a qform can say."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < 1e-5)


def _begin(path: Path, packed: bool, count: int) -> bytes:
    with gzip.open(path) if packed else path.open("rb") as file:
        found: bytes = file.read(count)
    return found


def _chosen(values: np.ndarray, volume: int | None, path: Path) -> np.ndarray:
    """Three-dimensional values of a float or complex type."""
    if values.dtype.fields:
        raise FormatError(f"{path} holds colours ({values.dtype}); expected numbers")
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    values = values.reshape(values.shape + (1,) * max(0, 3 - values.ndim))
    if values.ndim > 4:
        raise FormatError(f"{path} has shape {values.shape}; expected up to four axes")
    count = int(np.prod(values.shape[3:]))
    if volume is None and count > 1:
        raise FormatError(f"{path} holds {count} volumes; name one with volume=0 to {count - 1} (--read volume=0)")
    if volume is not None and not 0 <= volume < count:
        raise InputError(f"{path} holds {count} volume(s); volume is {volume}, expected 0 to {count - 1}")
    values = values[..., volume or 0] if values.ndim == 4 else values
    return values.astype(np.complex64 if np.iscomplexobj(values) else np.float32)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise missing_extra("nibabel", "imaging", "NIfTI") from error
    return nibabel
