"""Humidity, station pressure and wind against values worked out by hand."""

import numpy as np
import pytest

from invdiff.datasets.weather.moisture import (
    humidity_from_dewpoint,
    humidity_from_relative,
    station_pressure,
    vapour_pressure,
    wind_from_report,
)
from invdiff.errors import InputError


def test_vapour_pressure_by_hand() -> None:
    # 20 degrees: 611.2 exp(17.67 * 20 / 263.5) = 611.2 * exp(1.341176) = 2336.9 Pa; the steam tables say 2339
    assert vapour_pressure(293.15) == pytest.approx(2336.9, abs=0.2)
    assert vapour_pressure(273.15) == pytest.approx(611.2)


def test_humidity_by_hand() -> None:
    # dew point 10 degrees, 1000 hPa: e = 1227.2 Pa, q = 0.622 * 1227.2 / (100000 - 463.9) = 0.0076686
    assert humidity_from_dewpoint(283.15, 1e5) == pytest.approx(0.0076686, rel=1e-4)
    # half the saturation pressure at 20 degrees: q = 0.622 * 1168.45 / (100000 - 441.7) = 0.0073000
    assert humidity_from_relative(0.5, 293.15, 1e5) == pytest.approx(0.0073000, rel=1e-4)
    assert humidity_from_relative(1.0, 283.15, 1e5) == humidity_from_dewpoint(283.15, 1e5)
    got = humidity_from_dewpoint([283.15, np.nan, 300.0], [np.nan, 1e5, 100.0])
    assert np.isnan(got).all()  # missing stays missing; the last vapour would exceed the pressure


def test_station_pressure_is_the_standard_atmosphere() -> None:
    # 1013.25 hPa at the sea is 1013.25 (1 - 0.0065 * 1609 / 288.15)^5.25588 = 834.31 hPa at 1609 m
    assert station_pressure(101325.0, 1609.0) == pytest.approx(83431, abs=50)
    assert station_pressure(101325.0, 0.0) == pytest.approx(101325.0)


def test_wind_by_hand() -> None:
    u, v = wind_from_report([10.0, 10.0, np.sqrt(200), 5.1, 0.0], [270.0, 360.0, 225.0, 20.0, np.nan])
    np.testing.assert_allclose(u, [10, 0, 10, -1.74430, 0], atol=1e-5)
    np.testing.assert_allclose(v, [0, -10, 10, -4.79243, 0], atol=1e-5)
    u, v = wind_from_report([3.0, np.nan], [np.nan, 90.0])
    assert np.isnan(u).all() and np.isnan(v).all()


def test_wrong_units_are_refused() -> None:
    with pytest.raises(InputError, match="of 20 is not in K"):
        vapour_pressure(20.0)
    with pytest.raises(InputError, match="relative humidity runs to 60"):
        humidity_from_relative(60.0, 293.15, 1e5)
    with pytest.raises(InputError, match="pressure goes down to -1 Pa"):
        humidity_from_dewpoint(283.15, -1.0)
    with pytest.raises(InputError, match="direction outside"):
        wind_from_report(3.0, 361.0)
