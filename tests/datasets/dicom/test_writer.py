"""DICOM out: a derived series that stands where its source stood, says so, and holds nothing it must not."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import UID

from invdiff.datasets import dicom
from invdiff.datasets.dicom import parametric_map, writer
from invdiff.datasets.volume import Volume
from invdiff.errors import FileError, InputError, MissingExtraError
from invdiff.posterior import Posterior
from invdiff.random import generator


@pytest.fixture
def source(series: Path) -> Volume:
    return dicom.read(series)


@pytest.fixture
def posterior(source: Volume) -> Posterior:
    noise = torch.randn(6, 1, *source.values.shape, generator=generator(0))
    draws = torch.from_numpy(source.values) + 20 * noise
    return Posterior.from_draws(draws, source.coords(), {"seed": 3, "sampler": "mmps", **source.attributes()})


def headers(folder: Path) -> list[Any]:
    return [pydicom.dcmread(p) for p in sorted(folder.iterdir())]


def test_round_trip(tmp_path: Path, posterior: Posterior, source: Volume) -> None:
    out = posterior.save(tmp_path / "out")
    assert sorted(p.name for p in out.iterdir()) == ["mean", "std"]
    for name, expected in (("mean", posterior.mean()), ("std", posterior.std())):
        back, first = dicom.read(out / name), headers(out / name)[0]
        np.testing.assert_allclose(back.affine, source.affine, atol=1e-8)
        slope = float(first.RescaleSlope)
        values = expected.values[0]
        assert slope <= 1.001 * (values.max() - min(0, values.min())) / 65535
        # float32 in between: 1e-7 of the value
        assert np.abs(back.values - values).max() <= 0.5 * slope + 2e-7 * np.abs(values).max()
        assert back.units == "HU"


def test_headers(tmp_path: Path, posterior: Posterior, series: Path) -> None:
    out = posterior.save(tmp_path / "out")
    mean, std, before = headers(out / "mean"), headers(out / "std"), headers(series)[::-1]
    uids = {image.SOPInstanceUID for image in mean + std + before}
    assert len(uids) == 15 and all(UID(u).is_valid for u in uids)
    assert len({image.SeriesInstanceUID for image in mean + std}) == 2
    assert len({(image.SeriesInstanceUID, image.SeriesNumber) for image in mean + std + before}) == 3
    for image, old in zip(mean, sorted(before, key=lambda i: -i.InstanceNumber), strict=True):
        assert image.ImageType[:2] == ["DERIVED", "PRIMARY"] and image.ImageType[2] == "AXIAL"
        for same in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID", "StudyDate", "KVP"):
            assert image[same].value == old[same].value
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
        np.testing.assert_allclose(image.ImagePositionPatient, old.ImagePositionPatient, atol=1e-8)
        for left in ("PatientComments", "InstitutionName", "PixelPaddingValue"):
            assert left not in image
        assert not any(element.tag.is_private for element in image)
    assert "posterior std, 6 draws, sampler mmps, seed 3" in std[0].DerivationDescription
    assert [image.InstanceNumber for image in std] == [1, 2, 3, 4, 5]
    assert std[0].SeriesDescription == "Head posterior std"


def test_anonymised(tmp_path: Path, posterior: Posterior, series: Path) -> None:
    out = posterior.save(tmp_path / "out", anonymise=True)
    old = headers(series)[0]
    known = [str(old[k].value) for k in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "StudyDate")]
    known += ["Doe", "Jane", "19700102", "House", "Hospital", "secret", "S1", "A1", "Head"]
    known += [str(image.SOPInstanceUID) for image in headers(series)]
    for image in headers(out / "mean"):
        held = [str(element.value) for element in image.iterall() if element.keyword != "PixelData"]
        assert not [(k, v) for k in known for v in held if v == k or (k.isalpha() and k in v)]
        assert image.PatientIdentityRemoved == "YES" and image.PatientSex == ""
    np.testing.assert_allclose(dicom.read(out / "mean").affine, dicom.read(series).affine, atol=1e-8)
    assert len({image.StudyInstanceUID for name in ("mean", "std") for image in headers(out / name)}) == 1


def test_draws_on_request(tmp_path: Path, posterior: Posterior) -> None:
    out = posterior.save(tmp_path / "out", draws=True)
    assert sorted(p.name for p in out.iterdir()) == [*(f"draw_{i:03d}" for i in range(6)), "mean", "std"]
    np.testing.assert_allclose(dicom.read(out / "draw_004").values, posterior.draws.values[4, 0], atol=0.03)


def test_parametric_map(tmp_path: Path, posterior: Posterior, source: Volume) -> None:
    pytest.importorskip("highdicom", reason="a Parametric Map needs highdicom (extra imaging)")
    out = posterior.save(tmp_path / "maps", "parametric-map")
    assert sorted(p.name for p in out.iterdir()) == ["mean.dcm", "std.dcm"]
    back = dicom.read(out / "std.dcm")
    np.testing.assert_array_equal(back.values, posterior.std().values[0].astype(np.float32))
    np.testing.assert_allclose(back.affine, source.affine, atol=1e-8)
    assert back.units == "HU"
    made = pydicom.dcmread(out / "std.dcm")
    assert made.PatientName == "Doe^Jane" and made.StudyInstanceUID == "1.2.3" and made.FrameOfReferenceUID == "1.2.3.5"
    hidden = pydicom.dcmread(posterior.save(tmp_path / "anon", "parametric-map", anonymise=True) / "std.dcm")
    held = [str(e.value) for e in hidden.iterall()]
    assert "ReferencedSOPInstanceUID" not in [e.keyword for e in hidden.iterall()]
    assert not [v for v in held if v in ("1.2.3", "1.2.3.4", "1.2.3.5") or "Doe" in v or "Head" in v]


def test_without_highdicom(tmp_path: Path, posterior: Posterior, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "highdicom.content", None)
    with pytest.raises(MissingExtraError, match=r"a Parametric Map needs highdicom.*invdiff\[imaging\]"):
        posterior.save(tmp_path / "maps", "parametric-map")
    assert not [p for p in tmp_path.iterdir() if "maps" in p.name]


def test_without_a_source(tmp_path: Path) -> None:
    draws = torch.randn(3, 1, 4, 5, dtype=torch.complex64, generator=generator(1))
    coords = {"y": ("y", np.arange(4) * 0.5, {"units": "mm"}), "x": ("x", np.arange(5) * 0.25, {"units": "mm"})}
    posterior = Posterior.from_draws(draws, coords)
    back = dicom.read(posterior.save(tmp_path / "out") / "mean")
    assert back.spacing == pytest.approx((0.5, 0.5, 0.25)) and back.units == ""
    np.testing.assert_allclose(back.values[0], np.abs(posterior.mean().values[0]), atol=1e-4)
    assert "magnitude of complex values" in headers(tmp_path / "out" / "mean")[0].DerivationDescription
    with pytest.raises(InputError, match="y has no even coordinates in mm.*pass like=volume"):
        Posterior.from_draws(draws).save(tmp_path / "none")
    like = Volume(np.zeros((1, 4, 5)), np.array([[0.0, 0, 4, 7], [0, 3, 0, 8], [2, 0, 0, 9], [0, 0, 0, 1]]))
    affine = dicom.read(Posterior.from_draws(draws).save(tmp_path / "placed", like=like) / "std").affine
    np.testing.assert_allclose(affine, like.affine)
    with pytest.raises(InputError, match="12 slices|shape"):
        Posterior.from_draws(draws.repeat(1, 1, 2, 1)).save(tmp_path / "other", like=like)


def test_one_draw_has_no_std(tmp_path: Path, source: Volume) -> None:
    posterior = Posterior.from_draws(torch.from_numpy(source.values)[None, None], attrs=source.attributes())
    assert [p.name for p in posterior.save(tmp_path / "out").iterdir()] == ["mean"]


def test_a_left_handed_stack_stays_in_place(tmp_path: Path, source: Volume) -> None:
    mirrored = source.take([4, 3, 2, 1, 0])
    back = dicom.read(writer.write(tmp_path / "out", {"mean": mirrored}))
    np.testing.assert_allclose(back.affine, source.affine, atol=1e-8)
    np.testing.assert_allclose(back.values, source.values, atol=0.02)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.0), (5.0, 5.0), (-3.0, -3.0), (-1e-7, 2e-7), (1e6, 1e6 + 1), (-1024.0, 3071.0)]
)
def test_rescale(low: float, high: float) -> None:
    values = np.linspace(low, high, 1000, dtype=np.float32).reshape(10, 10, 10)
    stored, slope, intercept = writer.quantised(values)
    assert float(writer._ds(slope)) == slope and float(writer._ds(intercept)) == intercept
    error = np.abs(stored * slope + intercept - values.astype(np.float64)).max()
    assert error <= 0.5 * slope * (1 + 1e-6) + 1e-9 * (high - low)
    assert intercept == 0 or low < 0


def test_nothing_half_written(tmp_path: Path, source: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = source.with_values(np.where(source.values > 0, np.nan, source.values))
    with pytest.raises(InputError, match="std is complex or holds NaN"):
        writer.write(tmp_path / "out", {"mean": source, "std": bad})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(FileError, match="full: it holds something already"):
        writer.write(tmp_path / "full", {"mean": source})
    with pytest.raises(FileError, match="create .*none first"):
        writer.write(tmp_path / "none" / "out", {"mean": source})

    def disk_full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pydicom.dataset.Dataset.save_as", disk_full)
        with pytest.raises(FileError, match="cannot write .*out: .*No space left"):
            writer.write(tmp_path / "out", {"mean": source})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "series"]
    (tmp_path / "empty").mkdir()
    assert len(dicom.read(writer.write(tmp_path / "empty", {"mean": source})).values) == 5


def test_source_gone_and_other_modality(tmp_path: Path, source: Volume, series: Path) -> None:
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        image.Modality = "US"
        image.save_as(path)
    with pytest.raises(InputError, match="the source of mean is US"):
        writer.write(tmp_path / "out", {"mean": source})
    shutil.rmtree(series)
    with pytest.raises(FileError, match="does not exist"):
        writer.write(tmp_path / "out", {"mean": source})
    skewed = source.affine.copy()
    skewed[:3, 1] += 0.1 * skewed[:3, 2]
    with pytest.raises(InputError, match="not at right angles"):
        writer.write(tmp_path / "out", {"mean": Volume(source.values, skewed)})


def test_of_an_enhanced_source(tmp_path: Path, series: Path, source: Volume) -> None:
    """Each slice refers to its frame."""
    many = pydicom.dcmread(series / "9.dcm")
    groups: list[pydicom.Dataset] = []
    for place in (source.world((k, 0, 0)) for k in range(5)):
        plane, group = pydicom.Dataset(), pydicom.Dataset()
        plane.ImagePositionPatient = [float(v) for v in place]
        group.PlanePositionSequence = [plane]
        groups.insert(0, group)
    many.PerFrameFunctionalGroupsSequence = groups
    stored = ((source.values[::-1] + 1024) / 2).astype(np.int16)
    many.set_pixel_data(stored, "MONOCHROME2", 16, generate_instance_uid=False)
    many.NumberOfFrames = 5
    many.save_as(tmp_path / "many.dcm")
    read = dicom.read(tmp_path / "many.dcm")
    np.testing.assert_array_equal(read.values, source.values)
    out = writer.write(tmp_path / "out", {"mean": read})
    assert [image.SourceImageSequence[0].ReferencedFrameNumber for image in headers(out / "mean")] == [5, 4, 3, 2, 1]
    assert {image.SOPClassUID for image in headers(out / "mean")} == {"1.2.840.10008.5.1.4.1.1.2"}
    np.testing.assert_allclose(dicom.read(out).affine, source.affine, atol=1e-8)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("anonymise", [False, True])
@pytest.mark.parametrize("part", [None, "HEAD", "KNEE"])
def test_an_independent_validator_finds_no_error(
    tmp_path: Path, posterior: Posterior, series: Path, anonymise: bool, part: str | None
) -> None:
    for path in series.iterdir() if part else ():
        image = pydicom.dcmread(path)
        image.BodyPartExamined, image.Laterality = part, "L" if part == "KNEE" else ""
        image.save_as(path)
    posterior.save(tmp_path / "out", anonymise=anonymise)
    for name in ("mean", "std"):
        command = ["dciodvfy", "-new", str(tmp_path / "out" / name / "0002.dcm")]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "CTImage" in told.stdout + told.stderr and "Error" not in told.stdout + told.stderr


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("units", ["HU", ""])  # without a source: CT, MR
def test_an_independent_validator_accepts_images_from_elsewhere(tmp_path: Path, source: Volume, units: str) -> None:
    given = Volume(source.values, source.affine, units)
    writer.write(tmp_path / "out", {"mean": given})
    files = [tmp_path / "out" / "mean" / "0001.dcm"]
    if importlib.util.find_spec("highdicom"):
        parametric_map.write(tmp_path / "maps", {"std": given})
        files.append(tmp_path / "maps" / "std.dcm")
    for path in files:
        told = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert ("CT" if units else "MR") + "Image" in told.stderr or "ParametricMap" in told.stderr
        assert "Error" not in told.stdout + told.stderr


def test_real_series_opens_where_the_original_was(tmp_path: Path, data_dir: Path) -> None:
    volume = dicom.read(data_dir / "mri" / "t1w_dicom").take(range(40, 44))
    out = writer.write(tmp_path / "out", {"mean": volume})
    back = dicom.read(out)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-8)
    assert np.abs(back.values - volume.values).max() <= 0.51 * volume.values.max() / 65535
    image = headers(out / "mean")[2]
    assert image.Modality == "MR" and image.ScanningSequence == "RM" and image.ImageType[2] == "OTHER"
    assert (
        image.SourceImageSequence[0].ReferencedSOPInstanceUID
        == pydicom.dcmread(volume.meta["files"][2][0], stop_before_pixels=True).SOPInstanceUID
    )
