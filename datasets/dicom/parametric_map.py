"""DICOM Parametric Map: floating-point values as they are, such as a posterior standard deviation, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invdiff.datasets.dicom.files import parsing
from invdiff.datasets.dicom.writer import called, derived, new_folder, sources
from invdiff.datasets.volume import Volume
from invdiff.errors import missing_extra

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["write"]

_UNITS = {"HU": ("[hnsf'U]", "Hounsfield unit"), "": ("1", "no units")}  # UCUM


def write(
    folder: str | Path,
    images: Mapping[str, Volume],
    *,
    details: str = "",
    anonymise: bool = False,
    kind: str = "posterior",
) -> Path:
    """Write each image as one file ``folder/NAME.dcm`` of float32 frames, which `dicom.read` reads back exactly.

    Arguments, study, place and anonymity are those of `invdiff.datasets.dicom.writer.write`.

    Raises:
        What that function raises; MissingExtraError: highdicom is not installed.
    """
    common: dict[str, Any] = {}
    with new_folder(folder) as part:
        for number, (name, volume) in enumerate(images.items(), start=50):  # apart from the 16-bit series
            frames = derived(volume, name, number, details=details, anonymise=anonymise, common=common, kind=kind)
            _map(volume, name, called(kind, name), frames, anonymise).save_as(
                part / f"{name}.dcm", enforce_file_format=True
            )
    return Path(folder)


def _map(volume: Volume, name: str, label: str, images: list[Dataset], anonymise: bool) -> Dataset:
    """The map of a volume, given single-frame images of it for their headers."""
    try:
        from highdicom.content import (
            PixelMeasuresSequence,
            PlaneOrientationSequence,
            PlanePositionSequence,
            VOILUTTransformation,
        )
        from highdicom.pm import ParametricMap, RealWorldValueMapping
    except ImportError as error:
        raise missing_extra("highdicom", "imaging", "a Parametric Map") from error
    from pydicom.sr.coding import Code
    from pydicom.uid import generate_uid

    from invdiff import __version__

    origins = sources(volume)
    refer = not anonymise and bool(origins) and all(int(h.get("NumberOfFrames") or 1) == 1 for h, _ in origins)
    for image, (header, _) in zip(images, origins if refer else (), strict=False):
        image.SOPInstanceUID, image.SOPClassUID = header.SOPInstanceUID, header.SOPClassUID
        image.SeriesInstanceUID = header.SeriesInstanceUID
    code, meaning = _UNITS.get(volume.units, (volume.units[:16], volume.units[:64]))
    low, high = float(volume.values.min()), float(volume.values.max())
    mapping = RealWorldValueMapping(
        lut_label=name[:16],
        lut_explanation=label[:64],
        unit=Code(code, "UCUM", meaning),
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
    )
    with parsing(f"the map of {name}"):
        made = ParametricMap(
            source_images=images,
            pixel_array=np.ascontiguousarray(volume.values),
            series_instance_uid=generate_uid(),
            series_number=images[0].SeriesNumber,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="invdiff",
            manufacturer_model_name="invdiff",
            software_versions=__version__,
            device_serial_number="0",
            contains_recognizable_visual_features=True,  # a map of a head may show the face
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[VOILUTTransformation((low + high) / 2, max(high - low, 1e-6))],
            content_description=label[:64],
            pixel_measures=PixelMeasuresSequence(volume.spacing[1:], volume.spacing[0], volume.spacing[0]),
            plane_orientation=PlaneOrientationSequence("PATIENT", list(map(float, images[0].ImageOrientationPatient))),
            plane_positions=[
                PlanePositionSequence("PATIENT", list(map(float, image.ImagePositionPatient))) for image in images
            ],
        )
    made.Laterality = ""
    made.SeriesDescription, made.DerivationDescription = images[0].SeriesDescription, images[0].DerivationDescription
    if anonymise:
        made.PatientIdentityRemoved = images[0].PatientIdentityRemoved
        made.DeidentificationMethod = images[0].DeidentificationMethod
    if not refer:  # the images that it was built from are in no file
        for key in ("SourceImageSequence", "ReferencedSeriesSequence"):
            made.pop(key, None)
        for group in (*made.PerFrameFunctionalGroupsSequence, *made.SharedFunctionalGroupsSequence):
            group.pop("DerivationImageSequence", None)
    map_of: Dataset = made
    return map_of
