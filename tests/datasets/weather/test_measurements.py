"""Coarse fields and scattered observations as measurements of one state."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from invdiff.datasets.weather import Channel, State, coarse_measurement, station_measurement
from invdiff.datasets.weather.igra import read_igra
from invdiff.datasets.weather.netcdf import read_fields
from invdiff.datasets.weather.stations import observations
from invdiff.errors import InputError, ShapeError
from invdiff.instruments import join
from invdiff.measurement import Measurement
from invdiff.operators.fields.sphere import block_axis, cell_areas

LAT = np.arange(60.0, 49.0, -1.0)  # descending, twelve rows with the next
LAT = np.append(LAT, 49.0)
LON = np.arange(-8.0, 4.0)
LEVELS = [85000.0, 50000.0, 20000.0]
NOON = np.datetime64("2020-01-01T12:00", "ns")
T, U = "air_temperature", "eastward_wind"


def gridded(lat: Any = LAT, lon: Any = LON, **variables: Any) -> xr.Dataset:
    """A data set as `read_fields` gives it; of the variables' arrays three have levels, two none."""
    names = {"t": T, "t2m": T, "u": U}
    data = {
        k: (
            (["level"] if v.ndim == 3 else ["time", "level"] if v.ndim == 4 else []) + ["latitude", "longitude"],
            v.astype(np.float32),
            {"standard_name": names.get(k, ""), "units": "K"},
        )
        for k, v in variables.items()
    }
    coords: dict[str, Any] = {"latitude": lat, "longitude": lon}
    if any(v.ndim > 2 for v in variables.values()):
        coords["level"] = LEVELS
    return xr.Dataset(data, coords)


def smooth() -> np.ndarray:
    """A field that is linear in latitude, longitude and ln p: interpolation must reproduce it."""
    p, lat, lon = np.meshgrid(LEVELS, LAT, LON, indexing="ij")
    return 3 * np.log(p) + 0.5 * lat - 0.25 * lon


def obs(**columns: Any) -> xr.Dataset:
    count = len(columns["value"])
    base: dict[str, Any] = {
        "time": np.full(count, NOON),
        "latitude": np.full(count, 55.0),
        "longitude": np.full(count, 0.0),
        "level": np.full(count, np.nan),
        "variable": np.full(count, T, object),
        "error": np.full(count, 0.5),
        "station": np.array([f"S{i}" for i in range(count)]),
    }
    return observations("table.csv", {**base, **{k: np.asarray(v) for k, v in columns.items()}})


def test_state_of_fields() -> None:
    state = State.of(gridded(t=smooth(), t2m=smooth()[0]))
    assert state.channels == tuple(Channel(T, p) for p in [*LEVELS, None]) and state.shape == (4, 12, 12)
    assert state.coords()["channel"][1].tolist() == ["t_850hPa", "t_500hPa", "t_200hPa", "t2m"]
    x = state.tensor(gridded(t=smooth(), t2m=smooth()[0]))
    assert torch.equal(x[0, 1], torch.from_numpy(smooth()[1].astype(np.float32))) and x.shape == (1, 4, 12, 12)
    with pytest.raises(InputError, match="expected the same"):
        state.tensor(gridded(t=smooth()))
    with pytest.raises(InputError, match="air_temperature at the surface twice"):
        State((Channel(T), Channel(T)), (0.0, 1.0), (0.0, 1.0))


def test_times_lead_and_static_fields_repeat() -> None:
    data = gridded(t=np.stack([smooth(), smooth() + 1]), orog=smooth()[0])
    x = State.of(data).tensor(data)
    assert x.shape == (2, 4, 12, 12) and torch.allclose(x[1, :3] - x[0, :3], torch.ones(3, 12, 12), atol=1e-4)
    assert torch.equal(x[0, 3], x[1, 3])


def test_observations_between_nodes_and_levels() -> None:
    state, field = State.of(gridded(t=smooth())), gridded(t=smooth())
    lat, lon = np.array([49.3, 59.99, 55.0, 52.5]), np.array([-7.7, 2.9, 353.5, 0.1])  # 353.5 is -6.5
    p = np.array([85000.0, 60000.0, 50000.0, 20001.0])
    truth = 3 * np.log(p) + 0.5 * lat - 0.25 * (np.remainder(lon + 180, 360) - 180)
    m = station_measurement(obs(latitude=lat, longitude=lon, level=p, value=truth), state)
    assert float(m.residual(state.tensor(field)).abs().max()) < 2e-5
    assert m.meta["left_out"] == {} and m.meta["station"] == ["S0", "S1", "S2", "S3"]


def test_surface_and_level_are_different_things() -> None:
    state = State.of(gridded(t=smooth(), t2m=smooth()[0] * 0 + 7))
    x = state.tensor(gridded(t=smooth(), t2m=smooth()[0] * 0 + 7))
    m = station_measurement(obs(value=[0.0, 0.0], level=[np.nan, 85000.0]), state)
    assert m.operator.forward(x)[0].tolist() == pytest.approx([7.0, 3 * np.log(85000) + 27.5], rel=1e-6)
    only_levels = State.of(gridded(t=smooth()))
    with pytest.raises(InputError, match="no observation of 1 is left.*no level about it"):
        station_measurement(obs(value=[0.0]), only_levels)


def test_what_cannot_be_used_is_counted() -> None:
    table = obs(
        value=np.zeros(6),
        variable=np.array([T, U, T, T, T, T], object),
        level=[85000.0, 85000.0, 100000.0, 85000.0, 85000.0, 85000.0],
        latitude=[55.0, 55.0, 55.0, 75.0, 55.0, 55.0],
        time=NOON + np.array([0, 0, 0, 0, 11, 9]).astype("timedelta64[m]"),
    )
    m = station_measurement(table, State.of(gridded(t=smooth())), NOON)
    assert m.meta["left_out"] == {
        "another time": 1,
        "not a quantity of the state": 1,
        "off the grid": 1,
        "no level about it": 1,
    }
    assert m.meta["station"] == ["S0", "S5"]
    later = station_measurement(table, State.of(gridded(t=smooth())), NOON, np.timedelta64(1, "h"))
    assert later.meta["station"] == ["S0", "S4", "S5"]
    with pytest.raises(InputError, match="of 3 times.*choose one"):
        station_measurement(table, State.of(gridded(t=smooth())))


def test_of_repeated_reports_the_nearest_in_time_counts() -> None:
    minutes = np.array([-8, 3, 5, 0]).astype("timedelta64[m]")
    table = obs(value=[1.0, 2.0, 3.0, 4.0], time=NOON + minutes, station=np.array(["A", "A", "A", "B"]))
    m = station_measurement(table, State.of(gridded(t2m=smooth()[0])), NOON)
    assert m.y.tolist() == [2.0, 4.0] and m.meta["left_out"] == {"repeated": 2}


def test_variances_add() -> None:
    state = State.of(gridded(t2m=smooth()[0]))
    table = obs(value=[1.0, 2.0], error=[0.3, np.nan])
    m = station_measurement(table, state, error={T: 1.2}, representativeness={T: 0.4})
    assert torch.allclose(torch.as_tensor(m.noise.sigma), torch.tensor([0.5, 1.6**0.5]))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="error of air_temperature is neither in the table nor given"):
        station_measurement(table, state)
    with pytest.raises(InputError, match="representativeness below 0"):
        station_measurement(table, state, error={T: 1.0}, representativeness={T: -0.4})


def test_globe_has_a_neighbour_at_the_seam_and_its_true_rows() -> None:
    lat, lon = np.arange(-82.5, 90, 15.0), np.arange(0.0, 360.0, 30.0)  # cell centres: no row at a pole, none at 360
    values = np.broadcast_to(np.cos(np.deg2rad(lon)), (12, 12))
    data = gridded(lat, lon, u=np.stack([values] * 3), t2m=np.broadcast_to(lat[:, None], (12, 12)))
    state = State.of(data)
    table = obs(
        value=np.zeros(4),
        latitude=[7.5, 3.0, -84.0, -88.0],
        longitude=[-15.0, 20.0, 0.0, 0.0],
        variable=np.array([U, T, T, U], object),
        level=[50000.0, np.nan, np.nan, 50000.0],
    )
    m = station_measurement(table, state)
    found = dict(zip(m.meta["station"], m.operator.forward(state.tensor(data))[0].tolist(), strict=True))
    assert found["S0"] == pytest.approx((np.cos(np.deg2rad(30)) + 1) / 2, rel=1e-6)  # between 330 and 0
    assert found["S1"] == pytest.approx(3.0, abs=1e-5)  # rows are at the latitudes that they say
    assert found["S2"] == pytest.approx(-82.5, abs=1e-5)
    # 5.5 of 15 degrees beyond the last row, towards the row across the pole, where the same wind has the other sign:
    assert found["S3"] == pytest.approx((1 - 5.5 / 15) * 1 - 5.5 / 15 * -1, rel=1e-5)


def test_coarse_fields_by_area() -> None:
    fine = gridded(t=smooth())
    state, x = State.of(fine), State.of(fine).tensor(fine)
    blocks = x.reshape(3, 3, 4, 3, 4).numpy()
    weight = cell_areas(LAT.tolist()).numpy().reshape(3, 4)[None, :, :, None, None]
    means = (blocks * weight).sum((2, 4)) / (weight.sum(2, keepdims=True) * 4).squeeze((2, 4))
    coarse = gridded(block_axis(LAT.tolist(), 4).numpy(), block_axis(LON.tolist(), 4).numpy(), t=means)
    m = coarse_measurement(coarse, state, {T: 0.2})
    assert float(m.residual(x).abs().max()) < 1e-4 and m.y.shape == (3, 3, 3)
    upside_down = coarse.isel(latitude=slice(None, None, -1))
    assert float(coarse_measurement(upside_down, state, 0.2).residual(x).abs().max()) < 1e-4


def test_coarse_fields_by_interpolation() -> None:
    fine = gridded(t=smooth())
    coarse = fine.isel(latitude=slice(1, None, 4), longitude=slice(2, None, 4))
    m = coarse_measurement(coarse, State.of(fine), 0.2, method="bilinear")
    assert m.y.shape == (3, 9) and float(m.residual(State.of(fine).tensor(fine)).abs().max()) < 1e-5


def test_some_channels_several_times_and_gaps() -> None:
    fine = gridded(t=np.stack([smooth(), smooth() + 1]), t2m=smooth()[0])
    state = State.of(fine)
    coarse = coarse_measurement(fine[["t"]].isel(level=[1]), state, 0.2)  # 'coarse' of the same grid
    assert coarse.batched and coarse.y.shape == (2, 1, 12, 12)
    assert float(coarse.residual(state.tensor(fine)).abs().max()) < 1e-5
    gap = fine.isel(time=0)
    gap["t2m"][3, 4] = np.nan
    m = coarse_measurement(gap, state, {T: 0.2})
    assert m.count == 4 * 144 - 1 and float(m.y[3, 3, 4]) == 0
    fine["t"][1, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="missing values differ between its times"):
        coarse_measurement(fine, state, 0.2)


def test_bad_coarse_fields() -> None:
    fine = gridded(t=smooth())
    with pytest.raises(InputError, match="holds air_temperature at the surface, which the state does not"):
        coarse_measurement(gridded(t2m=smooth()[0]), State.of(fine), 0.2)
    with pytest.raises(InputError, match="must name air_temperature too"):
        coarse_measurement(fine, State.of(fine), {U: 0.2})
    with pytest.raises(InputError, match="method 'cubic'"):
        coarse_measurement(fine, State.of(fine), 0.2, method="cubic")
    with pytest.raises(ShapeError, match="expected floating point"):
        coarse_measurement(fine.astype(int, keep_attrs=True), State.of(fine), 0.2)


def test_instruments_together_and_in_a_file(tmp_path: Path) -> None:
    fine = gridded(t=smooth(), t2m=smooth()[0])
    state = State.of(fine)
    coarse = coarse_measurement(fine, state, 0.2)
    points = station_measurement(obs(value=[1.0, 2.0], level=[60000.0, np.nan]), state)
    both = join([coarse, points])
    x = state.tensor(fine)
    # the residual is a sum over data, each by its own variance: neither source is averaged
    assert float(both.chi2(x)) == pytest.approx(float(coarse.chi2(x) + points.chi2(x)), rel=1e-5)
    assert both.count == 4 * 144 + 2
    both.save(tmp_path / "m.h5")
    again = Measurement.load(tmp_path / "m.h5")
    assert torch.equal(again.residual(x), both.residual(x)) and again.meta["instruments"][1]["station"] == ["S0", "S1"]


def test_real_sounding_on_real_fields(data_dir: Path) -> None:
    fields = read_fields(data_dir / "atmosphere" / "eraint_uvz.nc", select={"month": 1})
    table = read_igra(data_dir / "atmosphere" / "igra2_USM00070026.txt", incomplete="drop")
    state = State.of(fields)
    error = {U: 1.0, "northward_wind": 1.0, "geopotential": 100.0}
    m = station_measurement(table, state, "2010-06-01T00:00", error=error)
    assert m.meta["left_out"]["not a quantity of the state"] > 0 and m.count == 87
    heights = torch.tensor([v == "geopotential" for v in m.meta["variable"]])
    # July's mean of another year: within 200 m of height of the first of June, where a wrong level is kilometres off
    assert float(m.residual(state.tensor(fields))[0][heights].abs().max()) < 2000
