"""MetaImage and NRRD in and out: values at their place, and nothing but our errors from damaged files."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.datasets import itk, reading
from invdiff.datasets.volume import Volume
from invdiff.errors import FileError, FormatError, InputError, MissingExtraError
from invdiff.posterior import Posterior

sitk = pytest.importorskip("SimpleITK", reason="MetaImage and NRRD need SimpleITK (extra imaging)")


def volume() -> Volume:
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    affine = np.array([[0.1, 0.2, 1.5, -7], [0.3, 2.0, -0.1, 8], [3.0, -0.1, 0.2, 9], [0, 0, 0, 1]])
    return Volume(values, affine, "HU")


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_round_trip_of_an_oblique_volume(tmp_path: Path, name: str) -> None:
    given = volume()
    back = reading.read_volume(itk.write(tmp_path / name, given))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(back.values, given.values)
    np.testing.assert_allclose(back.affine, given.affine, atol=1e-9)
    assert back.units == "HU" and itk.read(tmp_path / name, units="K").units == "K"
    image = sitk.ReadImage(str(tmp_path / name))  # its own idea of the place of column 4, row 2, slice 1
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((4, 2, 1)), given.world((1, 2, 4)), atol=1e-9)


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_of_the_library(tmp_path: Path, suffix: str, packed: bool) -> None:
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = sitk.GetImageFromArray(stored)
    image.SetSpacing((0.5, 2, 3))
    image.SetOrigin((10, 20, 30))
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"), packed)
    back = itk.read(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(back.values, stored)
    assert back.spacing == pytest.approx((3, 2, 0.5))
    np.testing.assert_allclose(back.world((0, 0, 0)), (10, 20, 30))


def test_nrrd_in_ras(tmp_path: Path) -> None:
    # x to the right, y to the front: DICOM's signs are the opposite.
    text = "NRRD0004\ntype: uchar\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 1 1\n"
    text += "space directions: (2,0,0) (0,2,0) (0,0,2)\nspace origin: (5,6,7)\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(text.encode() + b"\x01\x02")
    back = itk.read(tmp_path / "a.nrrd")
    np.testing.assert_allclose(back.world((0, 0, 1)), (-7, -6, 7))


_PLACED = "space directions: (2,0,0) (0,2,0) (0,0,2)\nspace origin: (5,6,7)\n"


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ('space: left-posterior-superior\nspace units: "um" "um" "um"\n' + _PLACED, 2e-3),
        ('spacings: 2 2 2\nunits: "cm" "cm" "cm"\n', 20.0),
    ],
)
def test_nrrd_in_other_lengths(tmp_path: Path, said: str, step: float) -> None:
    text = "NRRD0004\ntype: uchar\ndimension: 3\n" + said.replace("space dir", "sizes: 2 1 1\nspace dir")
    text += ("" if "sizes" in text else "sizes: 2 1 1\n") + "encoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(text.encode() + b"\x01\x02")
    back = itk.read(tmp_path / "a.nrrd")
    assert back.spacing == pytest.approx((step,) * 3)
    origin = (5, 6, 7) if "origin" in said else (0, 0, 0)
    np.testing.assert_allclose(back.world((0, 0, 0)), np.array(origin) * step / 2)
    (tmp_path / "a.nrrd").write_bytes(text.replace('"um"', '"ft"').replace('"cm"', '"ft"').encode() + b"\x01\x02")
    with pytest.raises(FormatError, match="lengths in ft; expected one of m, cm, mm"):
        itk.read(tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").write_bytes(text.replace('"um"', '"mm"', 1).replace('"cm"', '"mm"', 1).encode() + b"\x01\x02")
    with pytest.raises(FormatError, match="lengths in (cm, mm|mm, um)"):
        itk.read(tmp_path / "a.nrrd")


def test_lengths_that_a_file_lacks(tmp_path: Path) -> None:
    nrrd = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 1 1\nencoding: raw\n\n"
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 2 1 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    for name, text in (("a.nrrd", nrrd), ("a.mha", meta)):
        (tmp_path / name).write_bytes(text.encode() + b"\x01\x02")
        with pytest.raises(FormatError, match="how large a voxel is.*--read spacing"):
            itk.read(tmp_path / name)
        assert itk.read(tmp_path / name, spacing=[4, 3, 2]).spacing == (4, 3, 2)
        with pytest.raises(InputError, match="spacing is 0"):
            itk.read(tmp_path / name, spacing=0)


def test_one_of_several_volumes(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=False), str(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(itk.read(tmp_path / "a.nrrd", 1).values, values[1])
    with pytest.raises(FormatError, match="name one with volume=0 to 1"):
        itk.read(tmp_path / "a.nrrd")
    with pytest.raises(InputError, match="volume is 2"):
        itk.read(tmp_path / "a.nrrd", 2)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_bad_files(tmp_path: Path, name: str) -> None:
    whole = itk.write(tmp_path / name, volume()).read_bytes()
    size = b"DimSize = 5 4 3" if name == "a.mha" else b"sizes: 5 4 3"
    assert size in whole
    path = tmp_path / "b.dat"
    for content, said in [
        (whole[:-4], "claims 240 bytes|cannot be read"),
        (whole[:60], "cut short|ElementType"),
        (b"hello", "neither MetaImage nor NRRD"),
        (b"", "empty"),
        (whole.replace(size, size[:-1] + b"99999999"), "claims"),
        (whole.replace(size, size[:-1] + b"x"), "expected whole numbers above 0"),
        (whole.replace(b"NDims = 3", b"NDims = -1").replace(b"dimension: 3", b"dimension: 5"), "axes of lengths"),
        (whole.replace(size, size + b"\nkinds" + b": " * (size[0] == 115) + b"=" + b"1" * 5000), "more than 500"),
        (whole[:-4] + np.float32(np.nan).tobytes(), "NaN or infinity.* in 1 voxels"),
    ]:
        path.write_bytes(content)
        with pytest.raises(FormatError, match=said):
            itk.read(path)
    with pytest.raises(FileError, match="does not exist"):
        itk.read(tmp_path / "none.mha")


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/passwd", "LIST", "a%d.raw"])
def test_data_of_other_folders_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(100))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.mhd"
    path.write_text(
        f"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {name}\n"
    )
    with pytest.raises(FormatError, match="expected one file in the same folder|does not exist"):
        itk.read(path)


def test_what_cannot_be_held(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.float32), isVector=True), str(tmp_path / "v.mha"))
    with pytest.raises(FormatError, match="vectors of 3 numbers"):
        itk.read(tmp_path / "v.mha")
    given = volume()
    with pytest.raises(InputError, match="complex"):
        itk.write(tmp_path / "c.mha", given.with_values(given.values * 1j))
    assert not (tmp_path / "c.mha").exists()


def test_real_head() -> None:
    data = os.environ.get("INVDIFF_DATA")
    if not data:
        pytest.skip("INVDIFF_DATA is not set: ct/head.mha is needed")
    head = reading.read_volume(Path(data) / "ct" / "head.mha")
    assert head.values.shape == (93, 64, 64)
    assert head.spacing == pytest.approx((1.5, 3.2, 3.2), abs=1e-6)
    assert (head.values.min(), head.values.max()) == (0, 3926)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_posterior_writes_mean_and_std(tmp_path: Path, suffix: str) -> None:
    given = volume()
    draws = torch.from_numpy(given.values)[None, None] + torch.tensor([-1.0, 0, 1]).reshape(3, 1, 1, 1, 1)
    Posterior.from_draws(draws, attrs=given.attributes()).save(tmp_path / f"out{suffix}")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"out_mean{suffix}", f"out_std{suffix}"]
    mean = itk.read(tmp_path / f"out_mean{suffix}")
    np.testing.assert_allclose(mean.values, given.values, atol=1e-6)
    np.testing.assert_allclose(mean.affine, given.affine, atol=1e-9)


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    itk.write(tmp_path / "a.mha", volume())
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(MissingExtraError, match=r"needs SimpleITK.*invdiff\[imaging\]"):
        itk.read(tmp_path / "a.mha")
