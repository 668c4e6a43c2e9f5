"""Small DICOM series, built by pydicom alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

OBLIQUE = np.array([[0.96, 0.28, 0.0], [-0.168, 0.576, 0.8]])  # along a row, along a column; orthonormal
CORNER = np.array([-30.5, 12.25, 100.0])


def ct(stored: np.ndarray, position: np.ndarray, **fields: Any) -> Dataset:
    """One CT image with int16 pixels and rescale 2, -1024."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Doe^Jane", "77", "19700102", "F"
    image.PatientComments = "secret"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200103", "101112", "S1", "A1"
    image.ReferringPhysicianName, image.InstitutionName = "House^G", "Hospital"
    image.Modality, image.SeriesNumber, image.SeriesDescription, image.KVP = "CT", 3, "Head", 120
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImageOrientationPatient = [float(v) for v in OBLIQUE.ravel()]
    image.ImagePositionPatient = [float(v) for v in position]
    image.PixelSpacing, image.SliceThickness = [0.5, 0.75], 4
    image.RescaleSlope, image.RescaleIntercept = 2, -1024
    image.add_new(0x00091001, "LO", "private secret")
    image.set_pixel_data(np.asarray(stored, np.int16), "MONOCHROME2", 16, generate_instance_uid=False)
    for name, value in fields.items():
        setattr(image, name, value)
    return image


@pytest.fixture
def make_ct() -> Callable[..., Dataset]:
    return ct


@pytest.fixture
def stored() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)


@pytest.fixture
def positions() -> np.ndarray:
    """Of five slices, 3 mm apart along their normal."""
    return CORNER + 3.0 * np.arange(5)[:, None] * np.cross(*OBLIQUE)


@pytest.fixture
def series(tmp_path: Path, stored: np.ndarray, positions: np.ndarray) -> Path:
    """A folder of five oblique slices, whose names and numbers run against their positions."""
    folder = tmp_path / "series"
    folder.mkdir()
    for k in range(5):
        name = folder / f"{9 - k}.dcm"
        ct(stored[k], positions[k], InstanceNumber=9 - k).save_as(name, enforce_file_format=True)
    return folder
