"""The measurement file: HDF5, which xarray and other NetCDF4 readers open too. Version 1.

====================  =============================================================================================
attributes of ``/``   ``invdiff_format = "measurement"``, ``version``, ``batched`` (0 or 1)
``/y``                the data
``/operator``         attribute ``kind``: name in the entry-point group ``invdiff.operators``, or one of the
                      algebra (``invdiff.operators.algebra``); its constructor's arguments: tensors as
                      arrays, operators as groups of the same layout, all others in ``arguments`` (JSON)
``/noise``            attribute ``kind = "gaussian"``; ``sigma``, per real component
``/coords/NAME``      values; attribute ``dims`` (JSON list), and those of the coordinate (``units``)
``/meta``             JSON
====================  =============================================================================================

An array carries its type as attribute ``dtype``. Complex arrays have a last axis (re, im), booleans are stored as 0
and 1, half precision as float32, times as integers with CF ``units``. Complex numbers in JSON
are ``{"__complex__": [re, im]}``.

Nothing in a file names code to be run: only operators that are installed under ``invdiff.operators``, and the
algebra, are ever built, from arrays and JSON.
"""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import FormatError, InputError, InvdiffError
from invdiff.hdf5 import (
    creating,
    get_array,
    get_group,
    get_json,
    get_tensor,
    open_hdf5,
    plain_attribute,
    put_json,
    put_tensor,
)
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian, Noise
from invdiff.operators import algebra
from invdiff.operators.base import Operator

if TYPE_CHECKING:
    import h5py

__all__ = ["VERSION", "load_measurement", "save_measurement"]

VERSION = 1
_GROUP = "invdiff.operators"
_STACKS = (algebra.Stack, algebra.StackNonlinear)
_ALGEBRA: dict[str, type[Operator]] = {
    c.__name__: c
    for c in (
        *(algebra.Compose, algebra.ComposeNonlinear, algebra.Sum, algebra.Scale, algebra.Restrict),
        *(algebra.Adjoint, algebra.Normal, *_STACKS),
    )
}
_DIMENSION_SCALE = ("CLASS", "NAME", "REFERENCE_LIST")  # attributes that HDF5 keeps for its own use
_CF_TIME = "nanoseconds since 1970-01-01T00:00:00"


def save_measurement(measurement: Measurement, path: str | Path) -> Path:
    """Write a measurement; the whole file appears at once, replacing one of that name.

    Raises:
        InputError: the operator or noise cannot be saved, or meta holds what JSON cannot. FileError: it cannot be
            written.
    """
    path = Path(path)
    with creating(path) as file:
        file.attrs.update({"invdiff_format": "measurement", "version": VERSION, "batched": int(measurement.batched)})
        put_tensor(file, "y", measurement.y)
        _put_operator(file.create_group("operator"), measurement.operator)
        _put_noise(file.create_group("noise"), measurement.noise)
        coords = file.create_group("coords")
        for name, value in measurement.coords.items():
            _put_coordinate(coords, name, value)
        put_json(file, "meta", measurement.meta)
    return path


def load_measurement(path: str | Path) -> Measurement:
    """Read a measurement that `save_measurement` wrote.

    Raises:
        FileError: the file cannot be opened. FormatError: it is not a measurement file of this or an earlier version,
            something in it is missing or damaged, its parts do not fit together, or its operator is not installed.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        found = file.attrs.get("invdiff_format")
        if found != "measurement":
            raise FormatError(f"{path}: invdiff_format is {found!r}; expected 'measurement', in a measurement file")
        version = file.attrs.get("version")
        if not isinstance(version, np.integer) or not 1 <= version <= VERSION:
            raise FormatError(f"{path}: version is {version}; this invdiff reads 1 to {VERSION}: install a newer one")
        y = get_tensor(file, "y", path)
        operator = _operator(get_group(file, "operator", path), path)
        noise = _noise(get_group(file, "noise", path), path)
        held = get_group(file, "coords", path)
        coords = {name: _coordinate(held, name, path) for name in held}
        meta = get_json(file, "meta", path)
        batched = bool(file.attrs.get("batched", 0))
    try:
        return Measurement(y, operator, noise, coords, meta, batched)
    except InvdiffError as error:
        raise FormatError(f"{path}: its parts do not fit together: {error}") from error


# ---- operators ----------------------------------------------------------------------------------------------------
def _put_operator(group: h5py.Group, operator: Operator) -> None:
    group.attrs["kind"] = _kind(operator)
    plain = {}
    for name, value in operator.state().items():
        if isinstance(value, Operator):
            _put_operator(group.create_group(name), value)
        elif isinstance(value, Tensor):
            put_tensor(group, name, value)
        else:
            plain[name] = value
    put_json(group, "arguments", plain)


def _kind(operator: Operator) -> str:
    cls = type(operator)
    if _ALGEBRA.get(cls.__name__) is cls:
        return cls.__name__
    entries = [e for e in entry_points(group=_GROUP) if e.attr.split(".")[-1] == cls.__name__]
    for entry in entries:
        if _load(entry) is cls:
            return entry.name
    raise InputError(
        f"{cls.__module__}.{cls.__qualname__} cannot be saved: a file could not be read back, because this operator is"
        f" not registered. Add it to the entry-point group {_GROUP} of its distribution"
    )


def _operator(group: h5py.Group, path: Path) -> Operator:
    kind = group.attrs.get("kind")
    cls = _ALGEBRA.get(str(kind)) or _registered(kind, path)
    state = get_json(group, "arguments", path)
    for name, item in group.items():
        if hasattr(item, "items"):
            state[name] = _operator(item, path)
        elif name != "arguments":
            state[name] = get_tensor(group, name, path)
    try:
        if cls in _STACKS:
            return cls([state[f"op{i}"] for i in range(len(state))])
        return cls(**state)
    except Exception as error:  # constructors of plug-ins refuse in their own ways
        raise FormatError(f"{path}: operator {kind} cannot be built from {sorted(state)}: {error}") from error


def _registered(kind: Any, path: Path) -> type[Operator]:
    entries = entry_points(group=_GROUP)
    for entry in entries:
        if entry.name == kind:
            try:
                found = _load(entry)
            except InputError as error:
                raise FormatError(f"{path}: {error}") from error
            if isinstance(found, type) and issubclass(found, Operator):
                return found
            raise FormatError(f"{path}: {entry.value}, registered as operator {kind}, is not an Operator class")
    raise FormatError(
        f"{path}: operator is of kind {kind!r}, which is not installed; there are"
        f" {', '.join(sorted(entries.names))}. Install the package that registers it"
    )


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # a plug-in's import can fail in any way
        raise InputError(f"operator {entry.name} ({entry.value}) cannot be loaded: {error}") from error


# ---- noise and coordinates ------------------------------------------------------------------------------------------
def _put_noise(group: h5py.Group, noise: Noise) -> None:
    if type(noise) is not Gaussian:
        raise InputError(f"noise of type {type(noise).__name__} cannot be saved; Gaussian can")
    group.attrs["kind"] = "gaussian"
    sigma = noise.sigma if isinstance(noise.sigma, Tensor) else torch.tensor(noise.sigma, dtype=torch.float64)
    put_tensor(group, "sigma", sigma)


def _noise(group: h5py.Group, path: Path) -> Gaussian:
    if group.attrs.get("kind") != "gaussian":
        raise FormatError(f"{path}: noise is of kind {group.attrs.get('kind')!r}; expected 'gaussian'")
    try:
        return Gaussian(get_tensor(group, "sigma", path))
    except InvdiffError as error:
        raise FormatError(f"{path}: noise/sigma: {error}") from error


def _put_coordinate(group: h5py.Group, name: str, value: Any) -> None:
    import h5py
    import xarray as xr

    try:
        if not isinstance(value, (tuple, xr.DataArray, xr.Variable)):
            value = (name if np.ndim(value) else (), value)
        variable = xr.Variable(*value) if isinstance(value, tuple) else getattr(value, "variable", value)
    except Exception as error:  # xarray says what is wrong in many ways
        raise InputError(f"coords[{name!r}] is not a coordinate as xarray takes it: {error}") from error
    values, kind, attrs = np.asarray(variable.values), str(variable.dtype), dict(variable.attrs)
    if values.dtype.kind == "M":
        values, attrs = values.astype("datetime64[ns]").astype(np.int64), {**attrs, "units": _CF_TIME}
    elif values.dtype.kind in "OU":
        values, kind = np.asarray(values, dtype=h5py.string_dtype()), "str"
    elif values.dtype.kind not in "biuf":
        raise InputError(f"coords[{name!r}] holds {values.dtype}; expected numbers, text or times")
    try:
        stored = group.create_dataset(name, data=values.astype(np.uint8) if values.dtype == bool else values)
        stored.attrs.update({**attrs, "dtype": kind, "dims": json.dumps(list(variable.dims))})
    except (TypeError, ValueError) as error:
        raise InputError(f"coords[{name!r}] cannot be saved: {error}; expected numbers or text") from error
    if variable.dims == (name,):
        stored.make_scale(name)  # so NetCDF readers know the dimension by its name


def _coordinate(group: h5py.Group, name: str, path: Path) -> tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]:
    stored = get_array(group, name, path)
    attrs = {k: plain_attribute(v) for k, v in stored.attrs.items() if k not in _DIMENSION_SCALE}
    try:
        dims, kind = tuple(json.loads(attrs.pop("dims"))), str(attrs.pop("dtype"))
        if kind == "str":
            return dims, np.asarray(stored.asstr()[()], dtype=str), attrs
        values = np.asarray(stored[()])
        if kind.startswith("datetime64"):
            values = values.astype("datetime64[ns]")
            del attrs["units"]
        return dims, values.astype(kind), attrs
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path}: coords/{name} is not a coordinate ({error}); expected values with attributes dims and dtype"
        ) from error
