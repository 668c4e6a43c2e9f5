"""NIfTI in and out: the same voxel at the same place in the world, right and left not exchanged."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.datasets import dicom, nifti, reading
from invdiff.datasets.volume import Volume
from invdiff.errors import FileError, FormatError, InputError, MissingExtraError
from invdiff.posterior import Posterior

nibabel = pytest.importorskip("nibabel", reason="NIfTI needs nibabel (extra imaging)")


def volume() -> Volume:
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    affine = np.array([[0.1, 0.2, 1.5, -7], [0.3, 2.0, -0.1, 8], [3.0, -0.1, 0.2, 9], [0, 0, 0, 1]])
    return Volume(values, affine, "HU")


def test_dicom_to_nifti_keeps_the_place(series: Path, positions: np.ndarray, tmp_path: Path) -> None:
    source = dicom.read(series)
    nifti.write(tmp_path / "a.nii.gz", source)
    image = nibabel.load(tmp_path / "a.nii.gz")
    # Slice 4, row 2, column 3 is voxel (3, 2, 4); DICOM's x to the left and y to the back are -x and -y here.
    left, back, up = positions[4] + 2 * 0.5 * np.array([-0.168, 0.576, 0.8]) + 3 * 0.75 * np.array([0.96, 0.28, 0])
    np.testing.assert_allclose(image.affine @ [3, 2, 4, 1], [-left, -back, up, 1], atol=1e-4)  # float32 in the file
    assert image.get_fdata()[3, 2, 4] == source.values[4, 2, 3]
    assert image.header["qform_code"] == image.header["sform_code"] == 1
    np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-4)
    back_again = reading.read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(back_again.affine, source.affine, atol=1e-4)
    np.testing.assert_array_equal(back_again.values, source.values)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_round_trip(tmp_path: Path, name: str, dtype: type) -> None:
    given = volume()
    given = given.with_values((given.values * (1 + 2j)).astype(dtype) if dtype == np.complex64 else given.values)
    back = nifti.read(nifti.write(tmp_path / name, given, "posterior mean"))
    assert back.values.dtype == dtype
    np.testing.assert_array_equal(back.values, given.values)
    np.testing.assert_allclose(back.affine, given.affine, atol=1e-5)  # oblique, not at right angles
    assert nibabel.load(tmp_path / name).header["descrip"] == b"units=HU; posterior mean"
    assert back.units == given.units == "HU" and nifti.read(tmp_path / name, units="K").units == "K"


def test_scaled_units_and_endianness(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(stored, np.diag([2000.0, 3000, 4000, 1]), nibabel.Nifti1Header(endianness=">"))
    image.header.set_xyzt_units("micron")
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "b.dat")
    assert (tmp_path / "b.dat").read_bytes()[:4] == b"\0\0\x01\x5c"  # 348, big-endian
    back = nifti.read(tmp_path / "b.dat")
    assert back.spacing == pytest.approx((4, 3, 2))
    np.testing.assert_array_equal(back.values, stored.transpose(2, 1, 0) * 0.5 - 3)
    np.testing.assert_allclose(back.affine[:3, 2], [-2, 0, 0])


def test_nifti2_and_several_volumes(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 2)).astype(np.float32)
    nibabel.Nifti2Image(values, np.eye(4)).to_filename(tmp_path / "a.nii")
    np.testing.assert_array_equal(nifti.read(tmp_path / "a.nii", 1).values, values[..., 1].transpose(2, 1, 0))
    with pytest.raises(FormatError, match="holds 2 volumes; name one with volume=0 to 1"):
        nifti.read(tmp_path / "a.nii")
    with pytest.raises(InputError, match="volume is 2, expected 0 to 1"):
        nifti.read(tmp_path / "a.nii", 2)
    nibabel.Nifti1Image(values[..., 0, :1], np.eye(4)).to_filename(tmp_path / "b.nii")  # two axes and one of length 1
    assert nifti.read(tmp_path / "b.nii").values.shape == (1, 3, 2)


def test_posterior_writes_mean_and_std(tmp_path: Path) -> None:
    given = volume()
    draws = torch.from_numpy(given.values)[None, None] + torch.tensor([-1.0, 0, 1]).reshape(3, 1, 1, 1, 1)
    posterior = Posterior.from_draws(draws, attrs=given.attributes())
    posterior.save(tmp_path / "out.nii.gz", draws=True)
    names = [f"out_{n}.nii.gz" for n in ("draw_000", "draw_001", "draw_002", "mean", "std")]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    mean, std = (nifti.read(tmp_path / f"out_{n}.nii.gz") for n in ("mean", "std"))
    np.testing.assert_allclose(mean.values, given.values, atol=1e-6)
    np.testing.assert_allclose(std.values, 1, atol=1e-6)
    np.testing.assert_allclose(mean.affine, given.affine, atol=1e-5)
    with pytest.raises(FileError, match="cannot write"):
        posterior.save(tmp_path / "none" / "out.nii")
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_lengths_and_places_that_a_file_lacks(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), None)
    image.header["pixdim"][1:4] = 2, 3, 4
    image.to_filename(tmp_path / "a.nii")
    with pytest.warns(RuntimeWarning, match="a.nii says not where it stands"):
        np.testing.assert_array_equal(nifti.read(tmp_path / "a.nii").affine[:3, :3], [[0, 0, 2], [0, 3, 0], [4, 0, 0]])
    whole = bytearray((tmp_path / "a.nii").read_bytes())
    whole[80:92] = bytes(12)
    (tmp_path / "a.nii").write_bytes(whole)
    with pytest.raises(FormatError, match="how large a voxel is.*--read spacing"):
        nifti.read(tmp_path / "a.nii")
    with pytest.raises(InputError, match="spacing is -1"):
        nifti.read(tmp_path / "a.nii", spacing=-1)
    with pytest.warns(RuntimeWarning, match="not where it stands"):
        assert nifti.read(tmp_path / "a.nii", spacing=[3, 2, 1]).spacing == (3, 2, 1)
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / "a.nii")
    with pytest.warns(RuntimeWarning, match="not where it stands"):
        assert nifti.read(tmp_path / "a.nii").spacing == pytest.approx((4e-3, 3e-3, 2e-3))


@pytest.mark.parametrize("placed", ["qform", "sform"])
def test_a_place_without_lengths(tmp_path: Path, placed: str) -> None:
    turned = np.array([[0, -2.0, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), None)
    image.set_qform(turned, code=placed == "qform")
    image.set_sform(turned, code=placed == "sform")
    whole = bytearray(image.to_bytes())
    whole[80:92] = bytes(12)  # pixdim
    (tmp_path / "a.nii").write_bytes(whole)
    if placed == "sform":  # which has them, too
        np.testing.assert_allclose(nifti.read(tmp_path / "a.nii").spacing, (4, 2, 3))
        return
    with pytest.raises(FormatError, match="how large a voxel is"):
        nifti.read(tmp_path / "a.nii")
    found = nifti.read(tmp_path / "a.nii", spacing=[7, 5, 6]).affine  # of slices, rows, columns
    np.testing.assert_allclose(found[:3], [[0, 5, 0, -5], [0, 0, -6, -6], [7, 0, 0, 7]], atol=1e-5)


def test_bad_files(tmp_path: Path) -> None:
    whole = nifti.write(tmp_path / "a.nii", volume()).read_bytes()
    path = tmp_path / "b.nii"
    for content, said in [
        (whole[:300], "is not a single-file NIfTI"),
        (whole[:-4], "cut short"),
        (gzip.compress(whole)[:-20], "cannot be read|not a single-file"),
        (b"hello", "not a single-file NIfTI: it begins with b'hello'"),
        (b"", "empty"),
        (whole[:42] + b"\xff\x7f\xff\x7f\xff\x7f" + whole[48:], "claims shape .32767, 32767, 32767"),
        (gzip.compress(whole[:42] + b"\xff\x7f\xff\x7f\xff\x7f" + whole[48:]), "claims shape .32767, 32767, 32767"),
        (whole[:352] + np.float32(np.nan).tobytes() + whole[356:], "holds NaN or infinity in 1 voxels"),
    ]:
        path.write_bytes(content)
        with pytest.raises(FormatError, match=said):
            nifti.read(path)
    with pytest.raises(FileError, match="does not exist"):
        nifti.read(tmp_path / "none.nii")
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4))
    image.to_filename(tmp_path / "c.nii")
    with pytest.raises(FormatError, match="holds colours"):
        nifti.read(tmp_path / "c.nii")


def test_damaged_files_raise_our_errors_only(tmp_path: Path) -> None:
    plain = nifti.write(tmp_path / "a.nii", volume()).read_bytes()
    rng, refused = np.random.default_rng(2), 0
    for case in range(300):
        damaged = np.frombuffer(gzip.compress(plain) if case % 3 == 0 else plain, np.uint8).copy()
        where = rng.integers(0, 348, 4)
        damaged[where] = rng.integers(0, 256, 4)
        (tmp_path / "b.nii").write_bytes(damaged.tobytes())
        try:
            nifti.read(tmp_path / "b.nii")
        except (FileError, InputError):
            refused += 1
    assert 10 < refused < 300


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nifti.write(tmp_path / "a.nii", volume())
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r"NIfTI needs nibabel.*invdiff\[imaging\]"):
        nifti.read(tmp_path / "a.nii")
