"""From a coarse field and stations to an ensemble, by the command and by its parts."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from invdiff.cli import app
from invdiff.datasets.weather.errors import stated_errors
from invdiff.datasets.weather.measurements import station_measurement
from invdiff.datasets.weather.netcdf import read_fields
from invdiff.datasets.weather.stations import read_stations
from invdiff.errors import InputError
from invdiff.guidance.declared import Declared
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.fields.sphere import Coarsen, block_axis
from invdiff.priors.fields_guess import FieldsPrior
from invdiff.priors.loading import load_prior
from invdiff.reconstruction.weather import Weather, reconstruct_weather, state_of
from invdiff.reconstruction.windows import states_of, window_measurement
from invdiff.training.config import TrainConfig
from invdiff.training.run import train

LAT, LON = torch.arange(57.0, 49.0, -1.0, dtype=torch.float64), torch.arange(-8.0, 0.0, 1.0, dtype=torch.float64)
HOURS = 120


def settings(path: Path, until: str) -> TrainConfig:
    """One step that changes nothing: the prior is its Gaussian."""
    return TrainConfig.model_validate(
        {
            "name": "tiny", "domain": "real", "steps": 1, "batch": 2, "learning_rate": 1e-12, "mixed_precision": "no",
            "sigma_min": 0.01, "sigma_max": 2.0,
            "data": {"kind": "fields", "paths": [str(path)], "train_until": until, "rank": 30},
            "network": {"kind": "field_unet", "channels": [8], "blocks": 1, "embedding": 8},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fields, weights of an untrained network, coarse.nc and stations.csv of three hours."""
    folder = tmp_path_factory.mktemp("weather")
    rng = np.random.default_rng(1)
    time = np.datetime64("2019-03-01T00", "ns") + np.arange(HOURS) * np.timedelta64(1, "h")
    x, state = np.zeros((HOURS, 8, 8)), np.zeros((8, 8))
    for k in range(HOURS):
        state = 0.9 * state + rng.standard_normal() + 0.3 * rng.standard_normal((8, 8))
        x[k] = 280 + state
    coords = {
        "latitude": ("latitude", LAT, {"units": "degrees_north"}),
        "longitude": ("longitude", LON, {"units": "degrees_east"}),
    }
    dims = ("time", "latitude", "longitude")
    xr.Dataset({"t2m": (dims, x, {"units": "K"})}, {"time": time, **coords}).to_netcdf(folder / "truth.nc")
    config = settings(folder / "truth.nc", "2019-03-05")
    train(config, folder, report=lambda line: None, progress=False)
    part = torch.from_numpy(x[100:103, None]).float()
    cells = block_axis(LAT, 4), block_axis(LON, 4)
    y = Coarsen((1, 8, 8), LAT, LON, *cells).forward(part)[:, 0].numpy()
    coarse = {
        "t2m": (dims, y, {"units": "K", "standard_name": "air_temperature", "ancillary_variables": "t2m_error"}),
        "t2m_error": ((), 0.2, {"units": "K", "standard_name": "air_temperature standard_error"}),
    }
    at = {n: (n, v.numpy(), coords[n][2]) for n, v in zip(("latitude", "longitude"), cells, strict=True)}
    xr.Dataset(coarse, {"time": time[100:103], **at}).to_netcdf(folder / "coarse.nc")
    lines = ["time,lat,lon,level,variable,value,error,station"]
    for k in range(3):
        lines += [f"{str(time[100 + k])[:19]},{LAT[i]},{LON[i]},,t2m,{x[100 + k, i, i]:.3f},0.5,S{i}" for i in (1, 6)]
    (folder / "stations.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(folder: Path, *options: str, out: str = "ensemble.nc") -> tuple[int, str]:
    where = ["-o", str(folder / out), "--json", str(folder / "e.json")]
    weights = ["--prior", str(folder / "tiny.safetensors"), "--draws", "6", "--nfe", "4"]
    found = CliRunner().invoke(app, ["reconstruct", str(folder / "coarse.nc"), *weights, *where, *options])
    return found.exit_code, found.output


def test_the_command(case: Path) -> None:
    code, said = run(case, "--stations", str(case / "stations.csv"), "--png", str(case / "e.png"))
    assert code == 0, said
    assert "chi2 per datum" in said and "18 at 3 times" in said and "spread of t2m" in said
    figures = json.loads((case / "e.json").read_text())
    assert figures["times"] == 3 and figures["draws"] == 6 and figures["data"] == 3 * (4 + 2)
    assert len(figures["station_residuals"]) == 6 and 0 < figures["chi2_per_datum"] < 3
    with xr.open_dataset(case / "ensemble.nc") as found:
        assert found["t2m"].dims == ("time", "realization", "latitude", "longitude")
        assert found["t2m"].attrs["standard_name"] == "air_temperature" and found.sizes["realization"] == 6
        truth = read_fields(case / "truth.nc", select={"time": slice(100, 103)})["t2m"].values
        error = found["t2m"].values.mean(1) - truth
        assert float(np.sqrt((error**2).mean())) < 0.85  # of 2.4 K; the white fine part alone, seen by none, has 0.7
    assert (case / "e.png").stat().st_size > 10_000 and not (case / "ensemble.nc.ckpt").exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_makes_the_same_draws(case: Path, threads: int) -> None:
    pytest.importorskip("distributed")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)  # the last bits of products of matrices depend on it, and a worker starts with one
    try:
        assert run(case, out=f"here_{threads}.nc")[0] == 0
        code, said = run(case, "--workers", "1", out=f"there_{threads}.zarr")
    finally:
        torch.set_num_threads(before)
    assert code == 0, said
    with xr.open_dataset(case / f"here_{threads}.nc") as here:
        with xr.open_zarr(case / f"there_{threads}.zarr", consolidated=False) as there:
            assert np.array_equal(there["t2m"].values, here["t2m"].values)  # in whatever file


def test_an_interrupted_run_goes_on(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import invdiff.reconstruction.weather as weather

    made: list[Any] = []
    whole = weather._draws

    def stopped(*args: object) -> object:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return whole(*args)  # type: ignore[arg-type]

    assert run(case, out="whole.nc")[0] == 0
    monkeypatch.setattr(weather, "_draws", stopped)
    assert run(case, out="late.nc")[0] != 0
    assert len(list((case / "late.nc.ckpt").glob("time-*.npy"))) == 2 and not (case / "late.nc").exists()
    monkeypatch.setattr(weather, "_draws", whole)
    code, said = run(case, out="late.nc")
    assert code == 2 and "--resume" in said
    code, said = run(case, "--resume", "--seed", "3", out="late.nc")
    assert code == 2 and "another run" in said
    assert run(case, "--resume", out="late.nc")[0] == 0
    with xr.open_dataset(case / "late.nc") as a, xr.open_dataset(case / "whole.nc") as b:
        assert np.array_equal(a["t2m"].values, b["t2m"].values)


def test_what_is_missing_is_named(case: Path) -> None:
    with xr.open_dataset(case / "coarse.nc") as data:
        data.load().drop_vars("t2m_error").to_netcdf(case / "bare.nc")
    assert stated_errors(case / "coarse.nc") == {"air_temperature": 0.2} and stated_errors(case / "bare.nc") == {}
    weights = ["--prior", str(case / "tiny.safetensors"), "-o", str(case / "x.nc")]
    found = CliRunner().invoke(app, ["reconstruct", str(case / "bare.nc"), *weights])
    assert found.exit_code == 2 and "--sigma" in found.output
    assert not (case / "x.nc.ckpt").exists()
    found = CliRunner().invoke(
        app, ["reconstruct", str(case / "coarse.nc"), *weights, "--stations", "none.csv", "--error", "heat=1"]
    )
    assert found.exit_code == 2 and "QUANTITY=NUMBER" in found.output


def changed(case: Path, name: str, change: Callable[[xr.Dataset], xr.Dataset]) -> Path:
    """The coarse field with something changed."""
    with xr.open_dataset(case / "coarse.nc") as data:
        change(data.load()).to_netcdf(case / name)
    return case / name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.assign(t2m=d.t2m * np.nan), "no value"),
        (lambda d: d.assign(t2m=d.t2m.assign_attrs(units="degC")), "unit"),
        (lambda d: d.isel(time=0, drop=True), "one field at each time"),
        (lambda d: d.assign_coords(latitude=("latitude", d.latitude.values - 40, d.latitude.attrs)), "inside"),
    ],
    ids=["all missing", "Celsius said, Kelvin meant", "no time", "elsewhere"],
)  # fmt: skip
def test_fields_that_cannot_be_used(case: Path, change: Callable[[xr.Dataset], xr.Dataset], said: str) -> None:
    weights = ["--prior", str(case / "tiny.safetensors"), "-o", str(case / "y.nc"), "--draws", "2", "--nfe", "2"]
    found = CliRunner().invoke(app, ["reconstruct", str(changed(case, "changed.nc", change)), *weights])
    assert found.exit_code == 2 and said in found.output and not list(case.glob("y.nc*"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2019", "1999", "1999-03-05T04:00:00"),
        (",,t2m", ",,u10", "not a quantity of the state"),
        (",5", ",-5", "off the grid"),
    ],
    ids=["another time", "another quantity", "off the grid"],
)
def test_a_table_of_which_nothing_is_used_is_refused(case: Path, old: str, new: str, said: str) -> None:
    (case / "other.csv").write_text((case / "stations.csv").read_text().replace(old, new))
    code, output = run(case, "--stations", str(case / "other.csv"), out="z.nc")
    assert code == 2 and "none of the 6 reports" in output and said in output and not list(case.glob("z.nc*"))


def test_a_broken_instrument_is_left_out(case: Path) -> None:
    lines = (case / "stations.csv").read_text().splitlines()
    broken = [*lines[1].split(",")[:5], "999.9", *lines[1].split(",")[6:]]
    (case / "broken.csv").write_text("\n".join([lines[0], ",".join(broken), *lines[2:]]) + "\n")
    assert run(case, "--stations", str(case / "broken.csv"), out="broken.nc")[0] == 0
    figures = json.loads((case / "e.json").read_text())
    assert figures["data"] == 3 * (4 + 2) - 1 and list(figures["left_out"].values()) == [1]


def test_airport_reports(case: Path) -> None:
    lines = ["station,valid,lat,lon,tmpf"]
    lines += [f"EG{i},2019-03-05 0{4 + k}:00,{LAT[i]},{LON[i]},44.6" for i in (1, 6) for k in range(3)]
    (case / "metar.csv").write_text("\n".join(lines) + "\n")
    code, output = run(case, "--stations", str(case / "metar.csv"), out="m.nc")
    assert code == 2 and "--error" in output  # METAR states none
    options = ["--error", "air_temperature=0.5", "--representativeness", "air_temperature=0.5"]
    assert run(case, "--stations", str(case / "metar.csv"), *options, out="m.nc")[0] == 0
    residuals = json.loads((case / "e.json").read_text())["station_residuals"]
    assert len(residuals) == 6 and {r["station"] for r in residuals} == {"EG1", "EG6"}


def test_what_is_for_images_is_refused(case: Path) -> None:
    for options in (["--method", "tv"], ["--simulate", "mri"], ["--holdout", "0.1"]):
        code, output = run(case, *options, out="w.nc")
        assert code == 2 and options[0] in output
    code, output = run(case, out="coarse.nc")
    assert code == 2 and "name of its own" in output and stated_errors(case / "coarse.nc")
    for options in (["--sigma", "0"], ["--error", "air_temperature=-1"]):
        assert run(case, *options, out="w.nc")[0] == 2


def test_a_calendar_of_360_days(case: Path, tmp_path: Path) -> None:
    """From training to the ensemble, with times that datetime64 does not know."""
    import cftime

    steps = [cftime.Datetime360Day(2001, 2, 26) + timedelta(hours=h) for h in range(HOURS)]
    for name in ("truth.nc", "coarse.nc"):
        with xr.open_dataset(case / name) as data:
            times = steps if name == "truth.nc" else steps[100:103]
            data.load().assign_coords(time=times).to_netcdf(tmp_path / name)
    train(settings(tmp_path / "truth.nc", "2001-02-30"), tmp_path, report=lambda line: None, progress=False)
    found = CliRunner().invoke(
        app,
        ["reconstruct", str(tmp_path / "coarse.nc"), "--prior", str(tmp_path / "tiny.safetensors"), "--draws", "3",
         "--nfe", "2", "-o", str(tmp_path / "e.nc")],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    with xr.open_dataset(tmp_path / "e.nc") as data:
        assert data["time"].values.tolist() == steps[100:103]


def test_a_window_of_measurements_is_affine_in_the_anomalies(case: Path) -> None:
    prior = load_prior(case / "tiny.safetensors")
    assert isinstance(prior, FieldsPrior)
    state, calendar, time = state_of(prior), prior.calendar, np.datetime64("2019-03-05T05:00", "ns")
    z = prior.gaussian.sample(4, torch.Generator().manual_seed(0))
    table = read_stations(case / "stations.csv")
    stations = station_measurement(table, state, time)
    op = Coarsen(state.shape, LAT, LON, block_axis(LAT, 2), block_axis(LON, 2))
    before = states_of(z, calendar, time, -1.0)
    coarse = Measurement(op.forward(before[:1])[0], op, Gaussian(0.1))
    window = window_measurement({1: [stations], 0: [coarse]}, calendar, time)
    residual = window.residual(z)  # of the standardised, less what is normal: that of the fields themselves
    expected = torch.cat([coarse.residual(before).flatten(1), stations.residual(states_of(z, calendar, time))], 1)
    assert torch.allclose(residual, expected, atol=2e-4)
    assert float(residual[0, :16].abs().max()) < 2e-4
    assert Declared(prior, window).gram.shape == (18, 18)
    with pytest.raises(InputError, match="no observations"):
        window_measurement({}, calendar, time)
    with pytest.raises(InputError, match="offset"):
        states_of(z, calendar, time, 2.0)


def test_a_period_made_piece_by_piece(case: Path) -> None:
    """Zarr grows, its draws are those of the whole period, and what is there already is not made again."""
    assert run(case, out="all.nc")[0] == 0
    weights = ["--prior", str(case / "tiny.safetensors"), "--draws", "6", "--nfe", "4", "-o", str(case / "grown.zarr")]
    for part in (slice(0, 2), slice(2, 3)):
        with xr.open_dataset(case / "coarse.nc") as data:
            data.load().isel(time=part).to_netcdf(case / "part.nc")
        assert CliRunner().invoke(app, ["reconstruct", str(case / "part.nc"), *weights]).exit_code == 0
    with xr.open_dataset(case / "all.nc") as whole, xr.open_zarr(case / "grown.zarr", consolidated=False) as grown:
        assert np.array_equal(grown["time"].values, whole["time"].values)
        # alone, a time has no neighbours in its window: only the first has the same data in both
        assert np.array_equal(grown["t2m"].values[0], whole["t2m"].values[0])
        assert not np.array_equal(grown["t2m"].values[2], whole["t2m"].values[2])
    found = CliRunner().invoke(app, ["reconstruct", str(case / "part.nc"), *weights])
    assert found.exit_code == 2 and "ends at 2019-03-05T06" in found.output
    assert not (case / "grown.zarr.ckpt").exists()


def test_little_memory_means_tiles(case: Path) -> None:
    found = {
        name: reconstruct_weather(
            case / "coarse.nc", [], case / "tiny.safetensors", case / f"{name}.nc", Weather(6, 4, memory=memory)
        )
        for name, memory in (("whole", 1 << 20), ("tiles", 1 << 16))
    }
    assert found["whole"]["tile"] is None and found["tiles"]["tile"] < 8
    with xr.open_dataset(case / "whole.nc") as a, xr.open_dataset(case / "tiles.nc") as b:
        assert np.allclose(a["t2m"].values, b["t2m"].values, atol=0.05)
