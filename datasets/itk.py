"""MetaImage (``.mha``, ``.mhd``) and NRRD (``.nrrd``, ``.nhdr``) in and out, by SimpleITK; their world is LPS in mm.

The header is looked at before the library takes memory for what it claims, and before it opens another file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.datasets.volume import MILLIMETRES, Volume, lengths, without_lengths
from invdiff.errors import FileError, FormatError, InputError, missing_extra
from invdiff.files import existing, head, parsing, replacing, sha256

__all__ = ["data_file", "read", "recognise", "write", "write_all"]

_HEADER = 1 << 16  # bytes; real ones have some hundred
_LINE = 500  # the library's buffers for words of a NRRD header end somewhere beyond, unchecked
_PACKED = 1100  # deflate makes nothing smaller than by 1032 times
_SIZES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4,
    "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_UNITS = "invdiff_units"  # a field of our own: the formats have none for the unit of values


@dataclass(frozen=True)
class _Header:
    """Bytes that all values take, the file that holds them, whether compressed; the unit of length in mm, if any."""

    claimed: int
    data: Path
    packed: bool
    millimetres: float | None


def recognise(path: str | Path) -> bool:
    """Whether the file begins as MetaImage or NRRD does."""
    path = Path(path)
    try:
        return path.is_file() and _library_name(head(path, 256)) is not None
    except FileError:
        return False


def _library_name(first: bytes) -> str | None:
    if first.startswith(b"NRRD000"):
        return "NrrdImageIO"
    key = first.split(b"=")[0].strip()
    return "MetaImageIO" if b"=" in first and key in (b"ObjectType", b"NDims", b"Comment") else None


def read(
    path: str | Path,
    volume: int | None = None,
    units: str | None = None,
    spacing: float | Sequence[float] | None = None,
) -> Volume:
    """Read a volume.

    Args:
        path: of the file that has the header.
        volume: which one of a file that holds several (along its fourth axis).
        units: of the values ("HU"), which the formats have no field for; None for what our own files say of it.
        spacing: of a file that lacks it: mm between slices, rows and columns, or one number for all.

    Returns:
        Slices, rows and columns are the file's third, second and first axis.

    Raises:
        FileError: the file cannot be opened. FormatError: it is of neither format, is damaged, names data in another
        folder, says not how large a voxel is, or holds vectors, NaN, or several volumes and none is named. InputError:
        there is no such volume, or `spacing` is no length. MissingExtraError: SimpleITK is not installed.
    """
    library = _simpleitk()
    path = existing(path)
    name = _library_name(head(path, 256))
    if name is None:
        raise FormatError(f"{path} is neither MetaImage nor NRRD: it begins with {head(path)!r}")
    header = _nrrd(path) if name == "NrrdImageIO" else _metaimage(path)
    _check(path, header)
    if header.millimetres is None and spacing is None:
        raise without_lengths(path)
    with parsing(path, "MetaImage or NRRD"):
        image = library.ReadImage(str(path), imageIO=name)
        values = library.GetArrayFromImage(image)
        dimension, channels = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
        place = [np.array(v) for v in (image.GetDirection(), image.GetSpacing(), image.GetOrigin())]
        said = image.GetMetaData(_UNITS) if _UNITS in image.GetMetaDataKeys() else ""
    if channels != 1 and not np.iscomplexobj(values):
        raise FormatError(f"{path} holds vectors of {channels} numbers; expected one number a voxel")
    count = len(values) if dimension == 4 else 1
    if dimension not in (2, 3, 4) or (count > 1 and volume is None):
        named = f"; name one with volume=0 to {count - 1} (--read volume=0)" if dimension == 4 else ""
        raise FormatError(f"{path} has {dimension} axes, {values.shape}; expected one volume{named}")
    if volume is not None and not 0 <= volume < count:
        raise InputError(f"{path} holds {count} volume(s); volume is {volume}, expected 0 to {count - 1}")
    values = values[volume or 0] if dimension == 4 else values
    values = values.astype(np.complex64 if np.iscomplexobj(values) else np.float32, copy=False)
    if not np.isfinite(values).all():
        raise FormatError(f"{path} holds NaN or infinity (in 32 bits) in {int((~np.isfinite(values)).sum())} voxels")
    axes, affine = np.eye(3), np.eye(4)
    d = min(dimension, 3)
    steps = place[1][:d] * (header.millimetres or 1) if spacing is None else np.array(lengths(spacing))[::-1][:d]
    place[2] = place[2] * (header.millimetres or 1)
    axes[:d, :d] = place[0].reshape(dimension, dimension)[:d, :d] * steps
    affine[:3, :3], affine[:d, 3] = axes[:, ::-1], place[2][:d]
    meta = {"file": str(path), "format": "metaimage" if name == "MetaImageIO" else "nrrd", "sha256": sha256(path)}
    try:
        unit = said if units is None else units
        return Volume(values.reshape((1,) * (3 - values.ndim) + values.shape), affine, unit, meta=meta)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from error


def write(path: str | Path, volume: Volume) -> Path:
    """Write a volume, as NRRD where the name ends in ``.nrrd``, as MetaImage in one file (``.mha``) otherwise.

    Raises:
        InputError: complex values, which these files have no way to hold. FileError: the file cannot be written.
        MissingExtraError: SimpleITK is not installed.
    """
    return write_all({Path(path): volume})[0]


def write_all(volumes: Mapping[Path, Volume]) -> list[Path]:
    """Write several files as `write` does: all of them appear, or none."""
    library = _simpleitk()
    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path)) for path in volumes]
        for part, (path, volume) in zip(parts, volumes.items(), strict=True):
            if np.iscomplexobj(volume.values):
                raise InputError(
                    f"{path}: values are complex; write the magnitude, or NIfTI (.nii.gz), which holds them"
                )
            image = library.GetImageFromArray(np.ascontiguousarray(volume.values))
            lengths = volume.spacing[::-1]
            image.SetSpacing([float(v) for v in lengths])
            image.SetOrigin([float(v) for v in volume.affine[:3, 3]])
            image.SetDirection([float(v) for v in (volume.affine[:3, 2::-1] / lengths).ravel()])
            if volume.units:
                image.SetMetaData(_UNITS, volume.units)
            # The library picks the format by the suffix.
            inner = part.with_name(part.name + (".nrrd" if path.suffix.lower() == ".nrrd" else ".mha"))
            try:
                library.WriteImage(image, str(inner), useCompression=False)
                if inner.stat().st_size < volume.values.nbytes:  # it does not always notice a full disk
                    raise FileError(f"cannot write {path}: the disk is full")
                inner.rename(part)
            finally:
                inner.unlink(missing_ok=True)
    return list(volumes)


def data_file(path: Path) -> Path:
    """The file that holds the values, often `path` itself. Raises FormatError where the header cannot be read."""
    return (_nrrd(path) if _library_name(head(path, 256)) == "NrrdImageIO" else _metaimage(path)).data


def _check(path: Path, header: _Header) -> None:
    """Raise FormatError where the header promises more than its file of data can hold."""
    if not header.data.is_file():
        raise FormatError(f"{path} says that its values are in {header.data}, which does not exist")
    held = header.data.stat().st_size
    if header.claimed < 1 or header.claimed > held * (_PACKED if header.packed else 1):
        raise FormatError(
            f"{path} claims {header.claimed} bytes of values, {header.data} has {held}; it is damaged or cut short"
        )


def _beside(path: Path, name: str) -> Path:
    if not 0 < len(name) <= 200 or name in (".", "..") or set(name.strip()) & set("/\\% "):
        raise FormatError(f"{path} says that its values are in {name!r}; expected one file in the same folder")
    return path.parent / name.strip()


def _fields(path: Path, text: bytes, between: str) -> dict[str, str]:
    lines = text.decode("latin-1").splitlines()
    if max(map(len, lines), default=0) > _LINE or "\0" in text.decode("latin-1"):
        raise FormatError(f"{path} has a header with a line of more than {_LINE} characters, or with binary ones")
    pairs = (line.partition(between) for line in lines)
    found: dict[str, str] = {}
    for key, mark, value in pairs:
        if mark and found.setdefault(key.strip(), value.strip()) != value.strip():
            raise FormatError(f"{path} has {key.strip()} twice; it is damaged")
    return found


def _count(path: Path, text: str | None, name: str) -> int:
    """The product of whole numbers above zero."""
    try:
        sizes = [int(n) for n in (text or "").split()]
    except ValueError:
        sizes = []
    if not 1 <= len(sizes) <= 8 or min(sizes) < 1:
        raise FormatError(f"{path} has {name} {text!r}; expected whole numbers above 0")
    return math.prod(sizes)


def _check_axes(path: Path, number: str | None, sizes: str | None) -> None:
    """Raise FormatError where the number of axes is not that of their lengths: the library trusts it."""
    if number not in ("1", "2", "3", "4") or len((sizes or "").split()) != int(number):
        raise FormatError(f"{path} has {number} axes of lengths {sizes!r}; expected as many lengths as axes, up to 4")


def _metaimage(path: Path) -> _Header:
    text, mark, rest = head(path, _HEADER).partition(b"ElementDataFile")
    if not mark:
        raise FormatError(f"{path} has no ElementDataFile; it is damaged or cut short, copy it again")
    fields = _fields(path, text, "=")
    size = _SIZES.get(fields.get("ElementType", "").removesuffix("_ARRAY"))
    if size is None:
        raise FormatError(f"{path} has ElementType {fields.get('ElementType')!r}; expected one of {', '.join(_SIZES)}")
    channels = _count(path, fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels")
    _check_axes(path, fields.get("NDims"), fields.get("DimSize"))
    claimed = _count(path, fields.get("DimSize"), "DimSize") * size * channels
    name = rest.partition(b"\n")[0].decode("latin-1").partition("=")[2].strip()
    packed = fields.get("CompressedData", "False").lower() in ("true", "1")
    data = path if name.upper() == "LOCAL" else _beside(path, name)
    stored = fields.get("CompressedDataSize", "0")
    if not stored.isdigit() or (data.is_file() and int(stored) > data.stat().st_size):
        raise FormatError(f"{path} has CompressedDataSize {stored!r}; expected no more bytes than there are")
    if fields.get("BinaryData", "True").lower() in ("false", "0"):
        claimed = claimed // size * 2  # a digit and a space at least
    return _Header(claimed, data, packed, 1.0 if {"ElementSpacing", "ElementSize"} & set(fields) else None)


def _nrrd(path: Path) -> _Header:
    text, mark, _ = head(path, _HEADER).replace(b"\r\n", b"\n").partition(b"\n\n")
    fields = {key.lower(): value for key, value in _fields(path, text, ": ").items()}
    name = fields.get("data file", fields.get("datafile"))
    if not mark and name is None:
        raise FormatError(f"{path} has no empty line after its header; it is damaged or cut short, copy it again")
    kind = fields.get("type", "").lower()
    wide = next((n for key, n in {"64": 8, "long long": 8, "double": 8, "8": 1, "char": 1, "16": 2, "short": 2,
                                  "32": 4, "int": 4, "float": 4}.items() if key in kind), None)  # fmt: skip
    if wide is None:
        raise FormatError(f"{path} has type {kind!r}; expected numbers of 8 to 64 bits")
    _check_axes(path, fields.get("dimension"), fields.get("sizes"))
    encoding = fields.get("encoding", "raw").lower()
    claimed = _count(path, fields.get("sizes"), "sizes") * (wide if encoding != "ascii" else 1)
    data = path if name is None else _beside(path, name)
    return _Header(claimed, data, encoding not in ("raw", "ascii"), _nrrd_unit(path, fields))


def _nrrd_unit(path: Path, fields: Mapping[str, str]) -> float | None:
    """The unit of length in mm, which is what a file without one means; None where there are no lengths."""
    if not {"spacings", "space directions"} & set(fields):
        return None
    said = {
        unit
        for key in ("space units", "units")
        for unit in fields.get(key, "").replace('"', " ").split()
        if unit != "?"
    }
    if len(said) > 1 or not said <= set(MILLIMETRES):
        raise FormatError(f"{path} has lengths in {', '.join(sorted(said))}; expected one of {', '.join(MILLIMETRES)}")
    return MILLIMETRES[said.pop()] if said else 1.0


def _simpleitk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise missing_extra("SimpleITK", "imaging", "MetaImage and NRRD") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK
