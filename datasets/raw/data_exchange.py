"""Tomographic counts and sinograms in HDF5 or NetCDF: the Data-Exchange layout, or plain arrays at the root.

=============  =========================  ===============================================================
array          Data-Exchange              plain (any of)
=============  =========================  ===============================================================
projections    ``exchange/data``          ``projections``, ``counts``, ``sinogram``, ``sinograms``
open beam      ``exchange/data_white``    ``flats``, ``flat``, ``white``, ``data_white``
no beam        ``exchange/data_dark``     ``darks``, ``dark``, ``data_dark``
angles         ``exchange/theta``         ``angles``, ``theta``, ``angle``
=============  =========================  ===============================================================

Data-Exchange is De Carlo et al. 2014, doi:10.1107/S160057751401604X; its axes are (theta, y, x). Plain projections are
``(views, rows, channels)`` or ``(views, channels)``; sinograms ``(rows, views, channels)`` are told by their axes'
names or by the number of angles, and by their own name where that leaves it open. Without an open beam the values are
line integrals. Angles are degrees unless their
``units`` say radians. A plain file may say as attributes of its root, in mm, ``pixel_size`` (rows and channels),
``source_axis``, ``source_detector``, and ``rotation_centre`` (a channel, from 0) and ``curved``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.projections import RawProjections
from invdiff.datasets.volume import MILLIMETRES
from invdiff.errors import FileError, FormatError, InputError
from invdiff.files import existing, head, parsing, sha256
from invdiff.hdf5 import get_array, open_hdf5, plain_attribute

__all__ = ["read", "recognise"]

_EXCHANGE = {"data": ("data",), "white": ("data_white",), "dark": ("data_dark",), "theta": ("theta",)}
_PLAIN = {
    "data": ("projections", "counts", "sinogram", "sinograms"),
    "white": ("flats", "flat", "white", "data_white"),
    "dark": ("darks", "dark", "data_dark"),
    "theta": ("angles", "theta", "angle"),
}
_VIEWS = ("theta", "angle", "angles", "view", "views", "projection", "projections")
_DEGREE = {
    "degree": 1.0,
    "degrees": 1.0,
    "degree(s)": 1.0,
    "deg": 1.0,
    "rad": 180 / np.pi,
    "radian": 180 / np.pi,
    "radians": 180 / np.pi,
}


@dataclass(frozen=True)
class _Array:
    values: NDArray[Any]
    attributes: Mapping[str, Any]
    axes: tuple[str, ...]  # names; empty where the file gives none


def recognise(path: str | Path) -> bool:
    """Whether this holds ``exchange/data``, or projections and angles at its root."""
    try:
        with _open(path) as (names, _, _):
            held = set(names)
    except FileError:
        return False
    plain = all(held & set(_PLAIN[what]) for what in ("data", "theta"))
    return "exchange/data" in held or (plain and "kspace" not in held)


def read(path: str | Path) -> RawProjections:
    """Read a scan.

    Raises:
        FileError: the file cannot be opened. FormatError: it is damaged, lacks projections or angles, or their shapes,
        units or values do not go together.
    """
    path = Path(path)
    with _open(path) as (names, get, attributes):
        exchange = "exchange/data" in names
        arrays: dict[str, _Array] = {}
        called = ""
        for what, known in (_EXCHANGE if exchange else _PLAIN).items():
            held = [name for k in known if (name := f"exchange/{k}" if exchange else k) in names]
            if held:
                called = held[0] if what == "data" else called
                arrays[what] = get(held[0])
                if arrays[what].values.dtype.kind not in "iuf":
                    raise FormatError(f"{path}: {held[0]} is {arrays[what].values.dtype}; expected real numbers")
            elif what in ("data", "theta"):
                raise FormatError(f"{path} has no {' or '.join(known)}; expected projections and their angles")
        detector = "measurement/instrument/detector/"
        sizes = [get(n) for n in (f"{detector}pixel_size_{a}" for a in "yx") if n in names] if exchange else []
    angles = _angles(arrays["theta"], path)
    projections = _views_first(arrays["data"], len(angles), path, called.startswith("sinogram"))
    shape = projections.shape
    frames = {k: _frames(arrays[k].values, shape, k, path) for k in ("white", "dark") if k in arrays}
    if "white" not in frames:
        unit = str(arrays["data"].attributes.get("units", ""))
        signs = {f"in {unit}": unit in ("count", "counts", "photons"), f"named {called}": called == "counts",
                 "whole numbers": projections.dtype.kind in "iu", "beside a dark field": "dark" in frames}  # fmt: skip
        told = [sign for sign, seen in signs.items() if seen]
        if told:
            raise FormatError(
                f"{path}: projections are {' and '.join(told)}, which line integrals are not, and there is no open beam"
                " to compare counts with (flats)"
            )
    meta = {"file": str(path), "format": "data-exchange" if exchange else "projections", "sha256": sha256(path)}
    try:
        geometry = _geometry(attributes, sizes, projections.shape[2], path)
        return RawProjections(projections, angles, frames.get("white"), frames.get("dark"), meta=meta, **geometry)
    except FileError:
        raise
    except InputError as error:
        raise FormatError(f"{path}: {error}") from error


@contextmanager
def _open(path: str | Path) -> Iterator[tuple[list[str], Any, dict[str, Any]]]:
    """Names of the arrays down to the third level, a function that reads one, and the attributes of the root."""
    path = existing(path)
    if head(path, 3) == b"CDF":
        yield _netcdf3(path)
        return
    with open_hdf5(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)

        def get(name: str) -> _Array:
            item = get_array(file, name, path)
            found = {key: plain_attribute(value) for key, value in item.attrs.items()}
            axes = tuple(str(found["axes"]).split(":")) if "axes" in found else ()
            scales = tuple(d.keys()[0].strip("/").split("/")[-1] if len(d) else "" for d in item.dims)
            return _Array(np.asarray(item[()]), found, axes or (scales if any(scales) else ()))

        yield names, get, {key: plain_attribute(value) for key, value in file.attrs.items()}


def _said(item: Any) -> dict[str, Any]:
    return {name: plain_attribute(item.getncattr(name)) for name in item.ncattrs()}


def _netcdf3(path: Path) -> tuple[list[str], Any, dict[str, Any]]:
    import netCDF4

    with parsing(path, "NetCDF"), netCDF4.Dataset(path) as file:
        file.set_auto_mask(False)
        arrays = {name: _Array(np.asarray(v[...]), _said(v), v.dimensions) for name, v in file.variables.items()}
        return list(arrays), arrays.__getitem__, _said(file)


def _angles(theta: _Array, path: Path) -> NDArray[np.float64]:
    """In radians."""
    values, unit = np.asarray(theta.values, np.float64).ravel(), str(theta.attributes.get("units", "")).strip().lower()
    if unit and unit not in _DEGREE:
        raise FormatError(f"{path}: angles are in {unit!r}; expected degrees or radians")
    if not unit and values.size > 1 and np.ptp(values) <= 2 * np.pi + 0.1:
        raise FormatError(
            f"{path}: angles from {values.min():.4g} to {values.max():.4g} have no units; expected the attribute"
            " units = 'degrees' or 'radians'"
        )
    return np.deg2rad(values * _DEGREE[unit or "degrees"])


def _views_first(data: _Array, views: int, path: Path, sinograms: bool) -> NDArray[Any]:
    """Projections as (views, rows, channels); where as many rows as views are there, the array's name decides."""
    values = data.values
    axes = [i for i, name in enumerate(data.axes) if name.lower() in _VIEWS]
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise FormatError(f"{path}: projections have shape {values.shape}; expected (views, rows, channels)")
    if not (len(axes) == 1 and axes[0] < values.ndim and values.shape[axes[0]] == views):
        axes = [i for i in range(values.ndim - 1) if values.shape[i] == views][:: -1 if sinograms else 1]
    if not axes or axes[0] == values.ndim - 1:
        raise FormatError(f"{path}: {views} angles do not go with projections of shape {values.shape}, one a view")
    values = np.moveaxis(values, axes[0], 0)
    return values[:, None] if values.ndim == 2 else values


def _frames(values: NDArray[Any], shape: tuple[int, ...], what: str, path: Path) -> NDArray[Any]:
    """Frames of the open beam or the dark as (frames, rows, channels)."""
    values = values[..., None, :] if shape[1] == 1 and values.shape[-2:] != shape[1:] else values
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1:] != shape[1:]:
        raise FormatError(f"{path}: the {what} field has shape {values.shape}; expected (frames, *{shape[1:]})")
    return values


def _geometry(attributes: Mapping[str, Any], sizes: list[_Array], channels: int, path: Path) -> dict[str, Any]:
    """What the file says of the scanner, as arguments of RawProjections."""

    def number(value: Any, name: str, at_least: float) -> float:
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "iuf" or not at_least < float(array.reshape(())) < np.inf:
            raise FormatError(f"{path} has {name} {value!r}; expected a number above {at_least:g}")
        return float(array.reshape(()))

    found: dict[str, Any] = {}
    if len(sizes) == 2:
        lengths = []
        for size in sizes:
            unit = str(size.attributes.get("units", "m")).strip()
            if unit not in MILLIMETRES:
                raise FormatError(f"{path}: the pixel size is in {unit!r}; expected one of {', '.join(MILLIMETRES)}")
            lengths.append(number(size.values, "pixel size", 0) * MILLIMETRES[unit])
        found["spacing"] = (lengths[0], lengths[1])
    elif "pixel_size" in attributes:
        given = np.ravel(attributes["pixel_size"]).tolist()
        pair = given * 2 if len(given) == 1 else given
        if len(pair) != 2:
            raise FormatError(f"{path} has pixel_size {given}; expected one or two numbers, in mm")
        found["spacing"] = (number(pair[0], "pixel_size", 0), number(pair[1], "pixel_size", 0))
    for name in ("source_axis", "source_detector"):
        if name in attributes:
            found[name] = number(attributes[name], name, 0)
    if ("source_axis" in found) != ("source_detector" in found):
        raise FormatError(f"{path} has one of source_axis and source_detector; expected both, in mm, or neither")
    if "rotation_centre" in attributes:
        step = found["spacing"][1] if "spacing" in found else 1.0
        found["offset"] = ((channels - 1) / 2 - number(attributes["rotation_centre"], "rotation_centre", -1)) * step
    if "curved" in attributes:
        found["curved"] = bool(number(attributes["curved"], "curved", -1))
    return found
