"""Radiosonde soundings of the Integrated Global Radiosonde Archive, version 2, by column.

A sounding is a header line (``#``, station, date, number of levels, position) and one line a level. Fields touch each
other, so they are cut at the format's columns, never at spaces. -9999 is a value that was not reported, -8888 one that
the archive's quality control took out; flags say which climatology checks a value has passed (blank, A, B).
Format: NOAA/NCEI, igra2-data-format.txt.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.weather.cf import GRAVITY
from invdiff.datasets.weather.moisture import humidity_from_dewpoint, humidity_from_relative, wind_from_report
from invdiff.datasets.weather.stations import observations
from invdiff.errors import FileError, FormatError, InputError
from invdiff.files import existing, head

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["read_igra", "recognise"]

_WIDTH = 51  # of a level's line
_LEVEL = {  # columns of a level's line, from 0
    "type": (0, 1),
    "pressure": (9, 15),
    "height": (16, 21),
    "temperature": (22, 27),
    "relative": (28, 33),
    "depression": (34, 39),
    "direction": (40, 45),
    "speed": (46, 51),
}
# Columns of the flags that count for a quantity; pressure's says something of surface levels only, wind has none.
_FLAGS = {"air_temperature": 27, "specific_humidity": 27, "geopotential": 21}


def recognise(path: str | Path) -> bool:
    """Whether the file begins with the header of a sounding."""
    try:
        first = head(existing(path), 72)
    except FileError:
        return False
    return first[:1] == b"#" and len(first) > 36 and first[12:13] == b" " and first[13:17].isdigit()


def read_igra(path: str | Path, accept: str = " AB", incomplete: str = "refuse") -> xr.Dataset:
    """Read soundings as a table of observations (`invdiff.datasets.weather.stations`), one row a value.

    Temperature in K, geopotential (9.80665 times the height), u and v from speed and direction, specific humidity
    from the depression of the dew point, or from the relative humidity where that is all there is. Every value is at
    the sounding's nominal time (its release where there is none) and place; levels without a pressure are left out.
    ``quality`` holds the flag of the value that it rests on (wind has none). Errors are not in the file: NaN.

    Args:
        path: the text file, or the archive's zip with one.
        accept: flags of temperature and height whose values are taken; ``"AB"`` leaves unchecked ones out, ``"B"``
            takes only the best.
        incomplete: ``"refuse"`` a file that ends within a sounding, or ``"drop"`` that sounding.

    Raises:
        FileError: the file cannot be opened. FormatError: it is cut short, a field is no number, a position is out of
            range, or nothing is left. InputError: an option is unknown.
    """
    if incomplete not in ("refuse", "drop") or not accept or not set(accept) <= set(" AB"):
        raise InputError(
            f"read_igra got accept={accept!r} and incomplete={incomplete!r}; expected some of ' AB', and 'refuse' or"
            " 'drop'"
        )
    path = existing(path)
    headers, levels, starts = _soundings(path, _lines(path), incomplete)
    raw = _cut(path, levels, starts)
    flags = {name: np.array([line[at : at + 1].decode("latin-1") for line in levels]) for name, at in _FLAGS.items()}
    of = np.repeat(np.arange(len(headers)), [h[1] for h in headers])
    when, lat, lon, station = _heads(path, headers)

    passed = {name: np.isin(flag, list(accept)) for name, flag in flags.items()}
    pressure = np.where(raw["type"] != 3, raw["pressure"], np.nan)
    temperature = np.where(passed["air_temperature"], raw["temperature"] / 10 + 273.15, np.nan)
    u, v = wind_from_report(raw["speed"] / 10, raw["direction"])
    q = humidity_from_dewpoint(temperature - raw["depression"] / 10, pressure)
    other = humidity_from_relative(raw["relative"] / 1000, temperature, pressure)
    values = {
        "air_temperature": temperature,
        "specific_humidity": np.where(np.isnan(q), other, q),
        "geopotential": np.where(passed["geopotential"], GRAVITY * raw["height"], np.nan),
        "eastward_wind": u,
        "northward_wind": v,
    }
    rows = {
        name: np.flatnonzero(np.isfinite(x) & np.isfinite(pressure) & ~np.isnat(when[of])) for name, x in values.items()
    }
    if not any(len(r) for r in rows.values()):
        raise FormatError(f"{path} holds no usable value in {len(headers)} soundings; expected at least one")
    order, blank = np.concatenate(list(rows.values())), np.full(len(levels), " ")
    table = {
        "time": when[of][order],
        "latitude": lat[of][order],
        "longitude": lon[of][order],
        "level": pressure[order],
        "variable": np.repeat(np.array(list(rows), object), [len(r) for r in rows.values()]),
        "value": np.concatenate([values[name][r] for name, r in rows.items()]),
        "error": np.full(len(order), np.nan),
        "station": station[of][order],
        "quality": np.concatenate([flags.get(name, blank)[r] for name, r in rows.items()]),
    }
    return observations(path, table)


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    if data[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = [n for n in archive.namelist() if n.endswith(".txt")]
                if len(names) != 1:
                    raise FormatError(f"{path} holds {len(names)} text files; expected one station's soundings")
                data = archive.read(names[0])
        except zipfile.BadZipFile as error:
            raise FormatError(f"{path} is a damaged zip file: {error}; copy it again from its source") from error
    lines = data.splitlines()
    if not lines or not lines[0].startswith(b"#"):
        raise FormatError(f"{path} begins with {data[:16]!r}; expected an IGRA v2 header, which begins with '#'")
    return lines


def _soundings(
    path: Path, lines: list[bytes], incomplete: str
) -> tuple[list[tuple[bytes, int]], list[bytes], list[int]]:
    """Headers with their number of levels; all levels' lines; and the line number of each."""
    headers: list[tuple[bytes, int]] = []
    levels: list[bytes] = []
    places: list[int] = []
    i = 0
    while i < len(lines):
        header = lines[i]
        if not header.startswith(b"#"):
            raise FormatError(
                f"{path}: line {i + 1} is {header[:20]!r}; expected a header, the sounding before is full"
            )
        count = _integer(header[32:36], f"{path}: line {i + 1}: number of levels")
        body = lines[i + 1 : i + 1 + count]
        short = next((k for k, line in enumerate(body) if line.startswith(b"#") or len(line) < _WIDTH), None)
        if short is not None or len(body) < count or len(header) < 71:
            at_end = short in (None, len(lines) - i - 2)
            if at_end and incomplete == "drop":
                break
            have = len(body) if short is None else short
            hint = "; incomplete='drop' leaves this sounding out" if at_end else ""
            raise FormatError(
                f"{path}: the sounding at line {i + 1} announces {count} levels, {have} are there whole: the file"
                f" is cut short or damaged{hint}"
            )
        headers.append((header, count))
        levels.extend(body)
        places.extend(range(i + 2, i + 2 + count))
        i += 1 + count
    if not levels:
        raise FormatError(f"{path} holds no whole sounding")
    return headers, levels, places


def _cut(path: Path, levels: list[bytes], places: list[int]) -> dict[str, NDArray[np.float64]]:
    """The fields of all levels as numbers, NaN where absent (-9999) or removed (-8888)."""
    text = np.array([line[:_WIDTH] for line in levels], f"S{_WIDTH}").view("S1").reshape(-1, _WIDTH)
    out = {}
    for name, (a, b) in _LEVEL.items():
        column = np.ascontiguousarray(text[:, a:b]).view(f"S{b - a}")[:, 0]
        try:
            value = column.astype(np.float64)
        except ValueError:
            for line, place in zip(levels, places, strict=True):
                _integer(line[a:b], f"{path}: line {place}: {name}")
            raise
        value[(value == -9999) | (value == -8888)] = np.nan
        out[name] = value
    for name, low, high in (("direction", 0, 360), ("speed", 0, 3000), ("relative", 0, 1500)):
        bad = (out[name] < low) | (out[name] > high)
        if bad.any():
            first = int(bad.argmax())
            raise FormatError(f"{path}: line {places[first]}: {name} is {out[name][first]:g}; expected {low} to {high}")
    return out


def _heads(path: Path, headers: list[tuple[bytes, int]]) -> tuple[NDArray[Any], ...]:
    """Time (NaT where the file has none), latitude, longitude and station of each sounding."""
    when = np.full(len(headers), "NaT", "datetime64[ns]")
    lat, lon = np.empty(len(headers)), np.empty(len(headers))
    for i, (header, _) in enumerate(headers):
        where = f"{path}: sounding {i + 1}"
        year, month, day, hour, release = (
            _integer(header[a:b], f"{where}: {name}")
            for name, a, b in (
                ("year", 13, 17),
                ("month", 18, 20),
                ("day", 21, 23),
                ("hour", 24, 26),
                ("release", 27, 31),
            )
        )
        lat[i] = _integer(header[55:62], f"{where}: latitude") / 1e4
        lon[i] = _integer(header[63:71], f"{where}: longitude") / 1e4
        hour = release // 100 if hour == 99 else hour
        if hour == 99:
            continue
        try:
            when[i] = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:00", "ns")
        except ValueError as error:
            raise FormatError(f"{where}: date {header[13:26]!r} is none: {error}") from error
    return when, lat, lon, np.array([h[1:12].decode("latin-1").strip() for h, _ in headers])


def _integer(field: bytes, where: str) -> int:
    try:
        return int(field)
    except ValueError as error:
        raise FormatError(f"{where} is {field!r}; expected a whole number") from error
