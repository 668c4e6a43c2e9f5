"""DICOM in: one volume per series, from a file, a folder or a DICOMDIR.

Values are ``stored * RescaleSlope + RescaleIntercept``, slice by slice, Hounsfield units for CT. Photometric
interpretation says how to show values, not what they are: MONOCHROME1 is read as it is and noted; colour is refused.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.dicom.files import find, is_dicom, is_projection, load, parsing
from invdiff.datasets.dicom.series import Frame, arrange, field, placed
from invdiff.datasets.volume import Volume
from invdiff.errors import FormatError, MissingExtraError, UnknownNameError
from invdiff.files import sha256

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read", "read_all", "recognise"]

_PACKED = 2000  # a compressed file that claims to be larger by more is damaged
_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress it (gdcmconv -w, dcmdjpeg)"
_SCALING = "PixelValueTransformationSequence"


def recognise(path: str | Path) -> bool:
    """Whether a file is DICOM, or a folder holds DICOM files, and not projections."""
    path = Path(path)
    if not path.is_dir():
        return path.is_file() and is_dicom(path) and not is_projection(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())[:100]
    return next((not is_projection(p) for p in files if is_dicom(p)), False)


def read(
    path: str | Path,
    series: str | int | None = None,
    *,
    strict: bool = True,
    select: Mapping[str, Any] | None = None,
) -> Volume:
    """Read one series.

    Args:
        path: a file, a DICOMDIR, or a folder, whose folders are looked through too.
        series: its SeriesInstanceUID, SeriesNumber or SeriesDescription, where there are several.
        strict: refuse uneven or missing slices and a tilted gantry; False warns, and takes slices as evenly spaced.
        select: header fields of the slices to take, where a place has several: ``{"EchoNumbers": 1}``, in enhanced
            objects ``{"EffectiveEchoTime": 4.0}``.

    Returns:
        Slices in increasing position along ``cross(row, column)``. Padding is false in ``mask`` and has the value of
        air, -1000 HU, in CT, 0 elsewhere.

    Raises:
        FileError: there is no such file or folder. FormatError: damaged files, no images, no regular volume, or
        several series and none named. UnknownNameError: there is no such series. InputError: `select` leaves nothing.
        MissingExtraError: no decoder for compressed pixels is installed.
    """
    with parsing(path):
        volume, notes = _one(path, series, strict, select)
    _tell(notes)
    return volume


def _one(
    path: str | Path, series: str | int | None, strict: bool, select: Mapping[str, Any] | None
) -> tuple[Volume, list[str]]:
    found, notes = find(path)
    if series is not None:
        keys = [uid for uid, files in found.items() if str(series) in _names(uid, files[0][1])]
    else:
        keys = list(found)
    if len(keys) == 1:
        return _volume(found[keys[0]], f"{path}", strict, select, notes), notes
    listed = "; ".join(
        f"{', '.join(_names(uid, files[0][1]))}: {len(files)} file(s) in {files[0][0].parent}"
        for uid, files in found.items()
    )
    if not keys:
        raise UnknownNameError(f"{path} holds no series {series!r}; there are {listed}")
    raise FormatError(f"{path} holds {len(found)} series; name one with series=... (--read series=...): {listed}")


def read_all(path: str | Path, *, strict: bool = True) -> dict[str, Volume]:
    """Read all series, by SeriesInstanceUID; one that is no volume is passed over with a warning that says why.

    Raises what `read` does, FormatError where no series is a volume.
    """
    found, notes = find(path)
    volumes: dict[str, Volume] = {}
    for uid, files in found.items():
        try:
            with parsing(path):
                volumes[uid] = _volume(files, f"{path}: series {uid}", strict, None, notes)
        except FormatError as error:
            notes.append(f"passed over: {error}")
    if not volumes:
        raise FormatError(f"{path} holds no series that is a volume: {'; '.join(notes)}")
    _tell(notes)
    return volumes


def _tell(notes: list[str]) -> None:
    for note in notes:
        warnings.warn(note, RuntimeWarning, stacklevel=3)


def _names(uid: str, header: Dataset) -> list[str]:
    given = [header.get("SeriesNumber"), header.get("SeriesDescription")]
    return [uid, *(str(g) for g in given if g not in (None, ""))]


def _volume(
    files: list[tuple[Path, Dataset]],
    where: str,
    strict: bool,
    select: Mapping[str, Any] | None,
    notes: list[str],
) -> Volume:
    with parsing(where):
        frames = [frame for path, header in files for frame in placed(path, header)]
        ordered, affine, found = arrange(frames, where, strict, select)
        notes += found
        units = _units(ordered[0])
        headers = {f.path: f.header for f in ordered}  # each file is decoded once
        for path, header in headers.items():
            _check_size(path, header)
    values = np.empty((len(ordered), *ordered[0].shape), np.float32)
    mask = np.ones(values.shape, bool)
    for path in headers:
        with parsing(path):
            stored, header = _pixels(path)
            for k, frame in enumerate(ordered):
                if frame.path == path:
                    values[k], mask[k] = _physical(stored[frame.number], header, frame)
    header = ordered[0].header
    meta = {
        "file": where,
        "format": "dicom",
        "sha256": hashlib.sha256("".join(sha256(p) for p in headers).encode()).hexdigest(),
        "modality": str(header.get("Modality") or ""),
        "series": str(header.get("SeriesInstanceUID", "")),
        "photometric": str(header.get("PhotometricInterpretation", "")),
        "files": [[str(f.path.absolute()), f.number] for f in ordered],
    }
    if not np.isfinite(values).all():
        raise FormatError(f"{where} holds values that no float32 can hold; its rescale slope or pixels are damaged")
    values[~mask] = -1000 if units == "HU" else 0
    return Volume(values, affine, units, None if mask.all() else mask, meta)


def _check_size(path: Path, header: Dataset) -> None:
    """Raise FormatError where the header promises more pixels than the file can hold, before memory is taken."""
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
    packed = syntax is not None and (syntax.is_encapsulated or syntax.is_deflated)
    bits = int(header.get("BitsAllocated") or 16)
    claimed = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1) * bits // 8
    held = path.stat().st_size
    if claimed > (max(1 << 26, _PACKED * held) if packed else held):
        raise FormatError(
            f"{path} claims {claimed} bytes of pixels in a file of {held} bytes; it is damaged or cut short"
        )


def _pixels(path: Path) -> tuple[NDArray[Any], Dataset]:
    """All frames of a file as stored, ``(frames, rows, columns)``."""
    import pydicom
    from pydicom.pixels.decoders.base import get_decoder

    header = load(path, pixels=True)
    if int(header.get("SamplesPerPixel") or 1) != 1 or "PALETTE" in str(header.get("PhotometricInterpretation")):
        raise FormatError(f"{path} is a colour image ({header.get('PhotometricInterpretation')}); expected grey values")
    names = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    if not any(name in header for name in names):
        raise FormatError(f"{path} has no pixels ({', '.join(names)} are missing); it is cut short, copy it again")
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        header.set_original_encoding(True, True)
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    elif syntax.is_compressed and "PixelData" in header:
        decoder = get_decoder(syntax)
        if not decoder.is_available:
            raise MissingExtraError(
                f"{path} is compressed ({syntax.name}), for which no decoder is installed: {_DECODERS}"
            )
    try:
        pixels = header.pixel_array
    except RuntimeError as error:
        if "does not support" not in str(error):  # what Pillow says of 12 bits
            raise
        raise MissingExtraError(f"{path}: {str(error).splitlines()[-1].strip()}: {_DECODERS}") from error
    return pixels.reshape(-1, int(header.Rows), int(header.Columns)), header


def _physical(stored: NDArray[Any], header: Dataset, frame: Frame) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of one slice in its unit, and where they are image."""
    inside = _inside(stored, header)
    if header.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        return np.asarray(apply_modality_lut(stored, header), np.float64), inside
    names, find = ("RescaleSlope", "RescaleIntercept"), _rescale
    if _is_mapped(frame):
        names, find = ("RealWorldValueSlope", "RealWorldValueIntercept"), _mapping
    slope, intercept = (find(frame, name) for name in names)
    if slope in (None, "") and _mapping(frame, "RealWorldValueLUTData") is not None:
        raise FormatError(f"{frame.path} gives its values by a table (RealWorldValueLUTData); expected a slope")
    slope, intercept = float(1 if slope in (None, "") else slope), float(0 if intercept in (None, "") else intercept)
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise FormatError(f"{frame.path} has {names[0]} {slope} and {names[1]} {intercept}; values are lost")
    return np.where(inside, stored, 0) * slope + intercept, inside


def _inside(stored: NDArray[Any], header: Dataset) -> NDArray[np.bool_]:
    """False where a stored value is padding."""
    if stored.dtype.kind == "f":
        return np.isfinite(stored)
    padding, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if padding in (None, "") or isinstance(padding, bytes):
        return np.ones(stored.shape, bool)
    ends = [_as_stored(int(v), header) for v in (padding, padding if limit in (None, "") else limit)]
    return (stored < min(ends)) | (stored > max(ends))


def _as_stored(value: int, header: Dataset) -> int:
    """A padding value written with the other signedness than the pixels, as the pixels have it."""
    span = 1 << int(header.BitsAllocated)
    if int(header.get("PixelRepresentation") or 0):
        return value - span if value >= span // 2 else value
    return value + span if value < 0 else value


def _rescale(frame: Frame, name: str) -> Any:
    return field(frame.header, frame.number, name, _SCALING)


def _mapping(frame: Frame, name: str) -> Any:
    """A value of the real-world mapping of a frame, or of the whole object."""
    whole = frame.header.get("RealWorldValueMappingSequence") or [{}]
    found = field(frame.header, frame.number, name, "RealWorldValueMappingSequence")
    return whole[0].get(name) if found is None else found


def _is_mapped(frame: Frame) -> bool:
    """Whether values come from a real-world mapping, with its unit: where the rescale names no unit."""
    given = str(_rescale(frame, "RescaleType") or "")
    known = _mapping(frame, "RealWorldValueSlope") is not None
    return known and given in ("", "US") and frame.header.get("Modality") != "PT"  # US: unspecified


def _units(frame: Frame) -> str:
    given = str(_rescale(frame, "RescaleType") or "")
    if given not in ("", "US"):
        return given
    modality = frame.header.get("Modality")
    if modality == "PT":
        return str(frame.header.get("Units") or "")
    mapping = _mapping(frame, "MeasurementUnitsCodeSequence")
    if mapping and _is_mapped(frame):
        code = str(mapping[0].get("CodeValue") or "")
        return "HU" if code == "[hnsf'U]" else "" if code == "1" else code
    return "HU" if modality == "CT" and given == "" else ""
