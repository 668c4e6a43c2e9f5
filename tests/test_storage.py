"""The measurement file: every part comes back bit for bit, and nothing but operators comes to life."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from invdiff import storage
from invdiff.datasets import measurement_file
from invdiff.errors import FileError, FormatError, InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian, Noise
from invdiff.operators.algebra import stack
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.matrix import Identity, Matrix
from invdiff.operators.mri.sense import MRI


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def matrix(m: int, d: int, dtype: torch.dtype = torch.complex64) -> Any:
    return Matrix(torch.randn(m, d, generator=rng(), dtype=dtype))


def mri(problems: int = 1, sets: int = 1) -> MRI:
    maps = torch.randn(problems, sets, 3, 6, 8, generator=rng(), dtype=torch.complex64)
    return MRI(maps, torch.tensor([0, 1, 1, 0, 1, 1, 0, 1]))


OPERATORS: dict[str, Callable[[], Any]] = {
    "Matrix": lambda: matrix(4, 3),
    "Matrix, real": lambda: matrix(4, 3, torch.float32),
    "Matrix, double": lambda: matrix(4, 3, torch.complex128),
    "Identity": lambda: Identity((3, 4), "complex"),
    "MRI": lambda: mri(),
    "MRI, sets": lambda: mri(sets=2),
    "MRI, points": lambda: MRI(mri().coil_maps, torch.rand(6, 8, generator=rng()) < 0.5),
    "Compose": lambda: matrix(4, 3) @ matrix(3, 5),
    "Sum": lambda: matrix(4, 3) + Matrix(torch.ones(4, 3) + 0j),
    "Scale, complex": lambda: (0.1 + 2.5j) * matrix(4, 3),
    "Scale": lambda: -0.3 * matrix(4, 3),
    "Restrict, rows": lambda: matrix(4, 3)[torch.tensor([2, 0])],
    "Restrict, mask": lambda: mri()[torch.rand(6, 8, generator=rng()) < 0.5],
    "Stack": lambda: stack([matrix(4, 3), 2.0 * matrix(2, 3)]),
    "nested": lambda: stack([2.0 * (matrix(4, 3) @ matrix(3, 5)), (matrix(7, 5) + matrix(7, 5))[1:3]]),
    "eleven": lambda: stack([float(i + 1) * matrix(1, 3) for i in range(11)]),
}


def dtype_of(operator: Operator) -> torch.dtype:
    tensors = operator._all_tensors()  # type: ignore[attr-defined]
    kinds = [t.dtype for t in tensors if t.is_complex() or t.is_floating_point()]
    return kinds[0] if kinds else torch.complex64


def measure(operator: LinearOperator, **others: Any) -> tuple[Measurement, Tensor]:
    x = torch.randn(operator.n_problems, *operator.domain_shape, generator=rng(), dtype=dtype_of(operator))
    batched = operator.n_problems > 1
    y = operator.forward(x)
    return Measurement(y if batched else y[0], operator, **{"noise": Gaussian(0.1), "batched": batched, **others}), x


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())
def test_operators(tmp_path: Path, make: Callable[[], Any]) -> None:
    m, x = measure(make())
    back = Measurement.load(m.save(tmp_path / "m.h5"))
    assert repr(back.operator) == repr(m.operator) and type(back.operator) is type(m.operator)
    assert back.y.dtype == m.y.dtype and torch.equal(back.y, m.y)
    assert torch.equal(back.operator.forward(x), m.operator.forward(x))
    assert back.chi2(x).tolist() == m.chi2(x).tolist()
    assert list(tmp_path.iterdir()) == [tmp_path / "m.h5"]


def test_several_problems(tmp_path: Path) -> None:
    m, x = measure(mri(problems=2))
    back = Measurement.load(m.save(tmp_path / "m.h5"))
    assert back.batched and back.n_problems == 2
    assert torch.equal(back.take([1]).y, m.y[1:])
    assert torch.equal(back.residual(x), m.residual(x))


@pytest.mark.parametrize("sigma", [0.1, 1e-7, torch.tensor([0.5, 0.25, 2.0, 1.0])])
def test_noise(tmp_path: Path, sigma: float | Tensor) -> None:
    m, _ = measure(matrix(4, 3), noise=Gaussian(sigma))
    back = Measurement.load(m.save(tmp_path / "m.h5")).noise
    assert type(back) is Gaussian
    assert type(back.sigma) is type(m.noise.sigma)  # type: ignore[attr-defined]
    assert torch.equal(torch.as_tensor(back.sigma), torch.as_tensor(m.noise.sigma))  # type: ignore[attr-defined]


def test_meta(tmp_path: Path) -> None:
    meta = {
        "file": Path("a") / "b.h5",
        "numbers": [1, 2.5, None, True],
        "numpy": {"a": np.float32(0.5), "b": np.arange(3)},
        "complex": {"complex": [1, 2]},
        "text": "µ\n" + 100_000 * "x",
    }
    m, _ = measure(matrix(4, 3), meta=meta)
    expected = {**meta, "file": str(Path("a") / "b.h5"), "numpy": {"a": 0.5, "b": [0, 1, 2]}}
    assert Measurement.load(m.save(tmp_path / "m.h5")).meta == expected


def test_coordinates(tmp_path: Path) -> None:
    import xarray as xr

    times = np.array(["2019-03-01T12:00", "2019-03-02"], "datetime64[ns]")
    coords = {
        "y": (("y",), np.arange(4.0), {"units": "mm", "valid_min": -1, "range": [0.0, 3.0]}),
        "x": ("x", np.arange(3, dtype=np.int32)),
        "time": ("time", times, {"standard_name": "time"}),
        "station": ("time", np.array(["Kew", "Ärö"])),
        "inside": (("y", "x"), np.arange(12).reshape(4, 3) > 5),
        "level": xr.DataArray(850.0, attrs={"units": "hPa"}),
        "draw": np.arange(2),
    }
    m, _ = measure(matrix(4, 3), coords=coords)
    back = Measurement.load(m.save(tmp_path / "m.h5")).coords
    expected = xr.Dataset(coords=coords)
    xr.testing.assert_identical(xr.Dataset(coords=back), expected)
    assert {k: v.dtype for k, v in xr.Dataset(coords=back).coords.items()} == {
        k: v.dtype for k, v in expected.coords.items()
    }


def test_opens_with_xarray(tmp_path: Path) -> None:
    import xarray as xr

    m, _ = measure(mri(), coords={"x": (("x",), np.arange(8.0), {"units": "mm"})})
    m.save(tmp_path / "m.nc")
    with xr.open_dataset(tmp_path / "m.nc", engine="netcdf4") as file:
        assert file.attrs["invdiff_format"] == "measurement"
        np.testing.assert_array_equal(file["y"].values, torch.view_as_real(m.y).numpy())
    with xr.open_dataset(tmp_path / "m.nc", group="operator", engine="netcdf4") as file:
        np.testing.assert_array_equal(file["mask"].values, mri().mask.numpy())
    with xr.open_dataset(tmp_path / "m.nc", group="coords", engine="netcdf4") as file:
        assert file["x"].attrs["units"] == "mm" and file["x"].dims == ("x",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
def test_types_of_tensors(tmp_path: Path, dtype: torch.dtype) -> None:
    from invdiff.hdf5 import get_tensor, put_tensor

    values = {"large": torch.tensor(3e38), "some": 10 * torch.randn(5, 3, generator=rng()), "one": torch.tensor(1)}
    if dtype not in (torch.bfloat16, torch.float64):
        del values["large"]
    values = {name: value.to(dtype) for name, value in values.items()}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value in values.items():
            put_tensor(file, name, value)
        for name, value in values.items():
            found = get_tensor(file, name, tmp_path / "a.h5")
            assert found.dtype == dtype and torch.equal(found, value)


def test_views_are_stored_as_they_look(tmp_path: Path) -> None:
    from invdiff.hdf5 import get_tensor, put_tensor

    value = torch.randn(3, 4, generator=rng(), dtype=torch.complex64, requires_grad=True).conj()[:, ::2].mT
    with h5py.File(tmp_path / "a.h5", "w") as file:
        put_tensor(file, "a", value)
        assert torch.equal(get_tensor(file, "a", tmp_path / "a.h5"), value.detach())


def test_zeros_are_packed(tmp_path: Path) -> None:
    y = torch.zeros(400, 400)
    y[3, 5] = 1
    path = Measurement(y, Identity((400, 400)), Gaussian(0.1)).save(tmp_path / "m.h5")
    assert path.stat().st_size < 20_000
    assert torch.equal(Measurement.load(path).y, y)


class Unregistered(Identity):
    pass


class Odd(Noise):
    pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: measure(Unregistered((3,), "complex"))[0],
            "Unregistered cannot be saved.*entry-point group invdiff.operators",
        ),
        (lambda: measure(2.0 * Unregistered((3,), "complex"))[0], "Unregistered cannot be saved"),
        (lambda: measure(matrix(2, 3), noise=Odd())[0], "noise of type Odd cannot be saved"),
        (lambda: measure(matrix(2, 3), meta={"a": object()})[0], "meta holds a object"),
        (lambda: measure(matrix(2, 3), meta={(1, 2): 3})[0], "meta holds"),
        (lambda: measure(matrix(2, 3), coords={"x": (("x", "y"), np.arange(3))})[0], "coords.'x'. is not a coordinate"),
        (lambda: measure(matrix(2, 3), coords={"x": ("x", np.arange(3) * 1j)})[0], "coords.'x'. holds complex128"),
        (lambda: measure(matrix(2, 3), coords={"x": ("x", [1], {"a": {}})})[0], "coords.'x'. cannot be saved"),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, make: Callable[[], Measurement], said: str) -> None:
    before = measure(matrix(4, 3))[0].save(tmp_path / "m.h5").read_bytes()
    with pytest.raises(InputError, match=said):
        make().save(tmp_path / "m.h5")
    assert (tmp_path / "m.h5").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "m.h5"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    m, _ = measure(matrix(4, 3))
    with pytest.raises(FileError, match="folder does not exist"):
        m.save(tmp_path / "none" / "m.h5")
    with pytest.raises(FileError, match="is a folder"):
        m.save(tmp_path)


def test_an_interrupted_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "put_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure(matrix(4, 3))[0].save(tmp_path / "m.h5")
    assert list(tmp_path.iterdir()) == []


def put(name: str, value: Any, dtype: str = "float32") -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value
            file[name].attrs["dtype"] = dtype

    return change


def attribute(group: str, name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[group].attrs.__setitem__(name, value)


DAMAGE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "another format": (attribute("/", "invdiff_format", "posterior"), "invdiff_format is 'posterior'"),
    "a later version": (attribute("/", "version", 2), "version is 2; this invdiff reads 1 to 1"),
    "no version": (lambda f: f.attrs.__delitem__("version"), "version is None"),
    "version in words": (attribute("/", "version", "one"), "version is one"),
    "no y": (put("y", None), "y is missing .found: coords, meta, noise, operator"),
    "y a group": (lambda f: (put("y", None)(f), f.create_group("y"))[0], "y is no array"),
    "y real": (put("y", np.ones(4)), "do not fit together: y is torch.float32"),
    "y of another length": (put("y", np.ones((3, 2)), "complex64"), r"do not fit together: y has shape \(3,\)"),
    "y NaN": (put("y", np.full((4, 2), np.nan), "complex64"), "y holds NaN"),
    "y without type": (lambda f: f["y"].attrs.__delitem__("dtype"), "y is float32 .* with attribute dtype None"),
    "y of unknown type": (put("y", np.ones((4, 2)), "complex7"), "dtype 'complex7'; expected one of"),
    "y of text": (put("y", np.full(4, b"x")), "y is .S1"),
    "y without parts": (put("y", np.ones(4), "complex64"), "complex arrays with a last axis"),
    "no operator": (put("operator", None), "operator is missing"),
    "operator without kind": (lambda f: f["operator"].attrs.__delitem__("kind"), "operator is of kind None"),
    "unknown operator": (attribute("operator", "kind", "marchenko"), "'marchenko', which is not installed.*matrix"),
    "code": (attribute("operator", "kind", "os:system"), "not installed"),
    "a class elsewhere": (attribute("operator", "kind", "invdiff.operators.matrix:Matrix"), "not installed"),
    "algebra of nothing": (attribute("operator", "kind", "Stack"), "operator Stack cannot be built from .'matrix'"),
    "no matrix": (put("operator/matrix", None), "operator matrix cannot be built from"),
    "matrix NaN": (put("operator/matrix", np.full((4, 3, 2), np.nan), "complex64"), "cannot be built.*NaN"),
    "more arguments": (put("operator/arguments", '{"shell": true}'), "cannot be built from .'matrix', 'shell'"),
    "arguments no JSON": (put("operator/arguments", "{"), "operator/arguments is not a JSON object"),
    "arguments a list": (put("operator/arguments", "[]"), "it is a list"),
    "no arguments": (put("operator/arguments", None), "operator/arguments is missing"),
    "no noise": (put("noise", None), "noise is missing"),
    "other noise": (attribute("noise", "kind", "poisson"), "noise is of kind 'poisson'"),
    "sigma negative": (put("noise/sigma", -1.0), "noise/sigma: .*above 0"),
    "no coords": (put("coords", None), "coords is missing"),
    "coordinate without dims": (lambda f: f["coords/x"].attrs.__delitem__("dims"), "coords/x is not a coordinate"),
    "coordinate of odd type": (attribute("coords/x", "dtype", "no type"), "coords/x is not a coordinate"),
    "no meta": (put("meta", None), "meta is missing"),
    "meta a number": (put("meta", 3), "meta is not a JSON object"),
    "bad complex": (put("meta", '{"a": {"__complex__": 1}}'), "meta is not a JSON object"),
}


@pytest.mark.parametrize(("change", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_wrong_field(tmp_path: Path, change: Callable[[h5py.File], None], said: str) -> None:
    path = measure(matrix(4, 3), coords={"x": ("x", np.arange(3.0))})[0].save(tmp_path / "m.h5")
    assert measurement_file.recognise(path)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(FormatError, match=said) as caught:
        measurement_file.read(path)
    assert str(path) in str(caught.value)


def test_coil_count(tmp_path: Path) -> None:
    path = measure(mri())[0].save(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        put("y", np.zeros((2, 6, 8, 2), np.float32), "complex64")(file)
    with pytest.raises(FormatError, match=r"y has shape \(2, 6, 8\); MRI.*\(3, 6, 8\)"):
        Measurement.load(path)


def test_wrong_file(tmp_path: Path) -> None:
    path = measure(matrix(4, 3))[0].save(tmp_path / "m.h5")
    whole = path.read_bytes()
    for part in (0.1, 0.5, 0.95):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(FormatError, match="cut short"):
            Measurement.load(path)
    path.write_text("y\n", encoding="utf-8")
    with pytest.raises(FormatError, match="not an HDF5 file"):
        Measurement.load(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="empty"):
        Measurement.load(path)
    with pytest.raises(FileError, match="does not exist"):
        Measurement.load(tmp_path / "none.h5")
    with h5py.File(path, "w") as file:
        file["kspace"] = np.ones(3)
    with pytest.raises(FormatError, match="invdiff_format is None"):
        Measurement.load(path)
    assert not measurement_file.recognise(path)


def test_a_group_within_itself(tmp_path: Path) -> None:
    path = measure(2.0 * matrix(4, 3))[0].save(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        del file["operator/op"]
        file["operator/op"] = file["operator"]
    with pytest.raises(FormatError):
        Measurement.load(path)


def test_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(**added: str) -> None:
        entries = EntryPoints([EntryPoint(name, value, "invdiff.operators") for name, value in added.items()])
        monkeypatch.setattr(storage, "entry_points", lambda group: entries)

    monkeypatch.setitem(sys.modules, "somebodys_package", sys.modules[__name__])
    installed(theirs="somebodys_package:Unregistered")
    m, x = measure(Unregistered((3,), "complex"))
    path = m.save(tmp_path / "m.h5")
    back = Measurement.load(path)
    assert type(back.operator) is Unregistered and torch.equal(back.residual(x), m.residual(x))
    installed(theirs="somebodys_package:rng")
    with pytest.raises(FormatError, match="registered as operator theirs, is not an Operator class"):
        Measurement.load(path)
    installed(theirs="no_such_package:Thing")
    with pytest.raises(FormatError, match="operator theirs .no_such_package:Thing. cannot be loaded"):
        Measurement.load(path)
    installed()
    with pytest.raises(FormatError, match="'theirs', which is not installed"):
        Measurement.load(path)


def test_a_heap_without_end_is_refused(tmp_path: Path) -> None:
    # The HDF5 library would follow an empty object of its heap of texts for ever.
    import h5py

    from invdiff.hdf5 import open_hdf5

    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["text"] = "some words"
    whole = path.read_bytes()
    at = whole.index(b"GCOL")
    with open_hdf5(path) as file:
        assert file["text"].asstr()[()] == "some words"
    for place, value in ((at + 16, bytes(16)), (at + 8, (1 << 40).to_bytes(8, "little"))):
        path.write_bytes(whole[:place] + value + whole[place + len(value) :])
        with pytest.raises(FormatError, match="damaged heap"), open_hdf5(path):
            pass
