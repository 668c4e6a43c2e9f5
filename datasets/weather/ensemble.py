"""Draws as an ensemble data set by the CF conventions, in NetCDF, or in Zarr that grows along time."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.weather.cf import QUANTITIES
from invdiff.datasets.weather.clock import hours_since
from invdiff.datasets.weather.measurements import State
from invdiff.errors import FileError, InputError, ShapeError, missing_extra
from invdiff.files import replacing

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_later", "ensemble", "write_ensemble"]

_TIME = {"units": "seconds since 1970-01-01", "dtype": "int64"}


def ensemble(
    draws: Tensor, state: State, time: Any | Sequence[Any] = None, attrs: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Return draws as variables ``(time, realization, level, latitude, longitude)`` with CF attributes and units.

    Variables have the names of the state's channels; those whose levels differ have a level coordinate of their own.

    Args:
        draws: ``(M, C, latitude, longitude)``, or ``(times, M, C, latitude, longitude)``, in the state's units.
        state: of x.
        time: of the draws: one, or one for each of the leading axis; ``datetime64`` or cftime. None leaves it out.
        attrs: of the data set (prior, sampler, seed).

    Raises:
        ShapeError: draws do not fit the state, or times the draws.
    """
    import xarray as xr

    values = draws.detach().cpu()
    values = values[None] if values.ndim == 4 else values
    times = None if time is None else np.atleast_1d(np.asarray(time))
    if values.ndim != 5 or tuple(values.shape[2:]) != state.shape or not values.is_floating_point():
        raise ShapeError(
            f"draws are {tuple(draws.shape)} {draws.dtype}; expected real (M, *{state.shape}), or times first"
        )
    if (len(values) != 1) if times is None else (times.shape != (len(values),)):
        raise ShapeError(f"draws of {len(values)} times came with {0 if times is None else times.size} times")
    coords: dict[str, Any] = {
        "realization": ("realization", np.arange(values.shape[1]), {"standard_name": "realization", "units": "1"}),
        "latitude": (
            "latitude",
            list(state.latitude),
            {"units": "degrees_north", "standard_name": "latitude", "axis": "Y"},
        ),
        "longitude": (
            *("longitude", list(state.longitude)),
            {"units": "degrees_east", "standard_name": "longitude", "axis": "X"},
        ),
    }
    if times is not None:
        stamps = times.astype("datetime64[ns]") if times.dtype.kind == "M" else times
        coords["time"] = ("time", stamps, {"standard_name": "time", "axis": "T"})
    names = list(dict.fromkeys(c.name or c.quantity for c in state.channels))
    of = {n: [i for i, c in enumerate(state.channels) if (c.name or c.quantity) == n] for n in names}
    levels = {n: [state.channels[i].level for i in of[n]] for n in names}
    several = len({tuple(v) for v in levels.values() if v != [None]}) > 1
    variables = {}
    for n in names:
        channel = state.channels[of[n][0]]
        about = {"units": channel.units}
        if channel.quantity in QUANTITIES:
            about["standard_name"] = channel.quantity
        array, dims = values[:, :, of[n]].float().numpy(), ["time", "realization", "level", "latitude", "longitude"]
        if levels[n] == [None]:
            array, dims = array[:, :, 0], [d for d in dims if d != "level"]
        else:
            dims[2] = f"level_{n}" if several else "level"
            about_level = {"standard_name": "air_pressure", "units": "Pa", "axis": "Z", "positive": "down"}
            coords[dims[2]] = (dims[2], levels[n], about_level)
        if times is None:
            array, dims = array[0], dims[1:]
        variables[n] = (dims, array, about)
    return xr.Dataset(variables, coords, {"Conventions": "CF-1.8", **(attrs or {})})


def write_ensemble(data: xr.Dataset, path: str | Path) -> Path:
    """Write an ensemble: ``.zarr`` (extra ``weather``) is created, or grows by the later times; all else is NetCDF-4.

    Raises:
        FileError: it cannot be written. InputError: what is to be appended has other variables, members or coordinates,
            or a time that is not after those that are there. MissingExtraError: zarr is not installed.
    """
    path = Path(path)
    encoding: dict[str, dict[str, Any]] = {}
    if "time" in data.coords and data["time"].dtype.kind == "M":
        encoding["time"] = dict(_TIME)
    if path.suffix == ".zarr":
        return _zarr(data, path, encoding)
    for name in data.data_vars:
        encoding[str(name)] = {"zlib": True, "complevel": 1}
    with replacing(path) as part:
        unlimited = ["time"] if "time" in data.dims else []
        data.to_netcdf(part, engine="netcdf4", encoding=encoding, unlimited_dims=unlimited)
    return path


def _zarr(data: xr.Dataset, path: Path, encoding: dict[str, dict[str, Any]]) -> Path:
    try:
        import zarr  # noqa: F401 - xarray loads it by name
    except ImportError as error:
        raise missing_extra("zarr", "weather", "writing Zarr") from error
    try:
        if path.exists():
            _check_appended(data, path)
            data.to_zarr(path, append_dim="time", consolidated=False)
            return path
        if not path.parent.is_dir():
            raise FileError(f"cannot write {path}: its folder does not exist; create {path.parent.absolute()} first")
        part = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
        try:
            data.to_zarr(part, encoding=encoding, consolidated=False)
            os.replace(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot write {path}: {error}") from error
    return path


def check_later(path: str | Path, times: NDArray[Any]) -> None:
    """Raise InputError where an ensemble in Zarr is there already and the times do not ascend after its last one.

    Also raises FileError: what is there is not Zarr.
    """
    import xarray as xr

    if not Path(path).exists():
        return
    try:
        with xr.open_zarr(path, chunks=None, consolidated=False) as there:
            last = there["time"].values[-1]
    except Exception as error:  # a folder that is not Zarr, or a damaged one
        raise FileError(f"{path} exists and cannot be read as Zarr ({error}); move it away") from error
    hours = hours_since(times, last)
    if not (hours[0] > 0 and (np.diff(hours) > 0).all()):
        raise InputError(
            f"{path} ends at {str(last)[:19]}; appended times must come after it and ascend, not begin at"
            f" {str(times[0])[:19]}"
        )


def _check_appended(data: xr.Dataset, path: Path) -> None:
    import xarray as xr

    try:
        there = xr.open_zarr(path, chunks=None, consolidated=False)
    except Exception as error:  # a folder that is not Zarr, or a damaged one
        raise FileError(f"{path} exists and cannot be read as Zarr ({error}); move it away") from error
    with there:
        same = set(there.data_vars) == set(data.data_vars) and set(there.coords) == set(data.coords)
        shapes = same and all(there[n].dims == data[n].dims for n in data.data_vars)
        coords = shapes and all(there[n].equals(data[n]) for n in data.coords if n != "time")
        units = coords and all(there[n].attrs.get("units") == data[n].attrs.get("units") for n in data.data_vars)
        if not units or "time" not in data.dims:
            raise InputError(
                f"{path} holds {', '.join(map(str, there.data_vars))} on {dict(there.sizes)}; appended must be the same"
                f" variables, units, members and coordinates along time, not {', '.join(map(str, data.data_vars))} on"
                f" {dict(data.sizes)}"
            )
    check_later(path, data["time"].values)
