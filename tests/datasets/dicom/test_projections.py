"""DICOM-CT-PD: a ball stands where rays through it meet, with every sign and offset of the published elements."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from invdiff.datasets import dicom, reading
from invdiff.datasets.dicom import projections
from invdiff.errors import FileError, FormatError, InputError
from invdiff.measurement import Measurement

RHO, D0, ROWS, COLUMNS = 60.0, 110.0, 10, 32
CENTRE = (15.25, 6.0)  # column, row on the central ray, from 1
BALL = np.array([5.0, -3.0, 1.5])
PITCH_ANGLES = np.linspace(0.3, 0.3 + 2 * np.pi, 48, endpoint=False)


def stored(phi: float, z: float, turned: float = 0.0, lifted: float = 0.0) -> np.ndarray:
    """Pixels (columns, rows) of a small ball, by the published geometry alone."""
    focus = np.array([RHO * np.sin(phi + turned), RHO * np.cos(phi + turned), z + lifted])
    centre = np.array([RHO * np.sin(phi), RHO * np.cos(phi), z])
    inward = np.array([-np.sin(phi), -np.cos(phi), 0])
    along = np.array([-np.cos(phi), np.sin(phi), 0])
    # The arc of detector elements has its middle at the nominal focal centre.
    columns = (np.arange(1, COLUMNS + 1) - CENTRE[0]) * 1.5 / D0
    rows = (np.arange(1, ROWS + 1) - CENTRE[1]) * 2.0
    at = centre + D0 * (np.cos(columns)[:, None, None] * inward + np.sin(columns)[:, None, None] * along)
    at = at - rows[None, :, None] * np.array([0, 0, 1])
    rays = (at - focus) / np.linalg.norm(at - focus, axis=-1, keepdims=True)
    off = BALL - focus
    distance = np.linalg.norm(off - (rays @ off)[..., None] * rays, axis=-1)
    return np.rint(1000 * 2 * np.sqrt(np.maximum(0, 2.0**2 - distance**2))).astype(np.uint16)


def view(path: Path, number: int, phi: float, z: float = 0.0, implicit: bool = False, **changes: Any) -> None:
    shift = changes.pop("shift", (0.0, 0.0, 0.0))
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.Modality, image.InstanceNumber = "CT", number
    image.RescaleSlope, image.RescaleIntercept = "0.001", "0"
    for tag, kind, value in [
        (0x70290010, "LO", "CTPD"), (0x70310010, "LO", "CTPD"), (0x70330010, "LO", "CTPD"), (0x70410010, "LO", "CTPD"),
        (0x70291010, "US", ROWS), (0x70291011, "US", COLUMNS), (0x70291002, "FL", 1.5), (0x70291006, "FL", 2.0),
        (0x7029100B, "CS", "CYLINDRICAL"), (0x70311001, "FL", phi), (0x70311002, "FL", z), (0x70311003, "FL", RHO),
        (0x70311031, "FL", D0), (0x70311033, "FL", list(CENTRE)), (0x7033100B, "FL", shift[0]),
        (0x7033100C, "FL", shift[1]), (0x7033100D, "FL", shift[2]), (0x70331065, "FL", [1e5] * COLUMNS),
        (0x70411001, "DS", "0.0192"),
    ]:  # fmt: skip
        if changes.get(hex(tag), value) is not None:
            image.add_new(tag, kind, changes.get(hex(tag), value))
    pixels = changes.get("pixels", stored(phi, z, shift[0], shift[1]))
    image.set_pixel_data(pixels, "MONOCHROME2", 16, generate_instance_uid=False)
    image.save_as(path / f"{100 - number}.dcm", enforce_file_format=True)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("climb", [0.0, 8.0])
def test_ball_stands_in_its_place(tmp_path: Path, climb: float, implicit: bool) -> None:
    heights = climb * (PITCH_ANGLES - PITCH_ANGLES[0]) / (2 * np.pi) - climb / 2
    for k, (phi, z) in enumerate(zip(PITCH_ANGLES, heights, strict=True)):
        view(tmp_path, k, float(phi), float(z), implicit)
    assert projections.recognise(tmp_path) and not dicom.recognise(tmp_path)
    raw = projections.read(tmp_path)
    assert raw.projections.shape == (48, ROWS, COLUMNS) and raw.curved and (raw.z is not None) == (climb > 0)
    assert raw.projections.max() == pytest.approx(4.0, abs=0.2) and raw.meta["mu_water_per_mm"] == pytest.approx(0.0192)
    assert raw.blank is not None and np.unique(raw.blank).tolist() == [1e5]
    base = 0.0 if raw.z is None else float(raw.z.mean())  # heights count from the middle of the scan
    check_shadows(reading.read(tmp_path), BALL - [0, 0, base])


def check_shadows(measurement: Measurement, ball: np.ndarray) -> None:
    """The middle of the ball's shadow is that of the same ball under the operator, but for the coarse elements."""
    operator: Any = measurement.operator
    geometry = operator.geometry
    at = (ball[::-1] - geometry.centre) / geometry.spacing + (np.array(geometry.shape) - 1) / 2
    grid = np.indices(geometry.shape) - at[:, None, None, None]
    weight = np.prod(np.maximum(0, 1 - np.abs(grid)), axis=0)  # between the voxels around
    shadow = operator.forward(torch.from_numpy(weight).float().reshape(1, *operator.domain_shape))[0]
    found, expected = measurement.y.double(), shadow.double()
    for axis, size in ((1, ROWS), (2, COLUMNS)):
        place = torch.arange(size, dtype=torch.float64).reshape([1, -1, 1] if axis == 1 else [1, 1, -1])
        middles = [(p * place).sum((1, 2)) / p.sum((1, 2)) for p in (found, expected)]
        off = middles[0] - middles[1]  # in elements; 0.03 and 0.2 on average and at most, 0.4 for any wrong sign
        assert abs(float(off.mean())) < 0.1 and float(off.abs().max()) < 0.4


def test_flying_focal_spot(tmp_path: Path) -> None:
    spots = [(0.01, 0.4, 0.0), (-0.01, -0.4, 0.0)]
    for k, phi in enumerate(PITCH_ANGLES):
        view(tmp_path, k, float(phi), shift=spots[k % 2])
    with pytest.raises(InputError, match="flies between 2 positions; read the views of one with focal_spot=0 to 1"):
        projections.read(tmp_path)
    for chosen in (0, 1):  # in order of their angle; heights count from the source
        measurement = reading.read(tmp_path, focal_spot=chosen)
        assert measurement.y.shape[0] == 24
        check_shadows(measurement, BALL - [0, 0, spots[1 - chosen][1]])


def test_part_of_a_scan(tmp_path: Path) -> None:
    for k in range(5):
        view(tmp_path, k, 0.1 * k)
    raw = projections.read(tmp_path, start=1, count=3)
    np.testing.assert_allclose(np.diff(raw.angles), -0.1, atol=1e-6)
    assert raw.angles[0] == pytest.approx(np.pi - 0.1)
    with pytest.raises(InputError, match="start is 9"):
        projections.read(tmp_path, start=9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"0x70311003": None}, r"has \(7031,1003\) None; expected one number"),
        ({"0x70311003": -5.0}, r"has \(7031,1003\) \[-5.0\]"),
        ({"0x7029100b": "SPHERICAL"}, "shape 'SPHERICAL'; expected CYLINDRICAL or FLAT"),
        ({"0x70291010": 9}, "its detector has 9 rows"),
        ({"0x70311033": [3.0]}, "expected the central column and row"),
        ({"0x70311031": 10.0}, "the detector is 10.0 mm from a source at 60.0 mm"),
        ({"0x70291002": 1.25}, "differs from .* in the detector's spacing"),
    ],
)
def test_bad_views(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    view(tmp_path, 0, 0.0)
    view(tmp_path, 1, 0.1, **changes)
    with pytest.raises(FormatError, match=said):
        projections.read(tmp_path)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no DICOM file"):
        projections.read(tmp_path)
    with pytest.raises(FileError, match="does not exist"):
        projections.read(tmp_path / "none")
    view(tmp_path, 0, 0.0)
    whole = (tmp_path / "100.dcm").read_bytes()
    (tmp_path / "100.dcm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="cannot be read"):
        projections.read(tmp_path)
