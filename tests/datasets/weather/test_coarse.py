"""A coarse field alone, through the one door for all formats."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from invdiff.datasets.reading import read
from invdiff.datasets.weather import Channel, State, coarse
from invdiff.errors import FormatError, InputError
from invdiff.measurement import Measurement


@pytest.fixture
def path(tmp_path: Path) -> Path:
    lat, lon = ("lat", [30.0, 10.0, -10.0], {"units": "degrees_north"}), ("lon", [0.0, 10.0], {"units": "degrees_east"})
    values = np.arange(12.0).reshape(2, 3, 2)
    data = xr.Dataset({"t2m": (("time", "lat", "lon"), values, {"units": "degC"})}, {"lat": lat, "lon": lon})
    data["time"] = ("time", [0, 1], {"units": "hours since 2020-01-01"})
    data.to_netcdf(tmp_path / "coarse.nc")
    return tmp_path / "coarse.nc"


def test_read_by_content(path: Path) -> None:
    m = read(path.rename(path.with_suffix(".h5")), factor=2, sigma=0.2, time=1)
    assert isinstance(m, Measurement) and m.operator.domain_shape == (1, 6, 4)
    assert m.y.flatten().tolist() == pytest.approx([279.15 + i for i in range(6)])
    assert m.coords["latitude"][1].tolist() == [35.0, 25.0, 15.0, 5.0, -5.0, -15.0]
    assert m.coords["longitude"][1].tolist() == [-2.5, 2.5, 7.5, 12.5]


def test_a_constant_is_a_constant(path: Path) -> None:
    m = coarse.read(path, 2, 0.2)
    ones = m.y.new_ones(1, 1, 6, 4)
    assert m.operator.forward(ones).flatten().tolist() == pytest.approx([1.0] * 6)


def test_what_must_be_said(path: Path) -> None:
    with pytest.raises(InputError, match="coarse.nc is a coarse field: say how much finer"):
        read(path)
    with pytest.raises(InputError, match="has 2 times; time is 2"):
        read(path, factor=2, sigma=0.2, time=2)
    with pytest.raises(InputError, match="factor is 0"):
        read(path, factor=0, sigma=0.2)
    channels = (Channel("air_temperature"),)
    with pytest.raises(InputError, match="row at latitude 90"):
        coarse.refined(State(channels, (90.0, 0.0, -90.0), (0.0, 10.0)), 2)
    with pytest.raises(InputError, match="latitude of the coarse field is not evenly"):
        coarse.refined(State(channels, (9.0, 0.0, -4.0), (0.0, 10.0)), 2)


def test_other_hdf5_is_not_claimed(tmp_path: Path) -> None:
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "a.nc")
    assert not coarse.recognise(tmp_path / "a.nc") and not coarse.recognise(tmp_path / "none.nc")
    with pytest.raises(FormatError, match="no known format"):
        read(tmp_path / "a.nc")
