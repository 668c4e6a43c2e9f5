"""Gridded fields from NetCDF, Zarr and GRIB by the CF conventions, under one set of names and units.

Whatever the file calls them, the dimensions of what is read are ``realization, time, level, latitude, longitude``, in
this order and as far as a variable has them; levels are in Pa, values in the units of `invdiff.datasets.weather.cf`.
Latitudes keep the file's order and longitudes its convention: the operators take both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.weather.cf import axis_of, conversion, quantity_of
from invdiff.errors import FileError, FormatError, InputError, InvdiffError, missing_extra
from invdiff.files import existing, head, parsing
from invdiff.hdf5 import check_heaps

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["AXES", "open_raw", "read_fields"]

AXES = ("realization", "time", "level", "latitude", "longitude")
_ATTRS: dict[str, dict[str, str]] = {
    "realization": {"standard_name": "realization", "units": "1"},
    "time": {"standard_name": "time", "axis": "T"},
    "level": {"standard_name": "air_pressure", "units": "Pa", "axis": "Z", "positive": "down"},
    "latitude": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "longitude": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
}


def read_fields(
    path: str | Path,
    variables: Sequence[str] | None = None,
    select: Mapping[str, int | slice | Sequence[int]] | None = None,
    units: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Read the fields of a file into memory, float32, NaN where the file has its fill value.

    Args:
        path: a NetCDF file (classic or NetCDF-4), a Zarr folder (extra ``weather``), or a GRIB file (the same extra).
        variables: the names of those to read; all on a latitude-longitude grid if not given.
        select: positions along the file's dimensions, by the file's names (``{"time": slice(0, 24)}``); only these are
            read. A dimension that CF does not explain must be reduced to one position.
        units: units of variables and coordinates that the file does not state, or states wrongly, by their names.

    Returns:
        a dataset of the named variables with CF attributes; times are ``datetime64``, or cftime objects for calendars
        such as 360 days.

    Raises:
        FileError: the file cannot be opened. FormatError: it is cut short or damaged, coordinates are missing, NaN, out
            of range, not monotone or not one-dimensional, a unit is not known, or a variable is missing.
        InputError: `select` names no dimension. MissingExtraError: the format needs an extra.
    """
    import xarray as xr

    path = Path(path)
    raw = open_raw(path, units or {})
    try:
        with raw:
            candidates = _candidates(raw, path)
            wanted = _wanted(raw, candidates, variables, path)
            axes = _axes(raw, candidates, wanted, path)
            unknown = set(select or {}) - {str(d) for d in raw.dims}
            if unknown:
                raise InputError(f"select names {', '.join(sorted(unknown))}; {path} has dimensions {list(raw.dims)}")
            chosen = {d: [i] if isinstance(i, (int, np.integer)) else i for d, i in (select or {}).items()}
            part = raw.isel(chosen)
            coords = {kind: _coordinate(kind, part[name], path) for kind, name in axes.items()}
            fields = {name: _field(part[name], axes, raw, path) for name in wanted}
    except InvdiffError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # a damaged chunk
        raise FormatError(f"{path} cannot be read: {error}; copy it again from its source") from error
    used = {str(d) for f in fields.values() for d in f.dims}
    found = xr.Dataset(fields, {k: v for k, v in coords.items() if k in used})
    found.attrs = {"Conventions": "CF-1.8", "source": str(path)}
    return found


def open_raw(path: Path, units: Mapping[str, str] | None = None) -> xr.Dataset:
    """Open a file with its own names and units, times decoded; raises as `read_fields`."""
    import xarray as xr

    engine = "netcdf4"
    if path.is_dir():
        if not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata")):
            raise FileError(f"{path} is a folder without zarr.json or .zgroup; expected a file or a Zarr folder")
        engine = _needs("zarr", "reading Zarr")
    elif (first := head(existing(path), 8)).startswith(b"GRIB"):
        engine = _needs("cfgrib", "reading GRIB")
    elif first[:3] == b"CDF":
        _check_length(path, first[3])
    elif first != b"\x89HDF\r\n\x1a\n":
        raise FormatError(f"{path} begins with {first!r}; expected NetCDF (CDF or HDF5), GRIB, or a Zarr folder")
    else:
        check_heaps(path)
    with parsing(path, "a dataset by CF"), warnings.catch_warnings():
        warnings.simplefilter("ignore", xr.SerializationWarning)  # integers whose _FillValue is NaN have none
        warnings.simplefilter("ignore", RuntimeWarning)  # Zarr without consolidated metadata opens more slowly
        # no index file beside the user's, and no field left out in silence where the file is cut short
        own = {"indexpath": "", "errors": "raise"} if engine == "cfgrib" else {}
        raw = xr.open_dataset(path, engine=engine, decode_times=False, backend_kwargs=own)
    for name, unit in (units or {}).items():
        if name not in raw.variables:
            raise InputError(f"units names {name!r}, which {path} does not hold: {', '.join(map(str, raw.variables))}")
        raw[name].attrs["units"] = unit
    return _with_times(raw, path)


def _with_times(raw: xr.Dataset, path: Path) -> xr.Dataset:
    """Decode the coordinates that are times, one by one, so that a failure can name the one."""
    import xarray as xr

    for name in map(str, raw.coords):
        if " since " not in str(raw[name].attrs.get("units", "")):
            continue
        try:
            alone = raw[name].reset_coords(drop=True).variable.to_base_variable()
            decoded = xr.decode_cf(xr.Dataset({"decoded": alone}), decode_timedelta=False)["decoded"]
            raw = raw.assign_coords({name: (decoded.dims, decoded.values, decoded.attrs)})
        except Exception as error:  # xarray and cftime refuse units and calendars in many ways
            about = {k: alone.attrs[k] for k in ("units", "calendar") if k in alone.attrs}
            raise FormatError(f"{path}: time {name!r} cannot be decoded from {about}: {error}") from error
    return raw


def _needs(package: str, purpose: str) -> str:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise missing_extra(package, "weather", purpose)
    return package


def _check_length(path: Path, version: int) -> None:
    """Refuse a classic file that is cut short: the NetCDF library would read zeros where the data end."""
    from scipy.io import netcdf_file

    if version not in (1, 2):
        return  # CDF-5, which scipy does not know
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # views of the map die with it
            netcdf_file(path, "r", mmap=True).close()
    except Exception as error:
        raise FormatError(f"{path} ends before its data do ({error}); copy it again from its source") from error


def _candidates(raw: xr.Dataset, path: Path) -> dict[str, list[str]]:
    """The names of all coordinates that are some axis; one latitude and one longitude."""
    found: dict[str, list[str]] = {}
    for name in map(str, raw.coords):
        kind = axis_of(name, raw[name], raw[name].attrs)
        if kind in ("latitude", "longitude") and raw[name].ndim != 1:
            raise FormatError(
                f"{path}: {kind} {name!r} has dimensions {raw[name].dims}; expected one: put curvilinear and single"
                " points on a latitude-longitude grid first"
            )
        if kind is not None and raw[name].ndim <= 1:
            found.setdefault(kind, []).append(name)
    for kind in ("latitude", "longitude"):
        names = found.get(kind, [])
        if not names:
            raise FormatError(
                f"{path} has no {kind}: no coordinate among {', '.join(map(str, raw.coords)) or 'none'} has units"
                f" {_ATTRS[kind]['units']} or standard_name {kind}; state it in the file, or with units={{NAME: ...}}"
            )
        if len(names) > 1:
            raise FormatError(f"{path} has {len(names)} coordinates for {kind}: {', '.join(names)}; expected one")
    return found


def _axes(raw: xr.Dataset, candidates: Mapping[str, list[str]], wanted: Sequence[str], path: Path) -> dict[str, str]:
    """The one coordinate of each axis that the wanted variables have."""
    used = {d for name in wanted for d in raw[name].dims}
    axes = {}
    for kind, names in candidates.items():
        names = [n for n in names if set(raw[n].dims) <= used]
        if kind == "time" and len(names) > 1:  # GRIB's: the forecast's start, and the time that it is valid for
            names = [n for n in names if raw[n].attrs.get("standard_name") == "time"] or names
        if len(names) > 1:
            names = [n for n in names if raw[n].ndim] or names  # a number beside an axis is of other variables
        if len(names) > 1:
            raise FormatError(
                f"{path} has {len(names)} coordinates for {kind}: {', '.join(names)}; read variables that share one"
                " together, with variables=[...], and the others apart"
            )
        if names:
            axes[kind] = names[0]
    return axes


def _wanted(
    raw: xr.Dataset, candidates: Mapping[str, list[str]], variables: Sequence[str] | None, path: Path
) -> list[str]:
    plane = {raw[candidates[kind][0]].dims[0] for kind in ("latitude", "longitude")}
    there = [str(n) for n, v in raw.data_vars.items() if plane <= set(v.dims) and v.dtype.kind in "iuf"]
    wanted = there if variables is None else [variables] if isinstance(variables, str) else list(variables)
    missing = [name for name in wanted if name not in there]
    if missing or not wanted:
        raise FormatError(
            f"{path} has no variable {', '.join(missing) or 'at all'} on its latitudes and longitudes; it has"
            f" {', '.join(there) or 'none'}"
        )
    return wanted


def _coordinate(kind: str, stored: xr.DataArray, path: Path) -> tuple[tuple[str], NDArray[Any], dict[str, str]]:
    where = f"{path}: {kind} {stored.name!r}"
    values = np.atleast_1d(np.asarray(stored.values))
    if kind == "level":
        factor, offset = conversion(stored.attrs.get("units"), "Pa", where)
        values = values.astype(np.float64) * factor + offset
    elif kind in ("latitude", "longitude"):
        values = values.astype(np.float64)
    if values.dtype.kind == "f" or values.dtype.kind == "M":
        bad = ~np.isfinite(values) if values.dtype.kind == "f" else np.isnat(values)
        if bad.any():
            raise FormatError(f"{where} holds NaN or a fill value at position {int(bad.argmax())}; expected numbers")
    if kind in ("latitude", "longitude"):
        low, high = (-90.0, 90.0) if kind == "latitude" else (-360.0, 540.0)
        if values.min() < low - 1e-6 or values.max() > high + 1e-6:
            raise FormatError(f"{where} runs from {values.min():g} to {values.max():g}; expected {low:g} to {high:g}")
    if kind == "level" and values.min() <= 0:
        raise FormatError(f"{where} goes down to {values.min():g} Pa; expected pressures above 0")
    if kind not in ("realization", "time") and len(values) > 1:
        steps = np.diff(np.unwrap(values, period=360.0) if kind == "longitude" else values)
        if not ((steps > 0).all() or (steps < 0).all()):
            raise FormatError(f"{where} neither ascends nor descends strictly; sort the file and drop what is double")
    return (kind,), values, dict(_ATTRS[kind])


def _field(stored: xr.DataArray, axes: Mapping[str, str], raw: xr.Dataset, path: Path) -> xr.DataArray:
    import xarray as xr

    where = f"{path}: variable {stored.name!r}"
    kinds = {raw[name].dims[0]: kind for kind, name in axes.items() if raw[name].ndim}
    for dim in [d for d in stored.dims if d not in kinds]:
        if stored.sizes[dim] != 1:
            raise FormatError(
                f"{where} has dimension {dim!r} of {stored.sizes[dim]}, which no CF attribute explains; choose one"
                f" position with select={{{str(dim)!r}: 0}}"
            )
        stored = stored.isel({dim: 0}, drop=True)
    values = stored.values
    dims = [kinds[d] for d in stored.dims]
    for kind, name in axes.items():  # an axis of one value may be a number, not a dimension
        if name in stored.coords and not raw[name].ndim and kind != "realization":
            values, dims = values[None], [kind, *dims]
    order = [dims.index(kind) for kind in AXES if kind in dims]
    units, known = stored.attrs.get("units"), quantity_of(str(stored.name), stored.attrs)
    attrs = {"units": str(units) if units is not None else "1"}
    values = np.asarray(values.transpose(order), np.float64)
    if known is not None:
        factor, offset = conversion(units, known.units, where)
        values = values * factor + offset
        attrs = {"units": known.units, "standard_name": known.standard_name}
    attrs.update(_kept(stored.attrs, ("long_name",)))
    return xr.DataArray(values.astype(np.float32), dims=[dims[i] for i in order], attrs=attrs)


def _kept(attrs: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    return {name: str(attrs[name]) for name in names if name in attrs}
