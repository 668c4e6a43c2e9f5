"""DICOM out: derived series of single-frame CT or MR images, in the study and the place of the series they came from.

Headers are built anew, not copied: only what a derived series must share with its source is taken over (patient and
study identification, frame of reference, how the image was acquired), so no private field, overlay or comment slips
through.
"""

from __future__ import annotations

import datetime
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.dicom.files import load, parsing
from invdiff.datasets.dicom.series import field
from invdiff.datasets.volume import Volume
from invdiff.errors import FileError, InputError, InvdiffError
from invdiff.files import existing

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["called", "check", "derived", "new_folder", "sources", "write"]

_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID")
_ACQUIRED = ("BodyPartExamined", "PatientPosition", "SliceThickness", "AcquisitionNumber", "LossyImageCompression",
             "LossyImageCompressionRatio", "LossyImageCompressionMethod", "InversionTime", "FlipAngle",
             "MagneticFieldStrength")  # fmt: skip
# What CT and MR images must say of their acquisition, and what where nothing is known. RM: research mode.
_CT: dict[str, Any] = {"KVP": None}
_MR: dict[str, Any] = {
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    "ScanOptions": None,
    "MRAcquisitionType": None,
    "RepetitionTime": None,
    "EchoTime": None,
    "EchoTrainLength": None,
}
_PAIRED = ("ANKLE", "ARM", "BREAST", "EAR", "ELBOW", "EYE", "FEMUR", "FINGER", "FOOT", "FOREARM", "HAND", "HIP",
           "HUMERUS", "KNEE", "LEG", "RADIUS", "SCAPULA", "SHOULDER", "THUMB", "TIBIA", "TOE", "ULNA",
           "WRIST")  # fmt: skip
_LEVELS = 65535
Source = tuple["Dataset", int]  # header of a file, and a frame of it


def write(
    folder: str | Path,
    images: Mapping[str, Volume],
    *,
    details: str = "",
    anonymise: bool = False,
    kind: str = "posterior",
) -> Path:
    """Write each image as one series, ``folder/NAME/0001.dcm`` and so on.

    Values are stored in 16 bits between the smallest and largest of the series (from 0 where none is negative):
    ``value = stored * RescaleSlope + RescaleIntercept`` to half a slope. The header of each slice is made from the
    file that it came from (``files`` in the volume's meta); without one, study and frame of reference are new.

    Args:
        folder: must not exist, or be empty. It appears when all of it is written.
        images: real, finite volumes in one place, by name ("mean", "std", "draw_000").
        details: how they were made, for DerivationDescription.
        anonymise: leave out name, numbers and dates of patient and study, and give new UIDs everywhere. The pixels
            are not changed: a face stays one.
        kind: what descriptions call the images, see `invdiff.datasets.outputs.save_images`.

    Raises:
        FileError: `folder` holds something, or cannot be written; a source file is gone. InputError: values are
        complex or not finite, axes in the image plane are not at right angles, or the source is neither CT nor MR.
    """
    common: dict[str, Any] = {}
    with new_folder(folder) as part:
        for number, (name, volume) in enumerate(images.items()):
            (part / name).mkdir()
            slices = derived(volume, name, number, details=details, anonymise=anonymise, common=common, kind=kind)
            for k, image in enumerate(slices, start=1):
                image.save_as(part / name / f"{k:04d}.dcm", enforce_file_format=True)
    return Path(folder)


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`, renamed at the end and removed on any failure. Raises FileError."""
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileError(f"cannot write {folder}: it holds something already; name a folder that is new or empty")
    if not folder.absolute().parent.is_dir():
        raise FileError(f"cannot write {folder}: create {folder.absolute().parent} first")
    part = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir()
        yield part
        if folder.is_dir():
            folder.rmdir()
        os.replace(part, folder)
    except InvdiffError:
        raise
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sources(volume: Volume) -> list[Source]:
    """Header and frame of the file that each slice came from; empty where the volume came from elsewhere.

    Raises FileError where one is gone, FormatError where it cannot be read.
    """
    headers: dict[str, Dataset] = {}
    found = []
    for path, number in volume.meta.get("files", ()) if volume.meta.get("format") == "dicom" else ():
        if path not in headers:
            with parsing(path):
                headers[path] = load(existing(path))
        found.append((headers[path], int(number)))
    return found


def check(place: Volume) -> None:
    """See that a series can be written of images in this place. Raises what `write` does of their source and axes."""
    _directions(place, "the volume")
    _modality(place, sources(place), "the volume")


def _modality(volume: Volume, origins: list[Source], name: str) -> str:
    modality = str(origins[0][0].get("Modality")) if origins else "CT" if volume.units == "HU" else "MR"
    if modality not in _CLASSES:
        raise InputError(f"the source of {name} is {modality}; derived series are written of CT and MR")
    return modality


def derived(
    volume: Volume,
    name: str,
    number: int,
    *,
    details: str,
    anonymise: bool,
    common: dict[str, Any],
    kind: str = "posterior",
) -> list[Dataset]:
    """The images of one derived series; `common` keeps the UIDs that the series of one call share."""
    from pydicom.uid import generate_uid

    if np.iscomplexobj(volume.values) or not np.isfinite(volume.values).all():
        raise InputError(f"{name} is complex or holds NaN or infinity; DICOM images hold real, finite numbers")
    columns, rows = _directions(volume, name)
    origins = sources(volume)
    first = origins[0][0] if origins else None
    modality = _modality(volume, origins, name)
    if not common:
        new = anonymise or first is None
        now = datetime.datetime.now()
        common |= {
            "StudyInstanceUID": None if new or first is None else first.get("StudyInstanceUID"),
            "FrameOfReferenceUID": None if new or first is None else first.get("FrameOfReferenceUID"),
            "now": (now.strftime("%Y%m%d"), now.strftime("%H%M%S")),
        }
        for key in ("StudyInstanceUID", "FrameOfReferenceUID"):
            common[key] = common[key] or generate_uid()
    stored, slope, intercept = quantised(volume.values)
    # A source that is shown with dark and bright exchanged stays so; a spread is shown as it is.
    inverted = name != "std" and volume.meta.get("photometric") == "MONOCHROME1"
    shown = "MONOCHROME1" if inverted else "MONOCHROME2"
    series, images = generate_uid(), []
    for k in range(len(stored)):
        source = origins[k] if k < len(origins) else None
        image = _identified(source[0] if source else None, modality, anonymise, common)
        image.SeriesInstanceUID, image.SeriesNumber = series, 1000 + number
        if first is not None and isinstance(first.get("SeriesNumber"), int):
            image.SeriesNumber = 100 * (int(first.SeriesNumber) % 10**6) + number + 1
        image.InstanceNumber = k + 1
        _describe(image, name, called(kind, name), details, first, source, anonymise)
        _acquired(image, source, modality, volume)
        image.ImageOrientationPatient = [_ds(v) for v in (*columns, *rows)]
        image.ImagePositionPatient = [_ds(v) for v in volume.world((k, 0, 0))]
        image.PixelSpacing = [_ds(volume.spacing[1]), _ds(volume.spacing[2])]
        _scaled(image, slope, intercept, volume, name, source)
        image.set_pixel_data(stored[k], shown, 16, generate_instance_uid=False)
        images.append(image)
    return images


def quantised(values: NDArray[np.float32]) -> tuple[NDArray[np.uint16], float, float]:
    """16-bit values, slope and intercept (rounded to what a header holds) with error of half a slope at most."""
    low, high = float(values.min()), float(values.max())
    intercept = 0.0 if low >= 0 else float(_ds(low))
    slope = float(_ds((high - intercept) / _LEVELS)) or 1.0
    levels = np.rint((values.astype(np.float64) - intercept) / slope)
    return levels.clip(0, _LEVELS).astype(np.uint16), slope, intercept  # 16 digits of the slope can pass the last level


def _ds(value: float) -> str:
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))


def _directions(volume: Volume, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Unit vectors along rows (columns grow) and along columns (rows grow)."""
    rows, columns = (volume.affine[:3, i] / volume.spacing[i] for i in (1, 2))
    if abs(float(rows @ columns)) > 1e-4:
        raise InputError(f"{name}: rows and columns are not at right angles; resample before writing DICOM")
    columns = columns - (columns @ rows) * rows
    return columns / np.linalg.norm(columns), rows


def _identified(source: Dataset | None, modality: str, anonymise: bool, common: Mapping[str, Any]) -> Dataset:
    """Patient, study, frame of reference, equipment and a SOP instance of its own."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    for key in (*_PATIENT, *_STUDY):
        value = None if source is None or anonymise else source.get(key)
        setattr(image, key, "" if value is None else value)
    if anonymise:
        image.PatientName = image.PatientID = "ANONYMOUS"
        image.PatientIdentityRemoved = "YES"
        image.DeidentificationMethod = "Rebuilt without patient, study, dates and UIDs of the source"
    elif source is not None and source.get("SpecificCharacterSet"):
        image.SpecificCharacterSet = source.SpecificCharacterSet
    image.StudyInstanceUID, image.FrameOfReferenceUID = common["StudyInstanceUID"], common["FrameOfReferenceUID"]
    image.PositionReferenceIndicator = "" if source is None else source.get("PositionReferenceIndicator") or ""
    image.Manufacturer = "" if source is None else source.get("Manufacturer") or ""
    image.Modality, image.SOPClassUID, image.SOPInstanceUID = modality, _CLASSES[modality], generate_uid()
    for what in ("InstanceCreation", "Series", "Content"):
        setattr(image, f"{what}Date", common["now"][0])
        setattr(image, f"{what}Time", common["now"][1])
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def called(kind: str, name: str) -> str:
    """ "posterior std"; of a classical method, which makes one image, its name."""
    return f"{kind} {name}" if kind == "posterior" else kind


def _describe(
    image: Dataset, name: str, label: str, details: str, first: Dataset | None, source: Source | None, anonymise: bool
) -> None:
    """That it is derived, how, and from which image."""
    from pydicom.dataset import Dataset

    from invdiff import __version__

    kind = "".join(c if c.isalnum() else "_" for c in name.upper())
    image.ImageType = ["DERIVED", "PRIMARY", "AXIAL" if image.Modality == "CT" else "OTHER", kind[:16]]
    title = "" if first is None or anonymise else str(first.get("SeriesDescription") or "")
    image.SeriesDescription = f"{title[: 63 - len(label)]} {label}".strip()
    image.DerivationDescription = f"invdiff {__version__}: {label}{', ' if details else ''}{details}"[:1024]
    image.BurnedInAnnotation = "NO" if first is None else first.get("BurnedInAnnotation") or "NO"
    device = Dataset()
    device.Manufacturer, device.ManufacturerModelName, device.SoftwareVersions = "invdiff", "invdiff", __version__
    device.PurposeOfReferenceCodeSequence = [_code("109103", "DCM", "Modifying Equipment")]
    image.ContributingEquipmentSequence = [device]
    if source is not None and not anonymise and source[0].get("SOPInstanceUID"):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source[0].SOPClassUID, source[0].SOPInstanceUID
        if int(source[0].get("NumberOfFrames") or 1) > 1:
            item.ReferencedFrameNumber = source[1] + 1
        item.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image for image processing operation")]
        image.SourceImageSequence = [item]


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _acquired(image: Dataset, source: Source | None, modality: str, volume: Volume) -> None:
    """How the source was acquired, with the values for "unknown" that the standard has."""
    image.SliceThickness, image.SpacingBetweenSlices = _ds(volume.spacing[0]), _ds(volume.spacing[0])
    image.AcquisitionNumber = None
    image.PatientPosition = ""
    part = "" if source is None else str(source[0].get("BodyPartExamined") or "")
    if source is None or part in ("", *_PAIRED):  # it may not stand beside a part that there is once
        image.Laterality = "" if source is None else source[0].get("Laterality") or ""
    needed = _CT if modality == "CT" else _MR
    for key, value in needed.items():
        setattr(image, key, value)
    if source is not None:
        for key in (*_ACQUIRED, *needed):
            value = field(*source, key, "PixelMeasuresSequence")
            if value not in (None, ""):
                setattr(image, key, _ds(value) if isinstance(value, float) else value)  # some write too many digits


def _scaled(image: Dataset, slope: float, intercept: float, volume: Volume, name: str, source: Source | None) -> None:
    """Rescale to the unit, and a window: of the source where the image is of its kind, else the range of values."""
    image.RescaleSlope, image.RescaleIntercept = _ds(slope), _ds(intercept)
    image.RescaleType = volume.units[:16] or "US"
    low, high = float(volume.values.min()), float(volume.values.max())
    image.WindowCenter, image.WindowWidth = _ds((low + high) / 2), _ds(max(high - low, slope))
    given = [source[0].get(key) for key in ("WindowCenter", "WindowWidth")] if source is not None else []
    if name != "std" and given and not any(v in (None, "") for v in given) and volume.units == "HU":
        image.WindowCenter, image.WindowWidth = given
