"""`invdiff reconstruct` on scanners' files: what identifies a patient stays out, what would be lost is said before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.datasets.raw import fastmri
from invdiff.datasets.volume import Volume
from invdiff.posterior import Posterior
from invdiff.reconstruction.provenance import hash_of

pydicom = pytest.importorskip("pydicom", reason="DICOM needs pydicom (extra imaging)")
nibabel = pytest.importorskip("nibabel", reason="NIfTI needs nibabel (extra imaging)")

FAST = ("--simulate", "ct", "--views", 30, "--method", "fbp", "--alone")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Three slices of a phantom with a patient's name."""
    from invdiff.datasets.dicom import writer

    y, x = np.mgrid[:24, :20]
    values = np.where((y - 11) ** 2 + (x - 9) ** 2 < 60, 40.0, -1000.0)[None].repeat(3, 0)
    affine = np.array([[0, 0, 2.0, -7], [0, 3.0, 0, 5], [4.0, 0, 0, 30], [0, 0, 0, 1]])
    writer.write(tmp_path / "secret", {"mean": Volume(values.astype(np.float32), affine, "HU")})
    for path in (tmp_path / "secret" / "mean").iterdir():
        image = pydicom.dcmread(path)
        image.PatientName, image.SeriesDescription = "SECRET", "SECRET"
        image.save_as(path)
    return tmp_path / "secret"


@pytest.mark.parametrize("name", ["anon.nc", "anon.nii.gz", "anon"])
def test_anonymous_results_name_nobody(tmp_path: Path, call, series: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / name
    assert call("simulate", series, "--views", 30, "-o", tmp_path / "m.h5").exit_code == 0
    done = call("reconstruct", tmp_path / "m.h5", "--method", "fbp", "--alone", "-o", out, "--anonymise")
    assert done.exit_code == 0, done.output
    written = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert written and not any(b"secret" in p.read_bytes().lower() for p in written)
    if name == "anon.nc":
        attributes = Posterior.load(out).dataset.attrs
        assert attributes["operator"].startswith("ParallelCT") and "truth_sha256" in attributes
        assert json.loads(attributes["geometry"])["meta"] == {} and json.loads(attributes["slice"]) == [0, 1, 2]


def test_a_fastmri_patient_stays_out(tmp_path: Path, call) -> None:
    k = torch.randn(1, 2, 24, 32, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    mask = torch.arange(32) % 2 + torch.isin(torch.arange(32), torch.arange(12, 20)).int() > 0
    fastmri.write(tmp_path / "f.h5", k * mask, mask, attrs={"patient_id": "PAT-SECRET"})
    done = call("reconstruct", tmp_path / "f.h5", "--method", "cg", "--alone", "--sigma", 0.1, "-o", tmp_path / "o.nc")
    assert done.exit_code == 0, done.output
    assert b"PAT-SECRET" not in (tmp_path / "o.nc").read_bytes()


def test_a_classical_image_is_called_by_its_method(tmp_path: Path, call, series: Path) -> None:
    assert call("reconstruct", series, *FAST, "-o", tmp_path / "out").exit_code == 0
    image = pydicom.dcmread(tmp_path / "out" / "mean" / "0001.dcm")
    assert image.SeriesDescription.endswith("SECRET fbp") and "posterior" not in image.DerivationDescription
    assert json.loads((tmp_path / "out.provenance.json").read_text())["options"]["draws"] == 1


def test_what_cannot_be_written_is_said_first(tmp_path: Path, call, series: Path) -> None:
    assert call("simulate", series, "--views", 30, "-o", tmp_path / "m.h5").exit_code == 0
    series.rename(tmp_path / "moved")
    done = call("reconstruct", tmp_path / "m.h5", "--nfe", 2, "-o", tmp_path / "out")
    assert done.exit_code == 2 and "0001.dcm does not exist" in done.stderr and "ParallelCT" not in done.stderr
    for path in (tmp_path / "moved" / "mean").iterdir():
        image = pydicom.dcmread(path)
        image.Modality = "PT"
        image.save_as(path)
    done = call("reconstruct", tmp_path / "moved", *FAST, "-o", tmp_path / "out")
    assert done.exit_code == 2 and "is PT; derived series are written of CT and MR" in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_options_of_the_reader(tmp_path: Path, call, series: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(series / "mean", both / "a")
    for path in (both / "a").iterdir():
        image = pydicom.dcmread(path)
        image.SeriesInstanceUID, image.SeriesNumber, image.SOPInstanceUID = "1.2.3", 77, f"1.2.3.{image.InstanceNumber}"
        (both / "b").mkdir(exist_ok=True)
        image.save_as(both / "b" / path.name)
    done = call("reconstruct", both, *FAST, "-o", tmp_path / "o.nc")
    said = " ".join(done.stderr.split())
    assert done.exit_code == 2 and "holds 2 series; name one with series=... (--read series=...)" in said
    assert "1.2.3, 77" in said and "3 file(s) in" in said
    assert call("reconstruct", both, *FAST, "--read", "series=77", "-o", tmp_path / "o.nc").exit_code == 0
    assert Posterior.load(tmp_path / "o.nc").draws.attrs["units"] == "HU"
    some = ("--read", "series=77", "--read", "select.InstanceNumber=2", "-o", tmp_path / "m.h5")
    assert call("simulate", both, "--views", 30, *some).exit_code == 0
    for texts, message in (
        (["series"], "it expects NAME=VALUE"), (["a.b.c=1"], "NAME=VALUE"), (["colour=1"], "its options"),
        (["strict=maybe"], "option strict is 'maybe'; it expects bool"), (["series=3.5"], "expects str | int | None"),
        (["select=3"], "option select is 3"), (["slice=1"], "an option of its own for slice"),
        (["series=1", "series=2"], "series was given before"), (["select=3", "select.A=1"], "select was given before"),
    ):  # fmt: skip
        options = [word for text in texts for word in ("--read", text)]
        done = call("reconstruct", both, *FAST, *options, "-o", tmp_path / "p.nc")
        assert done.exit_code == 2 and message in " ".join(done.stderr.split()), done.stderr


def test_a_ct_in_nifti(tmp_path: Path, call) -> None:
    values = np.full((20, 24, 2), -1000, np.float32)
    values[6:14, 8:16] = 40
    nibabel.Nifti1Image(values, np.diag([2.0, 2, 3, 1])).to_filename(tmp_path / "hu.nii.gz")
    done = call("reconstruct", tmp_path / "hu.nii.gz", *FAST, "-o", tmp_path / "o.nii.gz")
    assert done.exit_code == 2 and "--read units=HU" in done.stderr
    out = ("--format", "nifti", "-o", tmp_path / "o.img")
    done = call("reconstruct", tmp_path / "hu.nii.gz", *FAST, "--read", "units=HU", *out)
    assert done.exit_code == 0 and "o.img_mean.nii.gz" in "".join(done.stdout.split())
    back = ("--simulate", "ct", "--views", 30, "--method", "fbp", "--alone", "-o", tmp_path / "p.nc")
    assert call("reconstruct", tmp_path / "o.img_mean.nii.gz", *back).exit_code == 0  # our own files know their unit


def test_hashes_are_of_the_values_too(tmp_path: Path) -> None:
    header = "ObjectType = Image\nNDims = 3\nDimSize = 2 1 1\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\n"
    for name, text in (("a.mhd", f"{header}ElementDataFile = a.raw\n"), ("b.hdr", "# Dimensions\n1 1\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        values = tmp_path / {"a.mhd": "a.raw", "b.hdr": "b.cfl"}[name]
        values.write_bytes(b"\x01\x02")
        first = hash_of(tmp_path / name)
        values.write_bytes(b"\x01\x03")
        assert hash_of(tmp_path / name) != first
