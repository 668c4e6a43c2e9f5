"""Humidity as models keep it, from humidity as instruments report it, and pressure from an altimeter setting.

Vapour pressure is Bolton's over water, ``e = 611.2 exp(17.67 T / (T + 243.5))`` Pa with T in degrees Celsius (Bolton,
Mon. Weather Rev. 108, 1980), within 0.1 % from -35 to 35 degrees; specific humidity is
``q = 0.622 e / (p - 0.378 e)``. Arguments are NumPy arrays in SI units; NaN stays NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from invdiff.errors import InputError

__all__ = [
    "humidity_from_dewpoint",
    "humidity_from_relative",
    "station_pressure",
    "vapour_pressure",
    "wind_from_report",
]

_EXPONENT = 0.190263  # R L / g of the standard atmosphere
_SLOPE = 8.417286e-5  # hPa^_EXPONENT per metre


def vapour_pressure(dewpoint: ArrayLike) -> NDArray[np.float64]:
    """Vapour pressure in Pa at a dew point in K; the saturation pressure at a temperature.

    Raises:
        InputError: a temperature is below 100 K or above 400 K: it is not in K.
    """
    celsius = _kelvin(dewpoint) - 273.15
    return np.asarray(611.2 * np.exp(17.67 * celsius / (celsius + 243.5)))


def humidity_from_dewpoint(dewpoint: ArrayLike, pressure: ArrayLike) -> NDArray[np.float64]:
    """Specific humidity in kg/kg from the dew point (K) and the pressure (Pa); NaN where the vapour alone exceeds it.

    Raises:
        InputError: a value is not in its unit.
    """
    return _humidity(vapour_pressure(dewpoint), pressure)


def humidity_from_relative(relative: ArrayLike, temperature: ArrayLike, pressure: ArrayLike) -> NDArray[np.float64]:
    """Specific humidity in kg/kg from the relative humidity over water (0 ... 1), temperature (K) and pressure (Pa).

    Raises:
        InputError: a value is not in its unit (relative humidity above 1.5: a percentage).
    """
    fraction = np.asarray(relative, np.float64)
    if (fraction < 0).any() or (fraction > 1.5).any():
        raise InputError(f"relative humidity runs to {np.nanmax(fraction):g}; it expects fractions between 0 and 1")
    return _humidity(fraction * vapour_pressure(temperature), pressure)


def station_pressure(altimeter: ArrayLike, elevation: ArrayLike) -> NDArray[np.float64]:
    """Pressure in Pa at a station of the given elevation (m) whose altimeter setting is known (Pa).

    The standard atmosphere turned round, ``p = (A^k - 8.417286e-5 h)^(1/k)`` with p and A in hPa and k = 0.190263
    (U.S. National Weather Service).
    """
    setting = np.asarray(altimeter, np.float64) / 100
    return np.asarray(100 * (setting**_EXPONENT - _SLOPE * np.asarray(elevation, np.float64)) ** (1 / _EXPONENT))


def wind_from_report(speed: ArrayLike, direction: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Components u, v of reported winds, NaN where a report is incomplete; calm needs no direction.

    `invdiff.operators.fields.wind.wind_components` does the turning.

    Raises:
        InputError: a speed is negative, or a direction outside 0 ... 360.
    """
    import torch

    from invdiff.operators.fields.wind import wind_components

    speed, direction = (np.array(v, np.float64, ndmin=1) for v in (speed, direction))
    direction[speed == 0] = 0.0
    known = np.isfinite(speed) & np.isfinite(direction)
    u, v = wind_components(torch.from_numpy(speed[known]), torch.from_numpy(direction[known]))
    out = np.full((2, *speed.shape), np.nan)
    out[0, known], out[1, known] = u.numpy() + 0.0, v.numpy() + 0.0  # calm is 0, not -0
    return out[0], out[1]


def _humidity(vapour: NDArray[np.float64], pressure: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(pressure, np.float64)
    if (p <= 0).any():
        raise InputError(f"pressure goes down to {np.nanmin(p):g} Pa; it expects values above 0")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(vapour < p, 0.622 * vapour / (p - 0.378 * vapour), np.nan)


def _kelvin(temperature: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(temperature, np.float64)
    if (values < 100).any() or (values > 400).any():
        raise InputError(
            f"a temperature or dew point of {values[(values < 100) | (values > 400)].flat[0]:g} is not in K; convert it"
        )
    return values
