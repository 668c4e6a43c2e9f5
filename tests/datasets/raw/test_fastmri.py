"""fastMRI files: what is written is read back, by us and by fastMRI; wrong files are refused by name and field."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from invdiff.datasets.raw import fastmri
from invdiff.datasets.raw.ismrmrd_header import compose, parse
from invdiff.errors import DTypeError, FileError, FormatError, InputError, ShapeError
from invdiff.posterior import Posterior

HEADER: dict[str, Any] = {
    "encoded_matrix": [12, 10, 1],
    "recon_matrix": [6, 6, 1],
    "encoded_fov_mm": [24.0, 15.0, 5.0],
    "recon_fov_mm": [12.0, 12.0, 5.0],
    "limits": {"minimum": 0, "maximum": 7, "center": 4},
    "padding": [1, 9],
    "receiver_channels": 16,
    "trajectory": "cartesian",
}


def volume(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file1.h5"


def test_round_trip_of_several_coils(path: Path) -> None:
    mask = torch.tensor([0, 1, 0, 1, 1, 1, 1, 0, 1, 0]).bool()
    kspace, truth = volume(3, 4, 12, 10) * mask, volume(3, 6, 6).abs()
    attrs = {"acquisition": "AXFLAIR", "max": 3.5, "patient_id": "0abc"}
    assert fastmri.write(path, kspace, mask, HEADER, truth, attrs) == path
    raw = fastmri.read(path)
    assert torch.equal(raw.kspace, kspace) and torch.equal(raw.mask, mask)
    assert raw.truth is not None and torch.equal(raw.truth, truth)
    assert raw.recon_size == (6, 6)
    assert raw.spacing == (2.0, 1.5)
    assert raw.meta["header"] == HEADER
    assert raw.meta["slice"] == [0, 1, 2]
    assert raw.meta["acquisition"] == "AXFLAIR" and raw.meta["max"] == 3.5
    assert "patient_id" not in raw.meta  # no patient data travel on
    assert raw.meta["norm"] == pytest.approx(float(truth.norm()))
    assert raw.meta["file"] == str(path) and len(raw.meta["sha256"]) == 64
    one = fastmri.read(path, slice=1)
    assert torch.equal(one.kspace, kspace[1]) and one.truth is not None and torch.equal(one.truth, truth[1])
    some = fastmri.read(path, slice=[2, 0])
    assert torch.equal(some.kspace, kspace[[2, 0]]) and some.meta["slice"] == [2, 0]


def test_round_trip_of_a_single_coil(path: Path) -> None:
    kspace, truth = volume(2, 12, 10), volume(2, 6, 5).abs()
    fastmri.write(path, kspace, reconstruction=truth)
    raw = fastmri.read(path)
    assert torch.equal(raw.kspace, kspace[:, None])
    assert raw.mask.shape == (10,) and raw.mask.all()
    assert raw.truth is not None and torch.equal(raw.truth, truth)
    assert raw.recon_size == (6, 5) and raw.spacing is None
    assert fastmri.read(path, 0).kspace.shape == (1, 12, 10)


def test_one_slice_has_no_slice_axis(path: Path) -> None:
    fastmri.write(path, volume(1, 4, 12, 10))
    assert fastmri.read(path).kspace.shape == (4, 12, 10)


def test_mask_in_two_dimensions(path: Path) -> None:
    mask = torch.rand(12, 10, generator=torch.Generator().manual_seed(1)) < 0.5
    fastmri.write(path, volume(2, 4, 12, 10) * mask, mask)
    assert torch.equal(fastmri.read(path).mask, mask)


def test_only_what_is_asked_for_is_read(path: Path) -> None:
    kspace = volume(3, 4, 12, 10)
    kspace[2, 1, 5, 6] = torch.nan
    fastmri.write(path, kspace)
    assert torch.equal(fastmri.read(path, 1).kspace, kspace[1])
    with pytest.raises(FormatError, match="kspace holds NaN.*slice 2, coil 1, row 5, column 6"):
        fastmri.read(path, [0, 2])


def test_agrees_with_fastmri(path: Path) -> None:
    data = pytest.importorskip("fastmri.data")
    mask = torch.tensor([0, 1, 0, 1, 1, 1, 1, 0, 1, 0]).bool()
    kspace, truth = volume(3, 4, 12, 10) * mask, volume(3, 6, 6).abs()
    fastmri.write(path, kspace, mask, HEADER, truth, {"acquisition": "AXFLAIR", "patient_id": "7"})
    theirs = data.SliceDataset(path.parent, "multicoil")
    assert len(theirs) == 3
    for i in range(3):
        k, m, target, attrs, name, number = theirs[i]
        ours = fastmri.read(path, i)
        np.testing.assert_array_equal(ours.kspace.numpy(), k)
        np.testing.assert_array_equal(ours.mask.numpy(), m)
        assert ours.truth is not None
        np.testing.assert_array_equal(ours.truth.numpy(), target)
        assert (name, number) == (path.name, i)
        assert attrs["recon_size"][:2] == ours.recon_size
        assert [attrs["padding_left"], attrs["padding_right"]] == ours.meta["header"]["padding"]
        assert attrs["encoding_size"] == tuple(ours.meta["header"]["encoded_matrix"])
        assert attrs["max"] == ours.meta["max"] and attrs["acquisition"] == "AXFLAIR"


def test_single_coil_agrees_with_fastmri(path: Path) -> None:
    data = pytest.importorskip("fastmri.data")
    fastmri.write(path, volume(2, 12, 10), reconstruction=volume(2, 6, 6).abs())
    k, m, target, attrs, _, _ = data.SliceDataset(path.parent, "singlecoil")[1]
    ours = fastmri.read(path, 1)
    np.testing.assert_array_equal(ours.kspace[0].numpy(), k)
    assert m is None and ours.truth is not None
    np.testing.assert_array_equal(ours.truth.numpy(), target)
    assert (attrs["padding_left"], attrs["padding_right"]) == (0, 10)


def test_columns_that_were_never_measured_are_not_data(path: Path) -> None:
    # Zero padding and partial Fourier: in the file as zeros, whatever the header says of them.
    kspace = volume(2, 4, 12, 10)
    kspace[..., :1], kspace[..., 9:] = 0, 0
    for header in (HEADER, None):
        fastmri.write(path, kspace, header=header)
        raw = fastmri.read(path)
        assert raw.mask.tolist() == [False, *[True] * 8, False]


def test_columns_outside_the_mask_are_dropped_and_counted(path: Path) -> None:
    kspace = volume(2, 4, 12, 10)
    fastmri.write(path, kspace)
    mask = np.arange(10) % 3 == 0
    with h5py.File(path, "a") as file:
        file["mask"] = mask.astype(np.float32)
    raw = fastmri.read(path)
    assert raw.mask.tolist() == mask.tolist()
    assert torch.equal(raw.kspace, kspace * torch.from_numpy(mask))
    assert raw.meta["columns_outside_mask"] == 6


def test_asymmetric_echo_is_a_mask_of_points(path: Path) -> None:
    kspace = volume(2, 4, 12, 10)
    kspace[..., :3, :] = 0
    fastmri.write(path, kspace)
    raw = fastmri.read(path)
    assert raw.mask.shape == (12, 10) and not raw.mask[:3].any() and raw.mask[3:].all()


def test_recon_size_does_not_exceed_the_image(path: Path) -> None:
    fastmri.write(path, volume(1, 4, 12, 10), header={**HEADER, "recon_matrix": [14, 8, 1]})
    assert fastmri.read(path).recon_size == (12, 8)
    fastmri.write(path, volume(1, 4, 12, 10), header={**HEADER, "recon_matrix": [8, 16, 1]})
    assert fastmri.read(path).recon_size == (8, 10)


def test_header_is_optional_and_may_have_any_namespace(path: Path) -> None:
    fastmri.write(path, volume(1, 4, 12, 10))
    with h5py.File(path, "a") as file:
        del file["ismrmrd_header"]
    raw = fastmri.read(path)
    assert raw.recon_size is None and raw.spacing is None and raw.meta["header"] == {}
    text = compose(HEADER, (1, 4, 12, 10), None)
    assert parse(text.replace("http://www.ismrm.org/ISMRMRD", "urn:other"), "f") == HEADER
    assert parse(text.encode(), "f") == HEADER


def test_nothing_is_left_of_a_write_that_fails(path: Path) -> None:
    fastmri.write(path, volume(1, 4, 12, 10))
    before = path.read_bytes()
    with pytest.raises(InputError, match="attrs cannot be saved"):
        fastmri.write(path, volume(1, 4, 12, 10), attrs={"odd": object()})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"kspace": torch.ones(4, 5) + 0j}, ShapeError, r"shape \(4, 5\)"),
        ({"kspace": torch.ones(2, 3, 4, 5)}, DTypeError, "float32; expected complex"),
        ({"mask": torch.ones(4)}, ShapeError, r"mask has shape \(4,\)"),
        ({"mask": torch.tensor([1, 1, 0, 1, 1])}, InputError, "not zero where mask is false"),
        ({"reconstruction": torch.ones(3, 4, 5)}, ShapeError, r"expected \(2, h, w\)"),
        ({"path": "nowhere/file.h5"}, FileError, "folder does not exist"),
        ({"path": "."}, FileError, "is a folder"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    target = tmp_path / arguments.pop("path", "a.h5")
    with pytest.raises(error, match=said):
        fastmri.write(target, **{"kspace": torch.ones(2, 3, 4, 5) + 0j, **arguments})
    assert list(tmp_path.iterdir()) == []


def replace_with(name: str, value: Any) -> Any:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return change


WRONG: dict[str, tuple[Any, str]] = {
    "no kspace": (replace_with("kspace", None), "kspace is missing .found: ismrmrd_header, mask, reconstruction_rss"),
    "a group": (lambda f: (replace_with("kspace", None)(f), f.create_group("kspace")), "kspace is no array"),
    "no rank": (replace_with("kspace", 1 + 1j), r"kspace has shape \(\)"),
    "rank 2": (replace_with("kspace", np.ones((12, 10), complex)), r"kspace has shape \(12, 10\); expected"),
    "rank 5": (replace_with("kspace", np.ones((1, 2, 4, 12, 10), complex)), "expected .slice, coil, row, col"),
    "no slices": (replace_with("kspace", np.ones((0, 4, 12, 10), complex)), r"shape \(0, 4, 12, 10\)"),
    "real": (replace_with("kspace", np.ones((2, 4, 12, 10))), "kspace is float64; expected complex"),
    "integer": (replace_with("kspace", np.ones((2, 4, 12, 10), int)), "kspace is int64"),
    "text": (replace_with("kspace", np.full((2, 4, 12, 10), b"x")), "kspace is .*; expected complex"),
    "zero": (replace_with("kspace", np.zeros((2, 4, 12, 10), complex)), "kspace is zero everywhere in slice 0"),
    "more coils than channels": (
        replace_with("kspace", np.ones((2, 20, 12, 10), complex)),
        "20 coils, but ismrmrd_header names 16 receiver channels",
    ),
    "short mask": (replace_with("mask", np.ones(9, bool)), r"mask has shape \(9,\).*needs \(10,\)"),
    "mask of rows": (replace_with("mask", np.ones(12, bool)), r"mask has shape \(12,\)"),
    "mask false": (replace_with("mask", np.zeros(10, bool)), "mask is false everywhere"),
    "mask of weights": (replace_with("mask", np.linspace(0, 1, 10)), "mask .float64. holds other values"),
    "mask of NaN": (replace_with("mask", np.full(10, np.nan)), "holds other values than 0 and 1"),
    "mask beside data": (replace_with("mask", np.arange(10) == 0), "zero wherever mask is true"),
    "mask of text": (replace_with("mask", np.full(10, b"x")), "mask"),
    "header": (replace_with("ismrmrd_header", b"<a><b></a>"), "ismrmrd_header is not XML"),
    "header of numbers": (replace_with("ismrmrd_header", np.arange(3)), "ismrmrd_header is not XML"),
    "header with words": (
        replace_with("ismrmrd_header", compose({**HEADER, "recon_matrix": ["six", 6, 1]}, (1, 1), None)),
        "ismrmrd_header has .*six.* as encoding/reconSpace/matrixSize x, y, z; expected numbers",
    ),
    "truth of one slice": (replace_with("reconstruction_rss", np.ones((1, 6, 6), np.float32)), "expected .2, h, w."),
    "truth complex": (replace_with("reconstruction_rss", np.ones((2, 6, 6), complex)), "reconstruction_rss"),
    "truth NaN": (replace_with("reconstruction_rss", np.full((2, 6, 6), np.nan)), "not finite"),
}


@pytest.mark.parametrize(("change", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_field(path: Path, change: Any, said: str) -> None:
    kspace = volume(2, 4, 12, 10)
    kspace[..., 0] = 0
    fastmri.write(path, kspace, torch.arange(10) > 0, HEADER, volume(2, 6, 6).abs())
    fastmri.read(path)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(FormatError, match=said) as caught:
        fastmri.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("number", [2, -1, 1.0, "0"])
def test_no_such_slice(path: Path, number: Any) -> None:
    fastmri.write(path, volume(2, 4, 12, 10))
    with pytest.raises(InputError, match="holds 2 slice.*expected a number from 0 to 1"):
        fastmri.read(path, number)


def test_wrong_file(path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        fastmri.read(path)
    with pytest.raises(FileError, match="is a folder"):
        fastmri.read(path.parent)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match=r"is empty \(0 bytes\)"):
        fastmri.read(path)
    path.write_text("subject,age\n1,30\n", encoding="utf-8")
    with pytest.raises(FormatError, match="not an HDF5 file: it begins with b'subject"):
        fastmri.read(path)
    assert not fastmri.recognise(path) and not fastmri.recognise(path.parent)


@pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_file_cut_short(path: Path, part: float) -> None:
    fastmri.write(path, volume(2, 4, 12, 10), header=HEADER)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(FormatError, match="damaged or cut short") as caught:
        fastmri.read(path)
    assert str(path) in str(caught.value)
    assert not fastmri.recognise(path)


def test_a_damaged_shape_does_not_ask_for_all_memory(path: Path) -> None:
    fastmri.write(path, volume(1, 4, 12, 10))
    with h5py.File(path, "a") as file:
        del file["kspace"]
        file.create_dataset("kspace", (1, 4, 1 << 20, 1 << 20), np.complex64, chunks=(1, 1, 64, 64))
    with pytest.raises(FormatError, match="kspace of shape .* claims 35184372088832 bytes"):
        fastmri.read(path)


def test_submission_is_cut_like_references(path: Path) -> None:
    images = volume(3, 7, 10).numpy()
    assert fastmri.write_submission(path, images, (4, 5), {"prior": "head"}) == path
    with h5py.File(path) as file:
        assert list(file) == ["reconstruction"] and file.attrs["prior"] == "head"
        stored = file["reconstruction"][()]
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, np.abs(images)[:, 1:5, 2:7])
    with pytest.raises(ShapeError, match="8, 5. pixels at least"):
        fastmri.write_submission(path, images, (8, 5))
    with pytest.raises(InputError, match="NaN or infinity"):
        fastmri.write_submission(path, images * np.nan)
    transforms = pytest.importorskip("fastmri.data.transforms", reason="the cross-check needs fastmri (extra fastmri)")
    theirs = transforms.center_crop(torch.from_numpy(np.abs(images)), (4, 5))
    np.testing.assert_array_equal(stored, theirs.numpy())


def test_posterior_is_saved_as_a_submission(path: Path) -> None:
    draws = volume(2, 3, 1, 6, 8)
    Posterior.from_draws(draws, attrs={"recon_rows": 4, "recon_columns": 6}, batched=True).save(path, "fastmri")
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["reconstruction"][()], draws.mean(0)[:, 0].abs()[:, 1:5, 1:7], atol=1e-6)
