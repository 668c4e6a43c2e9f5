"""DICOM in: slices stand where they say, values are what they say, and what is no volume is refused in words."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid

from invdiff.datasets import dicom, reading
from invdiff.errors import FileError, FormatError, InputError, MissingExtraError, UnknownNameError

Make = Callable[..., Dataset]


def change(path: Path, **fields: Any) -> None:
    image = pydicom.dcmread(path)
    for name, value in fields.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    image.save_as(path)


def test_sorted_along_the_normal_and_placed(series: Path, stored: np.ndarray, positions: np.ndarray) -> None:
    volume = dicom.read(series)
    np.testing.assert_array_equal(volume.values, stored * 2.0 - 1024)
    assert volume.units == "HU" and volume.mask is None and volume.meta["modality"] == "CT"
    # Row 2, column 3 of slice 4, by the formula of the standard (PS3.3 C.7.6.2.1.1).
    expected = positions[4] + 2 * 0.5 * np.array([-0.168, 0.576, 0.8]) + 3 * 0.75 * np.array([0.96, 0.28, 0.0])
    np.testing.assert_allclose(volume.world((4, 2, 3)), expected, atol=1e-9)
    assert volume.spacing == pytest.approx((3, 0.5, 0.75))
    assert "Jane" not in repr(volume.meta)


def test_one_door_for_images(series: Path) -> None:
    assert dicom.recognise(series) and dicom.recognise(series / "5.dcm")
    assert reading.read_volume(series).values.shape == (5, 6, 7)
    assert reading.read_volume(series / "5.dcm", format="dicom").values.shape == (1, 6, 7)
    with pytest.raises(FormatError, match="holds images, not measured data"):
        reading.read(series / "5.dcm")
    with pytest.raises(InputError, match="with size; its options are series, strict, select"):
        reading.read_volume(series, size=3)


def test_single_slice_has_its_thickness(series: Path) -> None:
    volume = dicom.read(series / "7.dcm")
    assert volume.spacing[0] == pytest.approx(4)
    change(series / "7.dcm", SliceThickness=None)
    with pytest.warns(RuntimeWarning, match="SliceThickness is missing; 1 mm"):
        assert dicom.read(series / "7.dcm").spacing[0] == pytest.approx(1)


def test_every_slice_has_its_own_rescale(series: Path, stored: np.ndarray) -> None:
    change(series / "8.dcm", RescaleSlope=0.5, RescaleIntercept=7)
    volume = dicom.read(series)
    np.testing.assert_array_equal(volume.values[1], stored[1] * 0.5 + 7)
    np.testing.assert_array_equal(volume.values[2], stored[2] * 2.0 - 1024)


def test_missing_slices_are_said(series: Path, stored: np.ndarray) -> None:
    (series / "6.dcm").unlink()
    with pytest.raises(
        FormatError, match=r"about 1 slice\(s\) are missing between 7.dcm and 5.dcm: 6 mm apart, others 3"
    ):
        dicom.read(series)
    with pytest.warns(RuntimeWarning, match="missing.*read as if evenly spaced"):
        volume = dicom.read(series, strict=False)
    assert volume.values.shape[0] == 4 and volume.spacing[0] == pytest.approx(4)


def test_uneven_slices_and_tilt_are_said(series: Path, positions: np.ndarray) -> None:
    normal = (positions[1] - positions[0]) / 3
    change(series / "7.dcm", ImagePositionPatient=[float(v) for v in positions[2] + 0.09 * normal])  # rounding: allowed
    dicom.read(series)
    change(series / "7.dcm", ImagePositionPatient=[float(v) for v in positions[2] + 0.15 * normal])
    with pytest.raises(FormatError, match="unevenly spaced, 2.85 to 3.15 mm"):
        dicom.read(series)
    change(series / "7.dcm", ImagePositionPatient=[float(v) for v in positions[2] + 0.6 * normal])
    with pytest.raises(FormatError, match="unevenly spaced, 2.4 to 3.6 mm"):
        dicom.read(series)
    for k in range(5):  # each slice 0.5 mm further along its columns: atan(1/6)
        moved = positions[k] + 0.5 * k * np.array([-0.168, 0.576, 0.8])
        change(series / f"{9 - k}.dcm", ImagePositionPatient=[float(v) for v in moved])
    with pytest.raises(FormatError, match=r"by 9.5 degrees \(a tilted gantry\)"):
        dicom.read(series)
    with pytest.warns(RuntimeWarning, match="tilted"):
        volume = dicom.read(series, strict=False)
    np.testing.assert_allclose(volume.world((4, 0, 0)), moved, atol=1e-9)


def test_tiles_are_no_stack(series: Path, positions: np.ndarray) -> None:
    change(series / "6.dcm", ImagePositionPatient=[float(v) for v in positions[2] + 40 * np.array([0.96, 0.28, 0])])
    with pytest.raises(FormatError, match="side by side in one plane"):
        dicom.read(series)


def test_repeated_slices(series: Path, make_ct: Make, stored: np.ndarray, positions: np.ndarray) -> None:
    shutil.copy(series / "6.dcm", series / "copy.dcm")
    with pytest.warns(RuntimeWarning, match=r"1 slice\(s\) are there twice"):
        assert dicom.read(series).values.shape[0] == 5
    (series / "copy.dcm").unlink()
    for k in range(5):
        make_ct(stored[k] + 1, positions[k], AcquisitionNumber=2, InstanceNumber=20 + k).save_as(series / f"b{k}.dcm")
        change(series / f"{9 - k}.dcm", AcquisitionNumber=1)
    with pytest.raises(FormatError, match="several slices stand in one place.*AcquisitionNumber . and ."):
        dicom.read(series)
    np.testing.assert_array_equal(dicom.read(series, select={"AcquisitionNumber": 2}).values, stored * 2.0 - 1022)
    with pytest.raises(InputError, match=r"no slice has .*3.*the slices have .*'1', '2'"):
        dicom.read(series, select={"AcquisitionNumber": 3})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "1 of 5 slices differ .*ImageOrientationPatient"),
        ({"PixelSpacing": [0.5, 0.7]}, "differ from the others in PixelSpacing"),
        ({"FrameOfReferenceUID": "1.9"}, "FrameOfReferenceUID"),
        ({"PixelSpacing": None}, "has no PixelSpacing; a volume cannot be placed"),
        ({"ImagePositionPatient": None}, "has no ImagePositionPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "expected orthogonal unit vectors"),
        ({"RescaleSlope": 0}, "RescaleSlope 0.0"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "is a colour image"),
        ({"Rows": 60000, "Columns": 60000}, "differ .*Rows and Columns"),
        ({"PixelData": None}, "PixelData.* are missing"),
    ],
)
def test_what_is_no_volume(series: Path, fields: dict[str, Any], said: str) -> None:
    change(series / "6.dcm", **fields)
    with pytest.raises(FormatError, match=said):
        dicom.read(series)


@pytest.mark.filterwarnings("ignore:.*are no DICOM:RuntimeWarning")
def test_several_series(series: Path, make_ct: Make, stored: np.ndarray, positions: np.ndarray) -> None:
    (series / "deeper").mkdir()
    other = make_ct(stored[0], positions[0], SeriesInstanceUID="1.2.9", SeriesDescription="Bone", SeriesNumber=4)
    other.save_as(series / "deeper" / "x")
    (series / "notes.txt").write_text("not an image", encoding="utf-8")
    with pytest.raises(FormatError, match=r"2 series; name one.*1.2.3.4, 3, Head: 5 file.*1.2.9, 4, Bone: 1"):
        dicom.read(series)
    for name in ("1.2.9", 4, "Bone"):
        assert dicom.read(series, name).values.shape == (1, 6, 7)
    assert {uid: len(v.values) for uid, v in dicom.read_all(series).items()} == {"1.2.3.4": 5, "1.2.9": 1}
    with pytest.raises(UnknownNameError, match="no series 'Lung'; there are"):
        dicom.read(series, "Lung")


def enhanced(make_ct: Make, stored: np.ndarray, positions: np.ndarray) -> Dataset:
    """All slices in one object, in the order 3 1 4 0 2; geometry and rescale in functional groups."""

    def one(**fields: Any) -> list[Dataset]:
        item = Dataset()
        for name, value in fields.items():
            setattr(item, name, value)
        return [item]

    image = make_ct(stored[0], positions[0])
    shared, groups = Dataset(), []
    shared.PlaneOrientationSequence = one(ImageOrientationPatient=image.ImageOrientationPatient)
    shared.PixelMeasuresSequence = one(PixelSpacing=image.PixelSpacing, SliceThickness=4)
    order = [3, 1, 4, 0, 2]
    for k in order:
        group = Dataset()
        group.PlanePositionSequence = one(ImagePositionPatient=[float(v) for v in positions[k]])
        group.PixelValueTransformationSequence = one(RescaleSlope=1 + k, RescaleIntercept=-k, RescaleType="HU")
        groups.append(group)
    for name in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(image, name)
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], groups
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2.1")
    image.set_pixel_data(stored[order], "MONOCHROME2", 16, generate_instance_uid=False)
    image.NumberOfFrames = 5
    return image


def test_enhanced_multiframe(tmp_path: Path, make_ct: Make, stored: np.ndarray, positions: np.ndarray) -> None:
    image = enhanced(make_ct, stored, positions)
    image.save_as(tmp_path / "e.dcm", enforce_file_format=True)
    volume = dicom.read(tmp_path / "e.dcm")
    k = np.arange(5)[:, None, None]
    np.testing.assert_array_equal(volume.values, stored * (1.0 + k) - k)
    assert volume.units == "HU"
    np.testing.assert_allclose(volume.world((4, 0, 0)), positions[4], atol=1e-9)
    image.PerFrameFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence[:4]
    image.save_as(tmp_path / "e.dcm", enforce_file_format=True)
    with pytest.raises(FormatError, match="5 frames and places for 4"):
        dicom.read(tmp_path / "e.dcm")


def test_echoes_of_an_enhanced_object(tmp_path: Path, make_ct: Make, stored: np.ndarray, positions: np.ndarray) -> None:
    image = enhanced(make_ct, stored, positions)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4.1")
    image.Modality, groups = "MR", []
    for echo in (2.5, 5.0):
        for group in image.PerFrameFunctionalGroupsSequence:
            group = copy.deepcopy(group)
            group.MREchoSequence = [Dataset()]
            group.MREchoSequence[0].EffectiveEchoTime = echo
            groups.append(group)
    image.PerFrameFunctionalGroupsSequence = groups
    order = [3, 1, 4, 0, 2]
    both = np.concatenate([stored[order], 2 * stored[order]])
    image.set_pixel_data(both, "MONOCHROME2", 16, generate_instance_uid=False)
    image.NumberOfFrames = 10
    image.save_as(tmp_path / "e.dcm", enforce_file_format=True)
    with pytest.raises(FormatError, match="several slices stand in one place.*EffectiveEchoTime 2.5 and 5.0"):
        dicom.read(tmp_path / "e.dcm")
    k = np.arange(5)[:, None, None]
    for echo, factor in ((2.5, 1), (5.0, 2)):
        volume = dicom.read(tmp_path / "e.dcm", select={"EffectiveEchoTime": echo})
        np.testing.assert_array_equal(volume.values, factor * stored * (1.0 + k) - k)


def test_monochrome1_keeps_its_values(series: Path, stored: np.ndarray) -> None:
    for path in series.iterdir():
        change(path, PhotometricInterpretation="MONOCHROME1")
    volume = dicom.read(series)
    np.testing.assert_array_equal(volume.values, stored * 2.0 - 1024)
    assert volume.meta["photometric"] == "MONOCHROME1"


@pytest.mark.filterwarnings("ignore:.*missing:RuntimeWarning")
def test_dicomdir(series: Path) -> None:
    from pydicom.fileset import FileSet

    files = FileSet()
    for path in sorted(series.iterdir()):
        files.add(path)
    files.write(series.parent / "disc")
    volume = dicom.read(series.parent / "disc" / "DICOMDIR")
    np.testing.assert_array_equal(volume.values, dicom.read(series).values)
    np.testing.assert_array_equal(dicom.read(series.parent / "disc").values, volume.values)
    next(p for p in (series.parent / "disc").rglob("*") if p.is_file() and p.name != "DICOMDIR").unlink()
    with pytest.warns(RuntimeWarning, match=r"names 1 file\(s\) that do not exist"):
        dicom.read(series.parent / "disc" / "DICOMDIR", strict=False)


def test_bad_files(series: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        dicom.read(tmp_path / "none.dcm")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FormatError, match="holds no DICOM image"):
        dicom.read(empty)
    whole = (series / "6.dcm").read_bytes()
    for cut in (140, 300, len(whole) // 2, len(whole) - 40, len(whole) - 2):
        (series / "6.dcm").write_bytes(whole[:cut])
        with pytest.raises(FormatError, match="6.dcm|differ|missing"):
            with np.errstate(all="ignore"):
                dicom.read(series / "6.dcm")
    (series / "6.dcm").write_text("hello", encoding="utf-8")
    with pytest.raises(FormatError, match="6.dcm is not DICOM: it begins with b'hello'"):
        dicom.read(series)
    (series / "6.dcm").write_bytes(b"")
    with pytest.raises(FormatError, match="6.dcm is empty"):
        dicom.read(series)


def test_object_without_image(series: Path, make_ct: Make, stored: np.ndarray, positions: np.ndarray) -> None:
    report = make_ct(
        stored[0], positions[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", SOPInstanceUID=generate_uid()
    )
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    report.save_as(series / "report.dcm")
    with pytest.warns(RuntimeWarning, match=r"passed over 1 object\(s\) without an image: report.dcm \(Basic Text SR"):
        assert dicom.read(series).values.shape[0] == 5
    with pytest.raises(FormatError, match="holds no DICOM image; it holds report.dcm"):
        dicom.read(series / "report.dcm")


def test_no_slice_disappears(series: Path) -> None:
    from pydicom.fileset import FileSet

    files = FileSet()
    for path in sorted(series.iterdir()):
        files.add(path)
    files.write(series.parent / "disc")
    named = next(p for p in (series.parent / "disc").rglob("*") if p.is_file() and p.name != "DICOMDIR")
    named.write_text("hello", encoding="utf-8")
    with pytest.raises(FormatError, match=f"{named.name} is not DICOM"):
        dicom.read(series.parent / "disc" / "DICOMDIR")
    (series / "6.dcm").rename(series / "IM6")
    whole = (series / "IM6").read_bytes()
    (series / "IM6").write_bytes(whole[: whole.index(b"\x28\x00\x10\x00")])  # as far as Rows
    with pytest.raises(FormatError, match="IM6 is a CT Image Storage without Rows and Columns; it is damaged"):
        dicom.read(series)
    (series / "IM6").write_bytes(b"")
    with pytest.raises(FormatError, match="IM6 is empty"):
        dicom.read(series)
    (series / "IM6").write_text("hello", encoding="utf-8")
    with pytest.warns(RuntimeWarning, match=r"passed over 1 file\(s\) that are no DICOM: IM6"):
        dicom.read(series, strict=False)


def test_thin_slices_far_apart_are_said(series: Path) -> None:
    for path in series.iterdir():
        change(path, SliceThickness=1.5)
    with pytest.warns(RuntimeWarning, match="1.5 mm thick and 3 mm apart; are some missing"):
        assert len(dicom.read(series).values) == 5


def test_real_world_values(series: Path) -> None:
    from pydicom.dataset import Dataset

    def mapped(**fields: Any) -> Path:
        mapping, unit = Dataset(), Dataset()
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "[hnsf'U]", "UCUM", "Hounsfield unit"
        mapping.MeasurementUnitsCodeSequence = [unit]
        for name, value in fields.items():
            setattr(mapping, name, value)
        change(series / "6.dcm", RealWorldValueMappingSequence=[mapping], RescaleType="US")
        return series / "6.dcm"

    stored = (dicom.read(series / "6.dcm").values + 1024) / 2
    volume = dicom.read(mapped(RealWorldValueSlope=3.0, RealWorldValueIntercept=-7.0))
    np.testing.assert_array_equal(volume.values, stored * 3 - 7)
    assert volume.units == "HU"
    change(series / "6.dcm", RescaleType="HU")  # the rescale says what it is
    np.testing.assert_array_equal(dicom.read(series / "6.dcm").values, stored * 2 - 1024)
    change(mapped(RealWorldValueSlope=3.0, RealWorldValueIntercept=-7.0), Modality="PT", Units="BQML")
    tracer = dicom.read(series / "6.dcm")  # its rescale is what Units is of
    np.testing.assert_array_equal(tracer.values, stored * 2 - 1024)
    assert tracer.units == "BQML"
    change(series / "6.dcm", Modality="CT", RescaleSlope=None, RescaleIntercept=None)
    with pytest.raises(FormatError, match="by a table"):
        dicom.read(mapped(RealWorldValueLUTData=[1.0, 2.0]))


def test_claimed_size_takes_no_memory(series: Path) -> None:
    change(series / "6.dcm", Rows=65535, Columns=65535)
    with pytest.raises(FormatError, match="claims 8589672450 bytes of pixels"):
        dicom.read(series / "6.dcm")


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_damaged_files_raise_our_errors_only(series: Path) -> None:
    whole, rng = np.frombuffer((series / "6.dcm").read_bytes(), np.uint8), np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = whole.copy()
        where = rng.integers(128, len(whole), 6)
        damaged[where] = rng.integers(0, 256, 6)
        (series / "6.dcm").write_bytes(damaged.tobytes())
        try:
            dicom.read(series / "6.dcm")
        except (FileError, InputError, MissingExtraError):
            refused += 1
    assert 10 < refused < 150  # some bytes matter, some are pixels


def test_real_series(data_dir: Path) -> None:
    volume = dicom.read(data_dir / "mri" / "t1w_dicom").take(range(0, 96, 2))
    assert volume.values.shape == (48, 384, 274)
    assert volume.spacing == pytest.approx((4 / 3, 2 / 3, 0.7), rel=1e-4)
    first = pydicom.dcmread(volume.meta["files"][0][0], stop_before_pixels=True)
    np.testing.assert_allclose(volume.world((0, 0, 0)), [float(v) for v in first.ImagePositionPatient], atol=1e-9)
    head = dicom.read(data_dir / "ct" / "ct_512_padded.dcm")
    assert head.units == "HU" and head.mask is not None and 0.75 < head.mask.mean() < 0.8
    assert float(head.values[head.mask].min()) == -1024 and float(head.values[~head.mask].max()) == -1000
