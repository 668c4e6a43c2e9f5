"""Airport weather (METAR) as CSV, one report a row, as the Iowa Environmental Mesonet and others hand it out.

Columns are known by name, and their names carry their unit: ``tmpf`` is in degrees Fahrenheit, ``sknt`` in knots.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.weather.cf import conversion
from invdiff.datasets.weather.moisture import (
    humidity_from_dewpoint,
    humidity_from_relative,
    station_pressure,
    wind_from_report,
)
from invdiff.datasets.weather.stations import NUMBERS_MISSING, columns_of_csv, numbers, observations, times
from invdiff.errors import FormatError, InvdiffError
from invdiff.files import existing

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["read_metar", "recognise"]

_MISSING = (*NUMBERS_MISSING, "m", "vrb")  # VRB: a direction that varies
# what: {column: (unit, canonical unit)}
_COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "temperature": {"tmpf": ("degF", "K"), "tmpc": ("degC", "K")},
    "dewpoint": {"dwpf": ("degF", "K"), "dwpc": ("degC", "K")},
    "relative": {"relh": ("%", "1")},
    "direction": {"drct": ("degree", "degree")},
    "speed": {"sknt": ("kt", "m s-1"), "sped": ("mph", "m s-1"), "smps": ("m s-1", "m s-1")},
    "altimeter": {"alti": ("inHg", "Pa"), "qnh": ("hPa", "Pa")},
    "sea": {"mslp": ("hPa", "Pa")},
    "elevation": {"elevation": ("m", "m"), "elev": ("m", "m")},
}
_PLACE = {
    "station": ("station", "icao"),
    "time": ("valid", "time"),
    "lat": ("lat", "latitude"),
    "lon": ("lon", "longitude"),
}


def recognise(path: str | Path) -> bool:
    """Whether this is a table with a row a report: columns of data by their METAR names, and none named variable."""
    try:
        names = {name.lower() for name in columns_of_csv(existing(path))[0]}
    except InvdiffError:
        return False
    known = {name for choices in _COLUMNS.values() for name in choices} - {"elevation", "elev"}
    return bool(names & known) and "variable" not in names


def read_metar(path: str | Path) -> xr.Dataset:
    """Read reports as a table of observations (`invdiff.datasets.weather.stations`), one row a value, near the surface.

    Temperature, u and v (calm counts as zero wind, a variable direction as unknown), pressure at sea level, pressure
    at the station from the altimeter setting and elevation, and from that and the dew point, or else the relative
    humidity, specific humidity. ``M`` and empty fields are missing. Errors are not in the file: NaN.

    Raises:
        FileError: the file cannot be opened. FormatError: station, valid, lat or lon is missing, there is no known
            column of data, or a field cannot be used.
    """
    path = existing(path)
    columns, lines = columns_of_csv(path)
    found = {name.lower(): column for name, column in columns.items()}
    place = {}
    for key, names in _PLACE.items():
        name = next((n for n in names if n in found), None)
        if name is None:
            raise FormatError(f"{path} has no column {names[0]}; it has {', '.join(found)}")
        place[key] = found[name]
    count = len(place["time"])
    data = {what: _column(path, found, lines, choices) for what, choices in _COLUMNS.items()}
    values = _values(path, {k: np.full(count, np.nan) if v is None else v for k, v in data.items()})
    rows = {name: np.flatnonzero(np.isfinite(x)) for name, x in values.items()}
    order = np.concatenate(list(rows.values()))
    if not len(order):
        known = ", ".join(c for choices in _COLUMNS.values() for c in choices)
        raise FormatError(f"{path} holds no value that is used; expected some in the columns {known}")
    table = {
        "time": times(place["time"], f"{path}: valid", lines)[order],
        "latitude": numbers(place["lat"], f"{path}: lat", lines, _MISSING)[order],
        "longitude": numbers(place["lon"], f"{path}: lon", lines, _MISSING)[order],
        "level": np.full(len(order), np.nan),
        "variable": np.repeat(np.array(list(rows), object), [len(r) for r in rows.values()]),
        "value": np.concatenate([values[name][r] for name, r in rows.items()]),
        "error": np.full(len(order), np.nan),
        "station": np.array([s.strip() for s in place["station"]])[order],
    }
    return observations(path, table, lines=lines[order])


def _column(
    path: Path, found: Mapping[str, list[str]], lines: NDArray[np.int64], choices: Mapping[str, tuple[str, str]]
) -> NDArray[np.float64] | None:
    for name, (units, wanted) in choices.items():
        if name in found:
            factor, offset = conversion(units, wanted, f"{path}: {name}")
            return numbers(found[name], f"{path}: {name}", lines, _MISSING) * factor + offset
    return None


def _values(path: Path, data: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    temperature, relative = data["temperature"], data["relative"]
    pressure = station_pressure(data["altimeter"], data["elevation"])
    try:
        u, v = wind_from_report(data["speed"], data["direction"])
        q = humidity_from_dewpoint(data["dewpoint"], pressure)
        other = humidity_from_relative(relative, temperature, pressure)
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from error
    return {
        "air_temperature": temperature,
        "eastward_wind": u,
        "northward_wind": v,
        "specific_humidity": np.where(np.isnan(q), other, q),
        "surface_air_pressure": pressure,
        "air_pressure_at_mean_sea_level": data["sea"],
    }
