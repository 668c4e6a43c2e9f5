"""Fields by the CF conventions: whatever the file's names, order, packing, calendar and units."""

import importlib.util
from pathlib import Path
from typing import Any

import cftime
import netCDF4
import numpy as np
import pytest
import xarray as xr

from invdiff.datasets.weather.netcdf import read_fields
from invdiff.errors import FileError, FormatError, InputError, MissingExtraError

LAT, LON = [40.0, 20.0, 0.0], [0.0, 90.0, 180.0, 270.0]
NORTH, EAST = {"units": "degrees_north"}, {"units": "degrees_east"}


def fields(**changes: Any) -> xr.Dataset:
    """Temperature of two times at two levels, 0, 1, 2 ... in degrees Celsius."""
    values = np.arange(48, dtype="f4").reshape(2, 2, 3, 4)
    coords: dict[str, Any] = {
        "step": ("step", [0, 6], {"units": "hours since 2020-02-28 18:00"}),
        "plev": ("plev", [850.0, 500.0], {"units": "hPa"}),
        "y": ("y", LAT, NORTH),
        "x": ("x", LON, EAST),
    }
    attrs = {"units": "degC", "standard_name": "air_temperature"}
    coords.update(changes)
    return xr.Dataset({"warmth": (("step", "plev", "y", "x"), values, attrs)}, coords)


def saved(path: Path, data: xr.Dataset, **options: Any) -> Path:
    data.to_netcdf(path / "f.nc", **options)
    return path / "f.nc"


def test_names_axes_and_units(tmp_path: Path) -> None:
    found = read_fields(saved(tmp_path, fields().transpose("x", "step", "y", "plev")))
    assert found["warmth"].dims == ("time", "level", "latitude", "longitude")
    assert found["warmth"].dtype == np.float32 and found["warmth"].attrs["units"] == "K"
    np.testing.assert_allclose(found["warmth"].values.ravel(), np.arange(48) + 273.15, rtol=1e-6)
    assert found["level"].values.tolist() == [85000.0, 50000.0] and found["level"].attrs["units"] == "Pa"
    assert found["latitude"].values.tolist() == LAT and found["longitude"].values.tolist() == LON
    assert found["time"].values[1] == np.datetime64("2020-02-29T00:00")


@pytest.mark.parametrize(
    "attrs", [{"standard_name": "latitude"}, {"units": "degreeN"}, {"units": "degrees", "axis": "Y"}]
)
def test_latitude_is_found_by_any_attribute(tmp_path: Path, attrs: dict[str, str]) -> None:
    found = read_fields(saved(tmp_path, fields(y=("y", LAT[::-1], attrs))))
    assert found["latitude"].values.tolist() == LAT[::-1]


def test_longitude_convention_is_kept(tmp_path: Path) -> None:
    found = read_fields(saved(tmp_path, fields(x=("x", [90.0, 180.0, -90.0, 0.0], EAST))))  # jumps at the date line
    assert found["longitude"].values.tolist() == [90.0, 180.0, -90.0, 0.0]


@pytest.mark.parametrize(("units", "factor"), [("hPa", 100), ("millibars", 100), ("Pa", 1), ("kPa", 1000)])
def test_pressure_units(tmp_path: Path, units: str, factor: float) -> None:
    found = read_fields(saved(tmp_path, fields(plev=("plev", [8.0, 5.0], {"units": units}))))
    assert found["level"].values.tolist() == [8.0 * factor, 5.0 * factor]


def test_packed_integers_and_fill_values(tmp_path: Path) -> None:
    data = fields()
    data["warmth"][0, 0, 0, 0] = np.nan
    packing = {"dtype": "i2", "scale_factor": -0.25, "add_offset": 10.0, "_FillValue": np.int16(-32768)}
    found = read_fields(saved(tmp_path, data, encoding={"warmth": packing}))["warmth"].values.ravel()
    assert np.isnan(found[0]) and not np.isnan(found[1:]).any()
    np.testing.assert_allclose(found[1:], np.arange(1, 48) + 273.15, rtol=1e-6)


@pytest.mark.parametrize(("calendar", "second"), [("360_day", (2020, 2, 30)), ("noleap", (2020, 3, 1))])
def test_calendars(tmp_path: Path, calendar: str, second: tuple[int, int, int]) -> None:
    first = (2020, 2, 29) if calendar == "360_day" else (2020, 2, 28)
    time = ("step", [0, 1], {"units": "days since {}-{}-{}".format(*first), "calendar": calendar})
    found = read_fields(saved(tmp_path, fields(step=time)))["time"].values
    assert found.tolist() == [cftime.datetime(*first, calendar=calendar), cftime.datetime(*second, calendar=calendar)]


def test_one_level_as_a_number(tmp_path: Path) -> None:
    data = fields().isel(plev=0)
    assert read_fields(saved(tmp_path, data))["warmth"].dims == ("time", "level", "latitude", "longitude")


def test_select(tmp_path: Path) -> None:
    data = fields().expand_dims(scenario=3)
    path = saved(tmp_path, data)
    with pytest.raises(FormatError, match="f.nc: variable 'warmth' has dimension 'scenario' of 3.*select="):
        read_fields(path)
    found = read_fields(path, select={"scenario": 1, "step": slice(1, 2), "x": [0, 2]})
    assert found["warmth"].shape == (1, 2, 3, 2) and found["longitude"].values.tolist() == [0.0, 180.0]
    assert found["warmth"].values[0, 0, 0].tolist() == pytest.approx([24 + 273.15, 26 + 273.15])
    with pytest.raises(InputError, match="select names level"):
        read_fields(path, select={"level": 0})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y": ("y", [40.0, np.nan, 0.0], NORTH)}, "latitude 'y' holds NaN .*position 1"),
        ({"y": ("y", [95.0, 20.0, 0.0], NORTH)}, "latitude 'y' runs from 0 to 95"),
        ({"x": ("x", [0.0, 90.0, 999.0, 9.0], EAST)}, "longitude 'x' runs from 0 to 999"),
        ({"y": ("y", [40.0, 20.0, 30.0], NORTH)}, "latitude 'y' neither ascends nor descends"),
        ({"y": ("y", LAT, {})}, "has no latitude"),
        ({"y": ("y", LAT, {"units": "degrees", "standard_name": "grid_latitude", "axis": "Y"})}, "has no latitude"),
        ({"plev": ("plev", [8.0, 5.0], {"units": "furlongs"})}, "dimension 'plev' of 2, which no CF"),
        ({"plev": ("plev", [8.0, -5.0], {"units": "hPa"})}, "level 'plev' goes down to -500"),
        ({"plev": ("plev", [8.0, 5.0], {"standard_name": "air_pressure", "units": "m"})}, "dimension 'plev'"),
        ({"z": ("y", LAT, NORTH)}, "2 coordinates for latitude: "),
        (
            {"step": ("step", [0, 6], {"units": "hours since yesterday"})},
            "time 'step' cannot be decoded from .*since yesterday",
        ),
    ],
)
def test_bad_coordinates(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        read_fields(saved(tmp_path, fields(**change)))
    assert "f.nc" in str(caught.value)


def test_curvilinear_grid_is_refused(tmp_path: Path) -> None:
    data = (
        fields()
        .drop_vars(["x", "y"])
        .assign_coords(lat=(("y", "x"), np.ones((3, 4)), NORTH), lon=(("y", "x"), np.ones((3, 4)), EAST))
    )
    with pytest.raises(FormatError, match="latitude 'lat' has dimensions.*curvilinear"):
        read_fields(saved(tmp_path, data))


def test_units_of_variables(tmp_path: Path) -> None:
    data = fields()
    data["warmth"].attrs["units"] = "bananas"
    path = saved(tmp_path, data)
    with pytest.raises(FormatError, match="f.nc: variable 'warmth' has units 'bananas'; expected K"):
        read_fields(path)
    assert read_fields(path, units={"warmth": "K"})["warmth"].values.max() == 47
    with pytest.raises(InputError, match="units names 'wormth'"):
        read_fields(path, units={"wormth": "K"})
    del data["warmth"].attrs["units"]
    with pytest.raises(FormatError, match="'warmth' has no units"):
        read_fields(saved(tmp_path, data))
    data = data.rename(warmth="ozone")
    data["ozone"].attrs = {"units": "kg m-3"}  # none of ours: kept as it is
    assert read_fields(saved(tmp_path, data))["ozone"].values.max() == 47
    with pytest.raises(FormatError, match="f.nc has no variable warmth.* it has ozone"):
        read_fields(saved(tmp_path, data), ["warmth"])


def test_the_valid_time_counts(tmp_path: Path) -> None:
    data = fields().rename(step="time")
    data["time"].attrs["standard_name"] = "forecast_reference_time"
    later = ("time", [6, 12], {"units": "hours since 2020-02-28 18:00", "standard_name": "time"})
    found = read_fields(saved(tmp_path, data.assign_coords(valid_time=later)))
    assert found["time"].values[0] == np.datetime64("2020-02-29T00:00")
    start = ("valid_time", [0, 0], {"units": "hours since 2020-02-28", "standard_name": "forecast_reference_time"})
    other = fields().rename(step="valid_time").assign_coords(start=start)
    other["valid_time"].attrs["standard_name"] = "time"
    assert read_fields(saved(tmp_path, other))["time"].values[1] == np.datetime64("2020-02-29T00:00")


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT"])
@pytest.mark.parametrize("unlimited", [[], ["step"]])  # of records that are not there NetCDF's library makes up zeros
def test_truncated(tmp_path: Path, kind: str, unlimited: list[str]) -> None:
    path = saved(tmp_path, fields(), format=kind, unlimited_dims=unlimited)
    assert read_fields(path)["warmth"].shape == (2, 2, 3, 4)
    whole = path.read_bytes()
    for cut in (len(whole) - 40, len(whole) // 2, 9):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match="f.nc"):
            read_fields(path)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        read_fields(tmp_path / "none.nc")
    with pytest.raises(FileError, match="without zarr.json"):
        read_fields(tmp_path)
    (tmp_path / "text.nc").write_text("latitude, longitude", encoding="utf-8")
    with pytest.raises(FormatError, match="begins with b'latitude'"):
        read_fields(tmp_path / "text.nc")
    with netCDF4.Dataset(tmp_path / "empty.nc", "w"):
        pass
    with pytest.raises(FormatError, match="has no latitude"):
        read_fields(tmp_path / "empty.nc")


def test_absent_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "a.grib").write_bytes(b"GRIB" + bytes(20))
    with pytest.raises(MissingExtraError, match=r"cfgrib.*invdiff\[weather\]"):
        read_fields(tmp_path / "a.grib")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MissingExtraError, match=r"zarr.*invdiff\[weather\]"):
        read_fields(tmp_path / "a.zarr")


def test_truncated_grib(tmp_path: Path) -> None:
    eccodes = pytest.importorskip("eccodes", reason="cfgrib (extra weather) is not installed")
    pytest.importorskip("cfgrib", reason="cfgrib (extra weather) is not installed")
    message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
    with (tmp_path / "a.grib").open("wb") as file:
        for level in (850, 500):
            eccodes.codes_set(message, "level", level)
            eccodes.codes_write(message, file)
    eccodes.codes_release(message)
    found = read_fields(tmp_path / "a.grib")
    assert found["t"].dims == ("time", "level", "latitude", "longitude")
    assert found["level"].values.tolist() == [85000.0, 50000.0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.grib"]
    whole = (tmp_path / "a.grib").read_bytes()
    (tmp_path / "a.grib").write_bytes(whole[: len(whole) - 50])
    with pytest.raises(FormatError, match="a.grib"):
        read_fields(tmp_path / "a.grib")


def test_real_files(data_dir: Path) -> None:
    folder = data_dir / "atmosphere"
    hourly = read_fields(folder / "era5_t2m_uk_2019-03.nc", select={"time": slice(0, 2)})["t2m"]
    assert hourly.shape == (2, 33, 49) and 260 < float(hourly.min()) < float(hourly.max()) < 295
    members = read_fields(folder / "era5_levels_members.nc", ["t"])["t"]
    assert members.dims == ("realization", "time", "level", "latitude", "longitude")
    assert members.shape == (10, 4, 2, 61, 120) and members["level"].values.tolist() == [85000.0, 50000.0]
    packed = read_fields(folder / "eraint_uvz.nc", ["u", "z"], select={"month": 0})
    assert packed["u"].shape == (3, 241, 480) and packed["level"].values.tolist() == [20000.0, 50000.0, 85000.0]
    assert 5e4 < float(packed["z"][1].mean()) < 5.8e4 and 40 < float(packed["u"].max()) < 120
