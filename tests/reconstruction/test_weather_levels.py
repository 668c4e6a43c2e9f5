"""Temperature at two pressures, and the real sounding of Barrow, through training and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from invdiff.cli import app
from invdiff.datasets.weather.igra import read_igra
from invdiff.operators.fields.sphere import Coarsen, block_axis
from invdiff.training.config import TrainConfig
from invdiff.training.run import train

LAT, LON = np.arange(75.0, 67.0, -1.0), np.arange(-161.0, -153.0, 1.0)
LEVELS, NORMAL = [850.0, 500.0], np.array([258.0, 243.0])[:, None, None]  # hPa, K


def dataset(x: np.ndarray, time: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> xr.Dataset:
    coords = {
        "time": time,
        "plev": ("plev", LEVELS, {"units": "hPa"}),
        "latitude": ("latitude", lat, {"units": "degrees_north"}),
        "longitude": ("longitude", lon, {"units": "degrees_east"}),
    }
    dims = ("time", "plev", "latitude", "longitude")
    return xr.Dataset({"t": (dims, x, {"units": "K", "standard_name": "air_temperature"})}, coords)


def test_a_sounding_through_the_command(tmp_path: Path, data_dir: Path) -> None:
    sounding = data_dir / "atmosphere" / "igra2_USM00070026.txt"
    at = np.unique(read_igra(sounding, incomplete="drop")["time"].values)[0]
    rng = np.random.default_rng(0)
    time = at + (np.arange(160) - 120) * np.timedelta64(1, "h")
    weather = np.zeros((160, 2, 1, 1))
    for k in range(1, 160):
        weather[k] = 0.95 * weather[k - 1] + rng.standard_normal((2, 1, 1))
    x = NORMAL + weather + 0.5 * rng.standard_normal((160, 2, 8, 8))
    dataset(x, time, LAT, LON).to_netcdf(tmp_path / "truth.nc")
    cells = block_axis(torch.from_numpy(LAT), 4), block_axis(torch.from_numpy(LON), 4)
    op = Coarsen((2, 8, 8), torch.from_numpy(LAT), torch.from_numpy(LON), *cells)
    coarse = op.forward(torch.from_numpy(x[[120]]).float()).numpy()
    dataset(coarse, time[[120]], cells[0].numpy(), cells[1].numpy()).to_netcdf(tmp_path / "coarse.nc")
    config = TrainConfig.model_validate(
        {
            "name": "levels", "domain": "real", "steps": 1, "batch": 2, "learning_rate": 1e-12,
            "mixed_precision": "no", "sigma_min": 0.01, "sigma_max": 2.0,
            "data": {"kind": "fields", "paths": [str(tmp_path / "truth.nc")], "rank": 30, "offsets": [0.0],
                     "train_until": str(time[110])[:16]},
            "network": {"kind": "field_unet", "channels": [8], "blocks": 1, "embedding": 8},
        }
    )  # fmt: skip
    train(config, tmp_path, report=lambda line: None, progress=False)
    figures = {}
    for name, more in (("alone", []), ("both", ["--stations", str(sounding), "--error", "air_temperature=0.7"])):
        weights, where = str(tmp_path / "levels.safetensors"), str(tmp_path / f"{name}.nc")
        options = ["--sigma", "2", "--prior", weights, "--draws", "8", "--nfe", "2", "--json", str(tmp_path / "e.json")]
        found = CliRunner().invoke(app, ["reconstruct", str(tmp_path / "coarse.nc"), *options, "-o", where, *more])
        assert found.exit_code == 0, found.output
        figures[name] = json.loads((tmp_path / "e.json").read_text())
    seen = figures["both"]["station_residuals"]
    assert len(seen) > 2 and {r["variable"] for r in seen} == {"air_temperature"}
    assert "no level about it" in figures["both"]["left_out"]  # above 500 and below 850 hPa nothing is made up
    spread = {k: v["spread"] for k, v in figures.items()}
    assert all(spread["both"][k] < 0.8 * spread["alone"][k] for k in ("t_850hPa", "t_500hPa"))
    with xr.open_dataset(tmp_path / "both.nc") as data:
        assert data["t"].dims == ("time", "realization", "level", "latitude", "longitude")
        assert data["level"].values.tolist() == [85000.0, 50000.0] and data["level"].attrs["units"] == "Pa"


def test_a_coarse_field_in_grib(tmp_path: Path) -> None:
    """Two-metre temperature in GRIB, whose axes and names are those of its tables."""
    eccodes = pytest.importorskip("eccodes", reason="cfgrib (extra weather) is not installed")
    pytest.importorskip("cfgrib", reason="cfgrib (extra weather) is not installed")
    rng = np.random.default_rng(0)
    time = np.datetime64("2019-03-01T00", "ns") + np.arange(72) * np.timedelta64(1, "h")
    x = 280 + rng.standard_normal((72, 1, 1)) + 0.3 * rng.standard_normal((72, 8, 8))
    coords = {
        "time": time,
        "latitude": ("latitude", LAT, {"units": "degrees_north"}),
        "longitude": ("longitude", LON + 360, {"units": "degrees_east"}),
    }
    xr.Dataset({"t2m": (("time", "latitude", "longitude"), x, {"units": "K"})}, coords).to_netcdf(tmp_path / "a.nc")
    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    keys = {
        "discipline": 0, "parameterCategory": 0, "parameterNumber": 0, "typeOfFirstFixedSurface": 103,
        "scaleFactorOfFirstFixedSurface": 0, "scaledValueOfFirstFixedSurface": 2, "Ni": 2, "Nj": 2,
        "latitudeOfFirstGridPointInDegrees": 73.5, "latitudeOfLastGridPointInDegrees": 69.5,
        "longitudeOfFirstGridPointInDegrees": 200.5, "longitudeOfLastGridPointInDegrees": 204.5,
        "iDirectionIncrementInDegrees": 4, "jDirectionIncrementInDegrees": 4, "dataDate": 20190303,
    }  # fmt: skip
    for key, value in keys.items():
        eccodes.codes_set(message, key, value)
    with (tmp_path / "coarse.grib").open("wb") as file:
        for hour in (12, 13):
            eccodes.codes_set(message, "dataTime", 100 * hour)
            eccodes.codes_set_values(message, np.full(4, 281.0))
            eccodes.codes_write(message, file)
    eccodes.codes_release(message)
    config = TrainConfig.model_validate(
        {
            "name": "surface", "domain": "real", "steps": 1, "batch": 2, "mixed_precision": "no",
            "sigma_min": 0.01, "sigma_max": 2.0,
            "data": {"kind": "fields", "paths": [str(tmp_path / "a.nc")], "rank": 20, "train_until": "2019-03-03"},
            "network": {"kind": "field_unet", "channels": [8], "blocks": 1, "embedding": 8},
        }
    )  # fmt: skip
    train(config, tmp_path, report=lambda line: None, progress=False)
    found = CliRunner().invoke(
        app,
        ["reconstruct", str(tmp_path / "coarse.grib"), "--sigma", "0.1", "--draws", "4", "--nfe", "2",
         "--prior", str(tmp_path / "surface.safetensors"), "-o", str(tmp_path / "e.nc")],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    with xr.open_dataset(tmp_path / "e.nc") as data:
        assert str(data["time"].values[1])[:13] == "2019-03-03T13"
        assert float(data["t2m"].mean()) == pytest.approx(281.0, abs=0.1)
