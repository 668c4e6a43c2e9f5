"""Draws as an ensemble data set."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from invdiff.datasets.weather import Channel, State
from invdiff.datasets.weather.ensemble import ensemble, write_ensemble
from invdiff.datasets.weather.netcdf import read_fields
from invdiff.errors import FileError, FormatError, InputError, MissingExtraError, ShapeError

STATE = State(
    (
        Channel("air_temperature", 85000.0, "t", "K"),
        Channel("air_temperature", 50000.0, "t", "K"),
        Channel("geopotential", 50000.0, "z", "m2 s-2"),
        Channel("air_temperature", None, "t2m", "K"),
    ),
    (2.0, 1.0, 0.0),
    (0.0, 1.0),
)


def draws(times: int = 2, members: int = 3) -> torch.Tensor:
    return torch.arange(times * members * 24, dtype=torch.float32).reshape(times, members, 4, 3, 2)


def hours(*values: int) -> np.ndarray:
    return np.datetime64("2020-01-01T00", "ns") + np.array(values).astype("timedelta64[h]")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = ensemble(draws(), STATE, hours(0, 6), {"prior": "none"})
    assert data["t"].dims == ("time", "realization", "level_t", "latitude", "longitude")  # z has other levels
    assert data["t2m"].dims == ("time", "realization", "latitude", "longitude")
    path = write_ensemble(data, tmp_path / "e.nc")
    raw = xr.open_dataset(path)
    assert raw.attrs["Conventions"] == "CF-1.8" and raw.attrs["prior"] == "none"
    assert raw["realization"].attrs["standard_name"] == "realization"
    assert raw["t"].attrs == {"units": "K", "standard_name": "air_temperature"}
    assert raw["level_z"].attrs["units"] == "Pa" and raw.encoding["unlimited_dims"] == {"time"}
    raw.close()
    with pytest.raises(FormatError, match="2 coordinates for level: level_t, level_z; read variables that share"):
        read_fields(path)
    assert read_fields(path, ["z"])["level"].values.tolist() == [50000.0]
    back = read_fields(path, ["t2m"])
    assert np.array_equal(back["t2m"].transpose("time", ...).values, draws()[:, :, 3].numpy())
    assert back["time"].values.tolist() == hours(0, 6).tolist()


def test_one_set_of_levels_has_one_coordinate(tmp_path: Path) -> None:
    state = State(STATE.channels[:2], STATE.latitude, STATE.longitude)
    data = ensemble(draws(1)[0, :, :2], state)
    assert data["t"].dims == ("realization", "level", "latitude", "longitude") and "time" not in data.dims
    back = read_fields(write_ensemble(data, tmp_path / "e.nc"))
    assert State.of(back) == state
    assert torch.equal(state.tensor(back), draws(1)[0, :, :2])


def test_wrong_shapes() -> None:
    with pytest.raises(ShapeError, match="expected real"):
        ensemble(draws()[:, :, :3], STATE, hours(0, 6))
    with pytest.raises(ShapeError, match="2 times came with 1 times"):
        ensemble(draws(), STATE, hours(0))
    with pytest.raises(ShapeError, match="2 times came with 0 times"):
        ensemble(draws(), STATE)


def test_zarr_grows(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="zarr (extra weather) is not installed")
    path = tmp_path / "e.zarr"
    whole = ensemble(draws(4), STATE, hours(0, 6, 12, 18))
    write_ensemble(whole.isel(time=slice(0, 1)), path)
    write_ensemble(whole.isel(time=slice(1, 4)), path)
    with xr.open_zarr(path, chunks=None, consolidated=False) as found:
        assert found.drop_attrs().equals(whole.drop_attrs())
    assert read_fields(path, ["t2m"])["t2m"].shape == (3, 4, 3, 2)
    for bad, said in (
        (whole.isel(time=slice(3, 4)), "must come after it"),
        (whole.isel(time=slice(1, 2), realization=[0]), "appended must be the same"),
        (ensemble(draws(1), STATE, hours(24)).drop_vars("z"), "appended must be the same"),
    ):
        with pytest.raises(InputError, match=said):
            write_ensemble(bad, path)
    assert [p.name for p in tmp_path.iterdir()] == ["e.zarr"]


def test_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ensemble(draws(), STATE, hours(0, 6))
    with pytest.raises(FileError, match="folder does not exist"):
        write_ensemble(data, tmp_path / "none" / "e.nc")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"zarr.*invdiff\[weather\]"):
        write_ensemble(data, tmp_path / "e.zarr")
    assert list(tmp_path.iterdir()) == []
