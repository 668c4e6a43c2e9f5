"""One door for all formats: recognised by content, extended by entry points."""

import types
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.datasets import reading
from invdiff.datasets.kspace import RawKspace
from invdiff.datasets.raw import fastmri
from invdiff.errors import FileError, FormatError, InputError, InvdiffError, UnknownNameError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix


def kspace(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)


def small() -> Measurement:
    return Measurement(torch.ones(2), Matrix(torch.eye(2)), Gaussian(0.5), meta={"number": 7})


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One file of each format, under names that say nothing."""
    np.save(tmp_path / "a.npy", kspace(1, 8, 8).numpy())
    (tmp_path / "a.npy").rename(tmp_path / "1.h5")
    fastmri.write(tmp_path / "2.npy", kspace(2, 8, 8))
    small().save(tmp_path / "3.txt")
    return {"npy": tmp_path / "1.h5", "fastmri": tmp_path / "2.npy", "measurement": tmp_path / "3.txt"}


def test_recognised_by_content(files: dict[str, Path]) -> None:
    assert set(files) <= set(reading.formats())
    assert reading.read(files["npy"], sigma=0.5).y.shape == (1, 8, 8)
    assert reading.read(files["fastmri"], sigma=0.5).y.shape == (2, 1, 8, 8)
    assert reading.read(files["measurement"]).meta == {"number": 7}
    assert reading.read(str(files["measurement"]), format="measurement").meta == {"number": 7}


def test_options_go_where_they_belong(files: dict[str, Path]) -> None:
    m = reading.read(files["fastmri"], slice=1, sigma=0.5)
    assert m.y.shape == (1, 8, 8) and m.meta["slice"] == 1 and m.meta["sigma"] == 0.5
    assert torch.equal(m.y[0], kspace(2, 8, 8)[1])
    with pytest.raises(InputError, match="with sigma2; its options are slice, sigma, n_sets"):
        reading.read(files["npy"], sigma=0.5, sigma2=1)
    with pytest.raises(InputError, match="format measurement. was to be read with sigma; its options are none"):
        reading.read(files["measurement"], sigma=0.5)


def test_unknown_files(tmp_path: Path) -> None:
    import h5py

    (tmp_path / "a.npy").write_text("hello", encoding="utf-8")
    with pytest.raises(FormatError, match="a.npy is of no known format: it begins with b'hello'; supported are .*npy"):
        reading.read(tmp_path / "a.npy")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"], file["dataset"] = 1, 2
    with pytest.raises(FormatError, match="it is HDF5 with dataset, image at its root"):
        reading.read(tmp_path / "b.h5")
    fastmri.write(tmp_path / "c.h5", kspace(2, 8, 8))
    whole = (tmp_path / "c.h5").read_bytes()
    (tmp_path / "c.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="c.h5 is an HDF5 file that cannot be read.*cut short"):
        reading.read(tmp_path / "c.h5")
    (tmp_path / "d.h5").touch()
    with pytest.raises(FormatError, match="empty"):
        reading.read(tmp_path / "d.h5")
    with pytest.raises(FileError, match="does not exist"):
        reading.read(tmp_path / "none")
    with pytest.raises(FileError, match="is a folder"):
        reading.read(tmp_path)
    with pytest.raises(UnknownNameError, match="'dicom3' is not known; there are .*fastmri"):
        reading.read(tmp_path / "a.npy", format="dicom3")


class Letters:
    """A format as an object: files that begin with ABC."""

    @staticmethod
    def recognise(path: Path) -> bool:
        return Path(path).read_bytes().startswith(b"ABC")

    @staticmethod
    def read(path: Path, **options: Any) -> Any:
        return {"raw": RawKspace(kspace(1, 8, 8), torch.ones(8).bool()), "odd": 3}.get(options.get("kind", ""), small())


def register(monkeypatch: pytest.MonkeyPatch, **objects: str) -> None:
    """Add entry points, on top of those installed."""
    installed = entry_points(group="invdiff.formats")
    added = [EntryPoint(name, value, "invdiff.formats") for name, value in objects.items()]
    monkeypatch.setattr(reading, "entry_points", lambda group: EntryPoints([*added, *installed]))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    module = types.ModuleType("letters_format")
    module.letters = Letters()  # type: ignore[attr-defined]
    module.recognise, module.read = Letters.recognise, Letters.read  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "letters_format", module)


@pytest.mark.parametrize("value", ["letters_format", "letters_format:letters"])
def test_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: None, value: str) -> None:
    register(monkeypatch, letters=value)
    (tmp_path / "a").write_bytes(b"ABCD")
    assert "letters" in reading.formats()
    assert reading.read(tmp_path / "a").meta == {"number": 7}
    with pytest.raises(FormatError, match="letters.*returned int; expected a Measurement"):
        reading.read(tmp_path / "a", kind="odd")


def test_two_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: None) -> None:
    register(monkeypatch, letters="letters_format", others="letters_format:letters")
    (tmp_path / "a").write_bytes(b"ABCD")
    with pytest.raises(FormatError, match="claimed by several formats, letters .*others"):
        reading.read(tmp_path / "a")
    assert reading.read(tmp_path / "a", format="others").meta == {"number": 7}


def test_broken_plugin_does_not_stop_others(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, broken="no_such_module_here:thing")
    with pytest.warns(RuntimeWarning, match="format broken .no_such_module_here:thing. of .* cannot be loaded"):
        assert reading.read(files["measurement"]).meta == {"number": 7}
    with pytest.raises(FileError, match="cannot be loaded"):
        reading.read(files["measurement"], format="broken")


def test_every_message_names_the_file(tmp_path: Path) -> None:
    for name, content in {
        "a": b"\x93NUMPY",
        "b": b"\x89HDF\r\n\x1a\n",
        "c": b"\x93NUMPY\x01\x00v\x00{}",
        "d": b"x",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvdiffError, match=str(tmp_path / name)):
            reading.read(tmp_path / name)


def test_real_acquisition(data_dir: Path) -> None:
    m = reading.read(data_dir / "mri" / "brain_8coil_kspace.npy", sigma=0.01, coil_maps=torch.ones(8, 230, 180) + 0j)
    assert m.operator.domain_shape == (1, 230, 180)
    assert m.meta["calibration_region"] == [24, 24]
    assert m.meta["acceleration"] == pytest.approx(8.04, abs=0.01)
