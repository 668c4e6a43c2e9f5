"""Scattered observations: one table for stations, soundings and aircraft, read from CSV or Parquet.

A table is a dataset of the CF feature type "point" along ``observation``: ``time`` (UTC), ``latitude``, ``longitude``,
``level`` (Pa; NaN for what is measured near the surface), ``variable`` (a name of `invdiff.datasets.weather.cf`),
``value`` in that quantity's unit, ``error`` (standard deviation of the instrument; NaN where it is not known) and
``station``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from invdiff.datasets.weather.cf import QUANTITIES, conversion, quantity_of
from invdiff.errors import FormatError, missing_extra
from invdiff.files import existing, head

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["NUMBERS_MISSING", "columns_of_csv", "numbers", "observations", "read_stations", "times"]

NUMBERS_MISSING = ("", "na", "n/a", "nan", "null", "none")
_NAMES = {
    "time": ("time", "datetime", "valid_time", "valid", "date"),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "long", "lng"),
    "level": ("level", "pressure", "plev"),
    "variable": ("variable", "parameter"),
    "value": ("value", "observation"),
    "error": ("error", "sigma", "std"),
    "units": ("units", "unit"),
    "station": ("station", "station_id", "id"),
}
_NEEDED = ("time", "latitude", "longitude", "variable", "value")


def read_stations(path: str | Path, level_units: str = "hPa") -> xr.Dataset:
    """Read a table with a header line: time, lat, lon, level, variable, value, error (and units, station).

    Times are ISO 8601 (UTC where no zone is given). Values are in the quantity's own unit unless the column ``units``
    says another; levels are in `level_units` and empty near the surface. Rows whose value is empty are left out.

    Args:
        path: CSV, or Parquet (extra ``weather``), told apart by content.
        level_units: the unit of the column ``level``.

    Raises:
        FileError: the file cannot be opened. FormatError: a column is missing, a row is cut short, or a field cannot be
            used (text for a number, NaN coordinates, out of range, an unknown variable or unit), with its line.
        MissingExtraError: Parquet needs pyarrow.
    """
    path = existing(path)
    found, places = _parquet(path) if head(path, 4) == b"PAR1" else columns_of_csv(path)
    lower = {name.strip().lower(): name for name in found}
    table = {key: found[lower[n]] for key, names in _NAMES.items() for n in names[::-1] if n in lower}
    missing = [name for name in _NEEDED if name not in table]
    if missing:
        raise FormatError(f"{path} has no column {', '.join(missing)}; it has {', '.join(found) or 'none'}")
    count = len(table["time"])
    value = numbers(table["value"], f"{path}: value", places)
    factor, _ = conversion(level_units, "Pa", f"{path}: level")
    level = numbers(table["level"], f"{path}: level", places) * factor if "level" in table else np.full(count, np.nan)
    error = numbers(table["error"], f"{path}: error", places) if "error" in table else np.full(count, np.nan)
    variable = np.empty(count, object)
    named = np.asarray(table["variable"], object)
    units = np.asarray(table["units"] if "units" in table else [""] * count, object)
    for pair in sorted({(str(n), str(u)) for n, u in zip(named, units, strict=True)}):
        rows = np.array([(str(n), str(u)) == pair for n, u in zip(named, units, strict=True)])
        where = f"{path}: line {places[int(rows.argmax())]}"
        quantity = quantity_of(pair[0].strip(), {})
        if quantity is None:
            raise FormatError(
                f"{where}: variable {pair[0]!r} is not known; expected one of {', '.join(sorted(QUANTITIES))}, or a"
                " usual short name of one"
            )
        scale, offset = conversion(pair[1].strip() or quantity.units, quantity.units, f"{where}: {pair[0]}")
        variable[rows], value[rows] = quantity.standard_name, value[rows] * scale + offset
        error[rows] *= scale
    keep = np.isfinite(value)
    if not keep.any():
        raise FormatError(f"{path} holds no value in {count} rows; expected at least one")
    columns = {
        "time": times(table["time"], f"{path}: time", places),
        "latitude": numbers(table["latitude"], f"{path}: latitude", places),
        "longitude": numbers(table["longitude"], f"{path}: longitude", places),
        "level": level,
        "variable": variable,
        "value": value,
        "error": error,
        "station": np.asarray(table.get("station", [""] * count), object).astype(str),
    }
    return observations(path, {k: v[keep] for k, v in columns.items()}, lines=places[keep])


def observations(path: str | Path, columns: Mapping[str, ArrayLike], lines: NDArray[Any] | None = None) -> xr.Dataset:
    """Check columns and make the table of them.

    Args:
        path: of the file, for messages and provenance.
        columns: as the module says, in its units; equally long. Others are kept as they are.
        lines: the line of each row in the file, for messages.

    Raises:
        FormatError: a coordinate, value or level is NaN where it must not be or out of range, or an error not above 0.
    """
    import xarray as xr

    table = {name: np.asarray(values) for name, values in columns.items()}
    lat, lon, level = table["latitude"], table["longitude"], table["level"]
    for name, bad, expected in (
        ("time", np.isnat(table["time"]), "a time"),
        ("latitude", ~((lat >= -90) & (lat <= 90)), "degrees between -90 and 90"),
        ("longitude", ~((lon >= -180) & (lon <= 360)), "degrees between -180 and 360"),
        ("level", ~np.isnan(level) & ~((level > 0) & (level < 120000)), "pressures above 0 and below 120000 Pa"),
        ("value", ~np.isfinite(table["value"]), "numbers"),
        ("error", ~np.isnan(table["error"]) & ~(table["error"] > 0), "standard deviations above 0"),
    ):
        if bad.any():
            first = int(bad.argmax())
            place = f"line {lines[first]}" if lines is not None else f"row {first}"
            raise FormatError(
                f"{path}: {place}: {name} is {table[name][first]}; expected {expected} ({int(bad.sum())} such rows)"
            )
    attrs = {
        "time": {"standard_name": "time"},
        "latitude": {"standard_name": "latitude", "units": "degrees_north"},
        "longitude": {"standard_name": "longitude", "units": "degrees_east"},
        "level": {"standard_name": "air_pressure", "units": "Pa", "positive": "down"},
        "value": {"long_name": "value in the unit of its variable"},
        "error": {"long_name": "standard deviation of the instrument, in the unit of the value"},
        "station": {"cf_role": "timeseries_id"},
    }
    data = {name: (("observation",), values, attrs.get(name, {})) for name, values in table.items()}
    found = xr.Dataset(data, attrs={"Conventions": "CF-1.8", "featureType": "point", "source": str(path)})
    return found.set_coords(["time", "latitude", "longitude", "level"])


def columns_of_csv(path: Path) -> tuple[dict[str, list[str]], NDArray[np.int64]]:
    """Columns of a CSV file by the names in its header, and the line of each row.

    Lines that begin with ``#`` before the header are comments.

    Raises:
        FormatError: the file is not UTF-8 text, has no rows, a name twice, or a row with too few or too many fields.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} is not a CSV table in UTF-8: {error}") from error
    while rows and rows[0][1][0].startswith("#"):
        rows.pop(0)
    if len(rows) < 2:
        raise FormatError(f"{path} has {len(rows)} lines; expected a header line and rows")
    names = [name.strip() for name in rows[0][1]]
    if len(set(names)) != len(names):
        raise FormatError(f"{path}: its header names a column twice: {', '.join(names)}")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise FormatError(
                f"{path}: line {line} has {len(row)} fields, the header {len(names)}; the file is cut short or damaged"
            )
    columns = map(list, zip(*(row for _, row in rows[1:]), strict=True))
    return dict(zip(names, columns, strict=True)), np.array([line for line, _ in rows[1:]])


def numbers(
    column: Sequence[Any], where: str, lines: NDArray[np.int64], missing: Sequence[str] = NUMBERS_MISSING
) -> NDArray[np.float64]:
    """A column as float64, NaN where it holds one of `missing` (lower case). Raises FormatError naming the line."""
    out = np.empty(len(column))
    for i, item in enumerate(column):
        text = "nan" if item is None else str(item).strip()
        try:
            out[i] = np.nan if text.lower() in missing else float(text)
        except ValueError as error:
            raise FormatError(f"{where} is {text!r} in line {lines[i]}; expected a number") from error
    return out


def times(column: Sequence[Any], where: str, lines: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """A column as ``datetime64[ns]``, UTC. Raises FormatError naming the line."""
    from datetime import datetime, timezone

    out = np.empty(len(column), "datetime64[ns]")
    for i, item in enumerate(column):
        try:
            # Python 3.10 reads no Z
            stamp = (
                item if isinstance(item, datetime) else datetime.fromisoformat(str(item).strip().replace("Z", "+00:00"))
            )
        except ValueError as error:
            raise FormatError(f"{where} is {item!r} in line {lines[i]}; expected ISO 8601") from error
        if stamp.tzinfo is not None:
            stamp = stamp.astimezone(timezone.utc).replace(tzinfo=None)
        out[i] = np.datetime64(stamp, "ns")
    return out


def _parquet(path: Path) -> tuple[dict[str, list[Any]], NDArray[np.int64]]:
    """Columns by name, and the number of each row, from 1."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "weather", "reading Parquet") from error
    try:
        table = parquet.read_table(path)
        columns = {str(name): table.column(i).to_pylist() for i, name in enumerate(table.column_names)}
    except Exception as error:  # pyarrow's own exceptions
        raise FormatError(f"{path} cannot be read as Parquet: {error}; it is cut short or damaged") from error
    return columns, np.arange(1, table.num_rows + 1)
