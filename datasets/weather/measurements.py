"""Fields and observations as measurements of one state: which channel of x is which quantity at which level.

Values stay in the units of `invdiff.datasets.weather.cf`. An observation's variance is that of its instrument plus that
of what the grid cannot represent: ``sigma^2 = error^2 + representativeness^2``. `invdiff.instruments.join` makes one
measurement of several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.weather.cf import VECTORS, quantity_of
from invdiff.datasets.weather.columns import Column, column_of
from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.diagonal import Diagonal
from invdiff.operators.fields.axes import sphere_neighbours
from invdiff.operators.fields.sensors import PointSensors
from invdiff.operators.fields.sphere import Coarsen

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Channel", "State", "coarse_measurement", "station_measurement"]


@dataclass(frozen=True)
class Channel:
    """A quantity (CF standard name, or the file's own), its level (Pa; None near the surface), its name and unit."""

    quantity: str
    level: float | None = None
    name: str = field(default="", compare=False)
    units: str = field(default="1", compare=False)


@dataclass(frozen=True)
class State:
    """What x is: channels ``(C, latitude, longitude)`` on a grid, coordinates in degrees."""

    channels: tuple[Channel, ...]
    latitude: tuple[float, ...]
    longitude: tuple[float, ...]

    def __post_init__(self) -> None:
        twice = [c for c in self.channels if self.channels.count(c) > 1]
        if twice or not self.channels:
            said = f"{twice[0].quantity} at {twice[0].level or 'the surface'} twice" if twice else "no channels"
            raise InputError(f"a state got {said}; give every quantity once a level, by naming the variables to read")

    @classmethod
    def of(cls, fields: xr.Dataset) -> State:
        """Return the state of fields that `read_fields` has read: variables in their order, each with its levels."""
        found = []
        for name, variable in fields.data_vars.items():
            known = quantity_of(str(name), variable.attrs)
            quantity = known.standard_name if known else str(name)
            units = str(variable.attrs.get("units", "1"))
            levels = fields["level"].values.tolist() if "level" in variable.dims else [None]
            found += [Channel(quantity, level, str(name), units) for level in levels]
        return cls(tuple(found), tuple(fields["latitude"].values.tolist()), tuple(fields["longitude"].values.tolist()))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Event shape of x."""
        return len(self.channels), len(self.latitude), len(self.longitude)

    @property
    def vectors(self) -> tuple[bool, ...]:
        """Which channels are components of the wind."""
        return tuple(c.quantity in VECTORS for c in self.channels)

    def coords(self) -> dict[str, Any]:
        """Coordinates of x, as a `Measurement` takes them."""
        lat, lon = {"units": "degrees_north"}, {"units": "degrees_east"}
        names = [c.name if c.level is None else f"{c.name}_{c.level / 100:g}hPa" for c in self.channels]
        return {
            "channel": (("channel",), np.array(names, dtype=str), {}),
            "latitude": (("latitude",), np.array(self.latitude), {**lat, "standard_name": "latitude"}),
            "longitude": (("longitude",), np.array(self.longitude), {**lon, "standard_name": "longitude"}),
        }

    def tensor(self, fields: xr.Dataset) -> Tensor:
        """Return fields of these channels as x, float32 ``(realizations and times, C, latitude, longitude)``.

        Raises:
            InputError: they are other channels or on another grid.
        """
        other = State.of(fields)
        if other != self:
            raise InputError(
                f"the fields have {other.shape} channels, latitudes and longitudes, the state {self.shape}, or their"
                " channels, levels or coordinates differ; expected the same"
            )
        return _stacked(fields)


def coarse_measurement(
    fields: xr.Dataset, state: State, sigma: float | Mapping[str, float], method: str = "area"
) -> Measurement:
    """Return coarse fields as a measurement of a finer state; several times or members make it batched.

    Args:
        fields: from `read_fields`; some or all of the state's channels. NaN is not measured.
        state: of x, whose grid covers that of the fields.
        sigma: standard deviation (instrument and representativeness together) in the quantity's unit: one number, or
            one for every quantity by its standard name.
        method: ``"area"``, means over the coarse cells weighted by their area, or ``"bilinear"`` values at the nodes.

    Raises:
        InputError: a channel is not one of the state's, no sigma is given for it, NaNs differ between times, the
            method is unknown, or the state does not cover the fields.
    """
    own = State.of(fields)
    missing = [c for c in own.channels if c not in state.channels]
    if missing:
        raise InputError(
            f"the coarse field holds {missing[0].quantity} at {missing[0].level or 'the surface'}, which the state does"
            f" not; it holds {', '.join(sorted({c.quantity for c in state.channels}))}"
        )
    if method not in ("area", "bilinear"):
        raise InputError(f"coarse_measurement got method {method!r}; expected 'area' or 'bilinear'")
    op: LinearOperator
    if method == "area":
        op = Coarsen(state.shape, state.latitude, state.longitude, own.latitude, own.longitude)
    else:
        points = torch.cartesian_prod(*(torch.tensor(v, dtype=torch.float64) for v in (own.latitude, own.longitude)))
        kinds = ("latitude", "longitude")
        axes = (state.latitude, state.longitude)
        op = PointSensors(state.shape, axes, points, kinds, vectors=state.vectors, units="degrees")
    chosen = torch.tensor([state.channels.index(c) for c in own.channels])
    if own.channels != state.channels:
        op = op[chosen]
    y = _stacked(fields).reshape(-1, *op.range_shape)
    seen = torch.isfinite(y)
    if not bool((seen == seen[0]).all()):
        raise InputError("the coarse field's missing values differ between its times; measure one time at a time")
    if not bool(seen.all()):
        op, y = op[seen[0]], torch.where(seen, y, 0.0)
    given = sigma if isinstance(sigma, Mapping) else {c.quantity: sigma for c in own.channels}
    absent = sorted({c.quantity for c in own.channels} - set(given))
    if absent:
        raise InputError(f"sigma names {', '.join(given) or 'nothing'}; it must name {', '.join(absent)} too")
    sigmas = torch.tensor([float(given[c.quantity]) for c in own.channels])
    noise = Gaussian(sigmas.reshape(-1, *[1] * (len(op.range_shape) - 1)))
    meta = {"instrument": "coarse field", "file": fields.attrs.get("source"), "method": method}
    batched = len(y) > 1
    return Measurement(y if batched else y[0], op, noise, state.coords(), meta, batched)


def station_measurement(
    observations: xr.Dataset,
    state: State,
    time: Any = None,
    tolerance: Any = None,
    error: Mapping[str, float] | None = None,
    representativeness: Mapping[str, float] | None = None,
) -> Measurement:
    """Return observations as a measurement: bilinear on the sphere, linear in ln p between the state's levels.

    What cannot be used is left out, never extrapolated, and counted in ``meta["left_out"]``: quantities that the state
    does not hold, levels beyond its own, places off its grid, other times, and all but the nearest in time of a
    station's reports of one thing.

    Args:
        observations: a table (`invdiff.datasets.weather.stations`).
        state: of x.
        time: of x, as NumPy takes it; not needed where the table holds one time only.
        tolerance: how far from `time` an observation may be, a ``timedelta64``; ten minutes if not given.
        error: standard deviation of the instruments by quantity, where the table has none.
        representativeness: standard deviation by quantity of what the grid does not resolve; 0 if not given.

    Raises:
        InputError: there are several times and none is chosen, an error is neither in the table nor given, or no
            observation is left.
    """
    found = _Rows(observations, state)
    found.at_time(time, np.timedelta64(10, "m") if tolerance is None else np.timedelta64(tolerance))
    column = found.on_grid()
    kind, rows = found.variable[found.rows], found.rows
    if not len(rows):
        raise InputError(f"no observation of {len(found.variable)} is left for this state: {found.left_out}")
    sigma = observations["error"].values.astype(np.float64)[rows]
    for k in set(kind):
        sigma[(kind == k) & np.isnan(sigma)] = (error or {}).get(k, np.nan)
    unknown = sorted(set(kind[np.isnan(sigma)]))
    if unknown:
        raise InputError(
            f"the error of {', '.join(unknown)} is neither in the table nor given; give it: --error QUANTITY=SD, or"
            " error={...}"
        )
    extra = np.array([(representativeness or {}).get(k, 0.0) for k in kind])
    if not (sigma > 0).all() or not (extra >= 0).all():
        raise InputError("an error is not above 0, or a representativeness below 0; both are standard deviations")
    y = torch.from_numpy(observations["value"].values[rows].astype(np.float32))
    noise = Gaussian(torch.from_numpy(np.hypot(sigma, extra).astype(np.float32)))
    meta = {
        "instrument": "observations",
        "file": observations.attrs.get("source"),
        "left_out": found.left_out,
        "variable": kind.tolist(),
        "station": observations["station"].values[rows].tolist(),
        "row": rows.tolist(),
    }
    return Measurement(y, _points(state, found.points[rows], column), noise, state.coords(), meta)


class _Rows:
    """Which rows of a table are used, and how many were left out for what reason."""

    def __init__(self, table: xr.Dataset, state: State) -> None:
        self.variable = table["variable"].values.astype(str)
        self.level = table["level"].values.astype(np.float64)
        self.points = torch.from_numpy(np.stack([table[k].values for k in ("latitude", "longitude")], 1).astype(float))
        self.time, self.station = table["time"].values, table["station"].values.astype(str)
        self.state, self.rows = state, np.arange(len(self.variable))
        self.left_out: dict[str, int] = {}

    def at_time(self, time: Any, tolerance: np.timedelta64) -> None:
        there = np.unique(self.time)
        if time is None and len(there) > 1:
            raise InputError(
                f"the observations are of {len(there)} times, {there[0]} to {there[-1]}; choose one, time="
            )
        gap = np.abs(self.time - (there[0] if time is None else np.datetime64(time)))
        self._keep("another time", gap <= tolerance)
        order = self.rows[np.argsort(gap[self.rows], kind="stable")]
        place = [self.station, self.variable, self.level, *self.points.numpy().T]
        keys = np.stack([np.unique(k[order], return_inverse=True)[1] for k in place], 1)
        first = np.unique(keys, axis=0, return_index=True)[1] if len(order) else np.arange(0)
        self._keep("repeated", np.isin(np.arange(len(self.time)), order[first]))

    def on_grid(self) -> Column:
        lat, lon = (torch.tensor(v, dtype=torch.float64) for v in (self.state.latitude, self.state.longitude))
        inside = sphere_neighbours(lat, lon, self.points).inside.numpy()
        self._keep("not a quantity of the state", np.isin(self.variable, [c.quantity for c in self.state.channels]))
        self._keep("off the grid", inside)
        channels = [(c.quantity, c.level) for c in self.state.channels]
        column = column_of(channels, self.variable, self.level)
        self._keep("no level about it", column.inside)
        return column.at(self.rows)

    def _keep(self, reason: str, good: NDArray[np.bool_]) -> None:
        kept = self.rows[good[self.rows]]
        if len(kept) < len(self.rows):
            self.left_out[reason] = len(self.rows) - len(kept)
        self.rows = kept


def _points(state: State, points: Tensor, column: Column) -> LinearOperator:
    def at(channel: NDArray[np.int64]) -> PointSensors:
        axes, kinds = (state.latitude, state.longitude), ("latitude", "longitude")
        chosen = torch.from_numpy(channel)
        return PointSensors(state.shape, axes, points, kinds, chosen, state.vectors, units="degrees")

    if not column.share.any():
        return at(column.low)
    share = torch.from_numpy(column.share.astype(np.float32))
    return Diagonal(1 - share, share.shape) @ at(column.low) + Diagonal(share, share.shape) @ at(column.high)


def _stacked(fields: xr.Dataset) -> Tensor:
    planes = []
    lead = {str(d): n for d, n in fields.sizes.items() if d in ("realization", "time")}
    for name, variable in fields.data_vars.items():
        absent = [d for d in lead if d not in variable.dims]
        if absent:  # static: the same at every time
            variable = variable.expand_dims({d: lead[d] for d in absent})
        levels = ["level"] if "level" in variable.dims else []
        values = variable.transpose(*lead, *levels, "latitude", "longitude").values
        if values.dtype.kind != "f":
            raise ShapeError(f"variable {name!r} is {values.dtype}; expected floating point, as read_fields gives it")
        height = values.shape[len(lead)] if levels else 1
        planes.append(values.reshape(-1, height, *values.shape[-2:]))
    return torch.from_numpy(np.concatenate(planes, 1).astype(np.float32))
