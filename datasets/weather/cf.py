"""What a variable of a weather file is, and in which unit: the parts of the CF conventions that the readers need.

Coordinates are told by ``units``, ``standard_name`` and ``axis``, never by position. Values are converted to one unit a
quantity (SI); a unit that is not known is refused, because a guess would be wrong by 273 or by 100.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import FormatError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["GRAVITY", "QUANTITIES", "VECTORS", "Quantity", "axis_of", "conversion", "quantity_of"]

GRAVITY = 9.80665  # m s-2: geopotential height to geopotential, by definition of the geopotential metre


@dataclass(frozen=True)
class Quantity:
    """A CF standard name, the unit that we keep it in, and other names for it in common files."""

    standard_name: str
    units: str
    names: tuple[str, ...]


QUANTITIES = {
    q.standard_name: q
    for q in (
        Quantity("air_temperature", "K", ("t", "temperature", "ta", "t2m", "2t", "tas", "2m_temperature")),
        Quantity("dew_point_temperature", "K", ("d2m", "2d", "dewpoint", "2m_dewpoint_temperature")),
        Quantity("eastward_wind", "m s-1", ("u", "ua", "u10", "10u", "uas", "10m_u_component_of_wind")),
        Quantity("northward_wind", "m s-1", ("v", "va", "v10", "10v", "vas", "10m_v_component_of_wind")),
        Quantity("wind_speed", "m s-1", ("ws", "si10", "10si", "10m_wind_speed")),
        Quantity("wind_from_direction", "degree", ("wd", "wdir")),
        Quantity("specific_humidity", "kg kg-1", ("q", "hus", "huss")),
        Quantity("relative_humidity", "1", ("r", "rh", "hur", "hurs")),
        Quantity("geopotential", "m2 s-2", ("z", "zg", "gh", "phi", "geopotential_height")),
        Quantity("surface_air_pressure", "Pa", ("sp", "ps", "surface_pressure")),
        Quantity(
            "air_pressure_at_mean_sea_level",
            "Pa",
            ("msl", "psl", "prmsl", "mslp", "air_pressure_at_sea_level", "mean_sea_level_pressure"),
        ),
    )
}
VECTORS = ("eastward_wind", "northward_wind")  # of opposite sign across a pole

_CELSIUS = ("degc", "deg_c", "°c", "c", "celsius", "degree_celsius", "degrees_celsius", "degree_c", "degrees_c")
# canonical unit: {spelling: (factor, offset)}, canonical = value * factor + offset
_UNITS: dict[str, dict[str, tuple[float, float]]] = {
    "K": {
        **dict.fromkeys(("k", "kelvin", "kelvins", "degree_kelvin", "degrees_kelvin"), (1.0, 0.0)),
        **dict.fromkeys(_CELSIUS, (1.0, 273.15)),
        **dict.fromkeys(("degf", "°f", "f", "fahrenheit", "degree_fahrenheit"), (5 / 9, 459.67 * 5 / 9)),
    },
    "Pa": {
        **dict.fromkeys(("pa", "pascal", "pascals"), (1.0, 0.0)),
        **dict.fromkeys(("hpa", "hectopascal", "hectopascals", "mb", "mbar", "millibar", "millibars"), (100.0, 0.0)),
        **dict.fromkeys(("kpa", "kilopascal", "kilopascals"), (1000.0, 0.0)),
        **dict.fromkeys(("inhg", "in_hg"), (3386.389, 0.0)),
    },
    "m s-1": {
        **dict.fromkeys(("m s-1", "ms-1", "meter second-1", "metre second-1"), (1.0, 0.0)),
        **dict.fromkeys(("kt", "kts", "kn", "knot", "knots"), (1852 / 3600, 0.0)),
        **dict.fromkeys(("km h-1", "km hour-1", "kmh-1"), (1 / 3.6, 0.0)),
        "mph": (0.44704, 0.0),
    },
    "kg kg-1": {**dict.fromkeys(("kg kg-1", "1"), (1.0, 0.0)), "g kg-1": (1e-3, 0.0)},
    "m2 s-2": {
        **dict.fromkeys(("m2 s-2", "j kg-1"), (1.0, 0.0)),
        **dict.fromkeys(("m", "gpm", "metre", "meter", "geopotential_metre", "geopotential_meter"), (GRAVITY, 0.0)),
    },
    "1": {**dict.fromkeys(("1", "fraction"), (1.0, 0.0)), **dict.fromkeys(("%", "percent"), (0.01, 0.0))},
    "degree": dict.fromkeys(("degree", "degrees", "deg", "°"), (1.0, 0.0)),
    "m": {**dict.fromkeys(("m", "metre", "meter", "metres", "meters"), (1.0, 0.0)), "ft": (0.3048, 0.0)},
}
_NORTH = {"degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"}
_EAST = {"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"}


def conversion(units: str | None, wanted: str, where: str) -> tuple[float, float]:
    """Factor and offset from `units` to the canonical unit `wanted`: ``value * factor + offset``.

    Args:
        where: the file and the field, for the message.

    Raises:
        FormatError: the unit is missing or not known.
    """
    known = _UNITS[wanted]
    found = None if units is None else known.get(_spelling(units))
    if found is None:
        said = "has no units" if units is None else f"has units {units!r}"
        raise FormatError(
            f"{where} {said}; expected {wanted} or one of {', '.join(sorted(known))}. Correct the file, or state the"
            " unit where the reader takes units=..."
        )
    return found


def quantity_of(name: str, attrs: Mapping[str, Any]) -> Quantity | None:
    """The quantity of a variable, by its ``standard_name`` or else by its name; None where it is not one of ours."""
    standard = str(attrs.get("standard_name", ""))
    for q in QUANTITIES.values():
        if standard == q.standard_name or (standard and standard in q.names):
            return q
    if standard not in ("", "unknown"):
        return None  # the file says what it is, and that is none of ours: its short name must not overrule this
    key = name.lower()
    return next((q for q in QUANTITIES.values() if key == q.standard_name or key in q.names), None)


def axis_of(name: str, values: NDArray[Any] | xr.DataArray, attrs: Mapping[str, Any]) -> str | None:
    """Which axis a coordinate is: ``latitude``, ``longitude``, ``level``, ``time``, ``realization``, or None."""
    units, standard = _spelling(str(attrs.get("units", ""))), str(attrs.get("standard_name", ""))
    axis = str(attrs.get("axis", "")).upper()
    if standard == "latitude" or (units in _NORTH and standard == ""):
        return "latitude"
    if standard == "longitude" or (units in _EAST and standard == ""):
        return "longitude"
    if standard == "" and units in ("degrees", "degree") and axis in ("X", "Y"):
        return "latitude" if axis == "Y" else "longitude"
    if units in _UNITS["Pa"] and standard in ("", "air_pressure"):
        return "level"
    if _is_time(values):
        return "time" if standard in ("", "time", "forecast_reference_time") else None
    if standard == "realization" or (standard == "" and name.lower() in ("realization", "member", "number")):
        return "realization"
    return None


def _is_time(values: NDArray[Any] | xr.DataArray) -> bool:
    array = np.asarray(values)
    return array.dtype.kind == "M" or (array.dtype == object and array.size > 0 and hasattr(array.flat[0], "calendar"))


def _spelling(units: str) -> str:
    """One spelling for ``m**2 s**-2``, ``m^2/s^2`` and ``m2 s-2``."""
    text = units.strip().lower().replace("**", "").replace("^", "").replace("−", "-")
    first, *divisors = text.split("/")
    parts = first.replace("·", " ").split()
    for divisor in divisors:
        found = re.fullmatch(r"\s*([^\d\s]+)(\d*)\s*", divisor)
        parts.append(f"{found[1]}-{found[2] or 1}" if found else f"/{divisor}")
    return " ".join(parts)
