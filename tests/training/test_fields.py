"""Training windows of fields from NetCDF: the split in time, anomalies, cross-fitting, and weights read back."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from invdiff.errors import InputError
from invdiff.priors.fields_guess import FieldsPrior
from invdiff.priors.loading import load_prior
from invdiff.training.config import TrainConfig
from invdiff.training.fields import FieldsSource
from invdiff.training.run import train

LAT, LON = np.arange(56.0, 50.0, -1.0), np.arange(-8.0, 0.0, 1.0)


def hourly(path: Path, hours: int = 120) -> np.ndarray:
    """Hours of a field with a daily cycle and smooth random weather; returned in K."""
    rng = np.random.default_rng(0)
    time = np.datetime64("2019-03-01T00", "ns") + np.arange(hours) * np.timedelta64(1, "h")
    weather = np.zeros((hours, 6, 8))
    for k in range(1, hours):
        fresh = rng.standard_normal() + 0.3 * rng.standard_normal((6, 8))
        weather[k] = 0.9 * weather[k - 1] + 0.4 * fresh
    daily = 3 * np.sin(2 * np.pi * (np.arange(hours) % 24) / 24)[:, None, None] * np.linspace(0, 1, 8)
    x = 280 + weather + daily
    dims = ("time", "latitude", "longitude")
    coords = {
        "time": time,
        "latitude": ("latitude", LAT, {"units": "degrees_north"}),
        "longitude": ("longitude", LON, {"units": "degrees_east"}),
    }
    xr.Dataset({"t2m": (dims, x, {"units": "K"})}, coords).to_netcdf(path)
    return x


def config(path: Path, **data: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "name": "tiny-weather",
            "domain": "real",
            "data": {"kind": "fields", "paths": [str(path)], "train_until": "2019-03-04T12:00", "rank": 20, **data},
            "network": {"kind": "field_unet", "channels": [8, 8], "blocks": 1, "embedding": 8, "dropout": 0.0},
            "steps": 2, "batch": 4, "warmup": 0, "sigma_min": 0.01, "sigma_max": 2.0, "mixed_precision": "no",
        }
    )  # fmt: skip


def test_windows_are_anomalies_of_their_times(tmp_path: Path) -> None:
    x = hourly(tmp_path / "a.nc")
    told = config(tmp_path / "a.nc")
    source = FieldsSource(told.data, 0, 2.0)  # type: ignore[arg-type]
    assert source.channels == 3 and source.domain == "real"
    assert source.at[0] == np.datetime64("2019-03-01T01") and source.at[-1] == np.datetime64("2019-03-04T10")
    assert source.rest_at[0] == np.datetime64("2019-03-04T13")  # a window never reaches over the split
    batch = source.batch(3, 5)
    again = source.batch(3, 5)
    assert torch.equal(batch.x, again.x) and batch.condition is not None
    assert batch.condition.shape == (5, source.conditions, 6, 8)
    assert set(batch.condition[:, 0].unique().tolist()) <= {1.0, 2.0, 3.0}
    held = source.held_out(0, 4)
    assert held.condition is not None and not bool(held.condition[:, 0].any())
    # what is normal and the anomaly make the field again
    calendar, hour = source.calendar, 90
    row = int(np.flatnonzero(source.rest_at == np.datetime64("2019-03-01") + np.timedelta64(hour, "h"))[0])
    field = calendar.normal(source.rest_at[[row]])[0] + calendar.deviations() * source.rest[row]
    assert np.allclose(field.numpy(), x[hour - 1 : hour + 2], atol=2e-3)
    # a block's own climatology is not the others': anomalies of a block are from what has not seen it
    assert source.gaussians[0].tail != source.gaussians[1].tail and len(source.gaussians) == 4


def test_a_year_of_360_days(tmp_path: Path) -> None:
    """The cycle of the year is found beside that of the day, kept in the weights, and no part of the anomalies."""
    import cftime

    count, rng = 2 * 420, np.random.default_rng(1)
    days = np.arange(count) / 2
    day = cftime.Datetime360Day(2001, 1, 1)
    time = np.array([day + timedelta(days=float(d)) for d in days])
    cycle = 8 * np.cos(2 * np.pi * (days - 30) / 360)[:, None, None] * np.linspace(0.5, 1, 8)
    x = 280 + cycle + 3 * (np.arange(count) % 2)[:, None, None] + rng.standard_normal((count, 6, 8))
    coords = {
        "time": time,
        "latitude": ("latitude", LAT, {"units": "degrees_north"}),
        "longitude": ("longitude", LON, {"units": "degrees_east"}),
    }
    xr.Dataset({"t2m": (("time", "latitude", "longitude"), x, {"units": "K"})}, coords).to_netcdf(tmp_path / "a.nc")
    told = config(tmp_path / "a.nc", train_until="2002-01-30", offsets=[-12.0, 0.0])
    source = FieldsSource(told.data, 0, 2.0)  # type: ignore[arg-type]
    assert source.at[-1] < cftime.Datetime360Day(2002, 1, 30) <= source.rest_at[0]
    assert float(source.calendar.std[0]) == pytest.approx(1.0, abs=0.05) and float(source.x.var()) < 1.1
    assert float(source.rest.var()) < 1.2  # two months of the next year, which were not seen
    normal = source.calendar.normal(np.array([cftime.Datetime360Day(2003, 7, 30)]))[0, 1]
    east = torch.linspace(0.5, 1, 8)
    assert torch.allclose(normal, (280 - 8 * east).expand(6, 8), atol=0.5)
    prior = load_prior(train(told, tmp_path / "run", report=lambda line: None, progress=False))
    assert isinstance(prior, FieldsPrior)
    again = prior.calendar.normal(np.array([cftime.Datetime360Day(2003, 7, 30)]))[0, 1]
    assert torch.allclose(again, normal, atol=0.02)


def test_weights_are_read_back(tmp_path: Path) -> None:
    hourly(tmp_path / "a.nc")
    told = config(tmp_path / "a.nc")
    path = train(told, tmp_path / "run", report=lambda line: None, progress=False)
    prior = load_prior(path)
    assert isinstance(prior, FieldsPrior) and prior.sample_shape == (3, 6, 8)
    source = FieldsSource(told.data, 0, 2.0)  # type: ignore[arg-type]
    time = np.array(["2019-03-05T06:00"], "datetime64[ns]")
    # half precision of a standardised climatology: 280 K are not at stake, 5e-4 of a deviation are
    assert torch.allclose(prior.calendar.normal(time), source.calendar.normal(time), atol=5e-3)
    x, sigma = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    exact = source.gaussians[0].denoise(x, sigma)
    assert torch.allclose(prior.gaussian.denoise(x, sigma), exact, atol=5e-3)
    assert torch.allclose(
        prior.at(time).denoise(x, torch.tensor([2.5])), prior.gaussian.denoise(x, torch.tensor([2.5]))
    )
    assert prior.describe()["prior"] == "tiny-weather" and prior.card["fields"]["hours"] == list(range(24))


def test_refusals(tmp_path: Path) -> None:
    hourly(tmp_path / "a.nc")
    for data, said in (
        ({"train_until": "2019-03-01T05:00"}, "windows of"),
        ({"train_until": "2020-01-01"}, "and 0 after"),
        ({"offsets": [-0.5, 0.0]}, "no multiples"),
    ):
        with pytest.raises(InputError, match=said):
            FieldsSource(config(tmp_path / "a.nc", **data).data, 0, 2.0)  # type: ignore[arg-type]
