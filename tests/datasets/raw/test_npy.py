"""Plain .npy k-space."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.datasets.raw import npy
from invdiff.errors import FileError, FormatError, InputError
from invdiff.operators.mri.masks import achieved_acceleration


def kspace(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("dtype", ["c8", "c16", ">c8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_read(tmp_path: Path, dtype: str, order: Any) -> None:
    values, columns = kspace(3, 6, 8), np.array([0, 1, 0, 0, 1, 1, 0, 1])
    np.save(tmp_path / "k.npy", np.asarray(values * columns, dtype=dtype, order=order))
    raw = npy.read(tmp_path / "k.npy")
    assert raw.kspace.dtype == torch.complex64
    assert torch.equal(raw.kspace, torch.from_numpy(values * columns))
    assert raw.mask.tolist() == columns.astype(bool).tolist()
    assert raw.meta["file"] == str(tmp_path / "k.npy") and raw.spacing is None and raw.recon_size is None


def test_slices(tmp_path: Path) -> None:
    values = kspace(4, 3, 6, 8)
    values[3, 0, 2, 1] = np.nan
    np.save(tmp_path / "k.npy", values)
    assert torch.equal(npy.read(tmp_path / "k.npy", 1).kspace, torch.from_numpy(values[1]))
    assert torch.equal(npy.read(tmp_path / "k.npy", [2, 0]).kspace, torch.from_numpy(values[[2, 0]]))
    with pytest.raises(FormatError, match="k.npy: k-space holds NaN .*slice 3, coil 0, row 2, column 1"):
        npy.read(tmp_path / "k.npy", range(1, 4))
    with pytest.raises(InputError, match="holds 4 slice"):
        npy.read(tmp_path / "k.npy", 4)


def test_recognised_by_content(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", kspace(3, 6, 8))
    (tmp_path / "k.npy").rename(tmp_path / "k.dat")
    (tmp_path / "text.npy").write_text("not an array", encoding="utf-8")
    assert npy.recognise(tmp_path / "k.dat") and npy.read(tmp_path / "k.dat").kspace.shape == (3, 6, 8)
    assert not npy.recognise(tmp_path / "text.npy")
    assert not npy.recognise(tmp_path) and not npy.recognise(tmp_path / "none")
    with pytest.raises(FormatError, match="not a .npy file: it begins with b'not an array'"):
        npy.read(tmp_path / "text.npy")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((3, 6, 8)), "k-space is float64; expected complex"),
        (np.ones((3, 6, 8), np.int16), "k-space is int16"),
        (kspace(6, 8), r"shape \(6, 8\); expected k-space \(coils, ky, kx\)"),
        (kspace(1, 1, 1, 6, 8), r"shape \(1, 1, 1, 6, 8\)"),
        (kspace(3, 0, 8), r"3, 0, 8"),
        (np.zeros((3, 6, 8), complex), "zero everywhere"),
        (np.array(1j), r"shape \(\)"),
        (np.zeros((3, 6, 8), [("re", "f4"), ("im", "f4")]), "expected complex"),
    ],
)
def test_wrong_array(tmp_path: Path, values: np.ndarray, said: str) -> None:
    np.save(tmp_path / "k.npy", values)
    with pytest.raises(FormatError, match=said) as caught:
        npy.read(tmp_path / "k.npy")
    assert str(tmp_path / "k.npy") in str(caught.value)


def test_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "k.npy"
    with pytest.raises(FileError, match="does not exist"):
        npy.read(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="empty"):
        npy.read(path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="cannot be read as .npy.*Python objects"):
        npy.read(path)
    np.save(path, kspace(3, 6, 8))
    whole = path.read_bytes()
    for cut in (8, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match="cannot be read as .npy"):
            npy.read(path)
    path.write_bytes(whole[:10] + b"{'descr: " + whole[19:])  # numpy reads the header as Python
    with pytest.raises(FormatError, match="cannot be read as .npy"):
        npy.read(path)


def test_real_acquisition(data_dir: Path) -> None:
    raw = npy.read(data_dir / "mri" / "brain_8coil_kspace.npy")
    assert raw.kspace.shape == (8, 230, 180) and raw.mask.shape == (230, 180)
    assert achieved_acceleration(raw.mask) == pytest.approx(1 / 0.124, rel=0.005)
    with pytest.raises(FormatError, match="t1_coronal_slice.npy has shape"):
        npy.read(data_dir / "mri" / "t1_coronal_slice.npy")
