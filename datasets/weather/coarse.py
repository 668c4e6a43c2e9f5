"""A coarse field alone as a measurement: x lives on its grid, every cell divided into equal parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from invdiff.datasets.weather.measurements import Channel, State, coarse_measurement
from invdiff.datasets.weather.netcdf import read_fields
from invdiff.errors import FileError, InputError
from invdiff.files import existing, head
from invdiff.hdf5 import MAGIC, open_hdf5
from invdiff.measurement import Measurement

__all__ = ["read", "recognise", "refined"]


def recognise(path: str | Path) -> bool:
    """Whether this is GRIB, classic NetCDF, or HDF5 with a latitude and a longitude at its root."""
    try:
        first = head(existing(path), 8)
        if first.startswith(MAGIC):
            with open_hdf5(path) as file:
                told = [(_text(v, "units").lower(), _text(v, "standard_name")) for v in file.values()]
            return all(any(w in units or name == s for units, name in told) for w, s in _AXES)
        return first.startswith(b"GRIB") or first[:3] == b"CDF"
    except FileError:
        return False


def read(
    path: str | Path,
    factor: int | None = None,
    sigma: float | Mapping[str, float] | None = None,
    time: int = 0,
    variables: Sequence[str] | None = None,
    method: str = "area",
) -> Measurement:
    """Read one time of a coarse field as a measurement of a field `factor` times finer each way.

    Args:
        path: of the file (`invdiff.datasets.weather.netcdf`).
        factor: into how many parts a cell is divided along each axis.
        sigma: standard deviation of the field, in its unit (`coarse_measurement`).
        time: position of the time along its dimension.
        variables: names of those to read; all if not given.
        method: ``"area"`` or ``"bilinear"``.

    Raises:
        FileError, FormatError: as `read_fields`. InputError: factor or sigma is not given, there is no such time, or
            the grid is not even.
    """
    if factor is None or sigma is None:
        raise InputError(f"{path} is a coarse field: say how much finer x is, factor=..., and its error, sigma=...")
    fields = read_fields(path, variables)
    if "realization" in fields.dims:
        raise InputError(f"{path} holds {fields.sizes['realization']} members; a measurement is one field")
    if "time" in fields.dims:
        if not 0 <= time < fields.sizes["time"]:
            raise InputError(f"{path} has {fields.sizes['time']} times; time is {time}, expected its position from 0")
        fields = fields.isel(time=time)
    return coarse_measurement(fields, refined(State.of(fields), factor), sigma, method)


def refined(state: State, factor: int) -> State:
    """Return the state of the same channels with every cell divided into `factor` x `factor`.

    Raises:
        InputError: the factor is below 1, an axis is not even, or a row at a pole would reach beyond it.
    """
    if factor < 1:
        raise InputError(f"factor is {factor}; expected a whole number of at least 1")
    latitude, longitude = (
        _divided(v, factor, n) for v, n in ((state.latitude, "latitude"), (state.longitude, "longitude"))
    )
    if max(map(abs, latitude)) > 90:
        raise InputError(
            f"the grid has a row at latitude {max(state.latitude, key=abs):g}; divided it would pass the pole"
        )
    channels = tuple(Channel(c.quantity, c.level, c.name, c.units) for c in state.channels)
    return State(channels, latitude, longitude)


_AXES = (("degrees_north", "latitude"), ("degrees_east", "longitude"))


def _text(variable: object, name: str) -> str:
    found = getattr(variable, "attrs", {}).get(name, "")
    return found.decode("latin-1") if isinstance(found, bytes) else str(found)


def _divided(axis: Sequence[float], factor: int, name: str) -> tuple[float, ...]:
    values = np.asarray(axis)
    steps = np.diff(np.unwrap(values, period=360.0) if name == "longitude" else values)
    if len(steps) < 1 or not np.allclose(steps, steps[0], rtol=1e-4):
        raise InputError(f"the {name} of the coarse field is not evenly spaced or has one value; give the state itself")
    inside = (np.arange(factor) + 0.5) / factor - 0.5
    return tuple((values[:, None] + steps.mean() * inside).ravel().tolist())
