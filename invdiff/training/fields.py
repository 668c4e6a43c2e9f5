"""Training windows of gridded fields: anomalies of several hours at once, with a split in time.

States are read once and kept in memory. The Gaussian that the network starts from is fitted to all of them, and again
without each of several blocks of time: a window is trained on with the one that has not seen it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.weather.clock import hours_since, instant
from invdiff.errors import InputError
from invdiff.priors.fields_calendar import Calendar, hours_and_season
from invdiff.priors.fields_gaussian import LARGEST, fit_low_rank, gaspari_cohn, great_circle
from invdiff.priors.fields_guess import FirstGuess
from invdiff.priors.fields_weights import FieldBackbone, assemble
from invdiff.training.data_config import FieldsConfig
from invdiff.training.source import Batch

if TYPE_CHECKING:
    from invdiff.datasets.weather.measurements import State

__all__ = ["FieldsSource", "load_states"]


class FieldsSource:
    """Windows of standardised anomalies (`invdiff.priors.fields_calendar.Calendar`) with what the network is told.

    Raises:
        FileError, FormatError: see `read_fields`. InputError: there are too few times before the split, the files
            differ in their grid, or a window's offset is no multiple of the step between times.
    """

    domain = "real"

    def __init__(self, data: FieldsConfig, seed: int, highest: float) -> None:
        self.seed, self.data, self.highest = seed, data, highest
        state, times, x = load_states(data)
        self.state, self.times = state, times
        before = times < instant(data.train_until, times[0])
        after = ~before
        if data.validate_until is not None:
            after &= times < instant(data.validate_until, times[0])
        self.steps = _steps(times, data.offsets)
        train, rest = _windows(times, before, self.steps), _windows(times, after, self.steps)
        if len(train) < 4 * data.blocks or not len(rest):
            raise InputError(
                f"{len(train)} windows of {data.offsets} h lie before {data.train_until} and {len(rest)} after it;"
                f" expected at least {4 * data.blocks} and 1"
            )
        static = _static(data, state, x[before])
        whole = _calendar(x, times, before, data, static)
        self.calendar, self.channels = whole, len(data.offsets) * len(whole.mean)
        self.conditions = whole.conditions
        block = np.minimum(np.arange(len(train)) * data.blocks // len(train), data.blocks - 1)
        taper = _taper(state, data)
        self.gaussians, parts = [], []
        for i in range(data.blocks + 1):
            kept = before.copy()
            if i:
                kept[train[block == i - 1]] = False
            own = whole if i == 0 else _calendar(x, times, kept, data, static, whole)
            z = _anomalies(x, times, own)
            windows = _cut(z, _windows(times, kept, self.steps), self.steps)
            shape = (self.channels, *state.shape[1:])
            self.gaussians.append(fit_low_rank(windows.flatten(1), shape, data.rank, taper, data.shrink))
            if i:
                parts.append(_cut(z, train[block == i - 1], self.steps))
        self.x, self.which = torch.cat(parts), torch.from_numpy(block + 1)
        self.at, self.rest_at = times[train], times[rest]
        self.rest = _cut(_anomalies(x, times, whole), rest, self.steps)
        self.card: dict[str, Any] = {
            "units": None,
            "condition": {"kind": "fields", "channels": self.conditions},
            "fields": {
                "quantities": [c.quantity for c in state.channels],
                "levels": [c.level for c in state.channels],
                "names": [c.name for c in state.channels],
                "units": [c.units for c in state.channels],
                "vectors": list(state.vectors),
                "latitude": list(state.latitude),
                "longitude": list(state.longitude),
                "offsets": list(data.offsets),
                "hours": list(whole.hours),
                "mean": whole.mean.tolist(),
                "std": whole.std.tolist(),
                "tail": self.gaussians[0].tail,
                "highest": highest,
                "trained": [str(self.at[0]), str(self.at[-1])],
            },
        }

    def batch(self, step: int, n: int) -> Batch:
        """Training batch number `step`."""
        rng = torch.Generator().manual_seed(self.seed * 1_000_000_007 + step)
        rows = torch.randint(len(self.x), (n,), generator=rng)
        return Batch(self.x[rows], self.calendar.condition(self.at[rows.numpy()], self.which[rows]))

    def held_out(self, step: int, n: int) -> Batch:
        """Windows after the split, evenly spaced."""
        rows = np.linspace(0, len(self.rest) - 1, min(n, len(self.rest))).round().astype(int)
        rows = (rows + step) % len(self.rest)
        return Batch(self.rest[rows], self.calendar.condition(self.rest_at[rows]))

    def denoiser(self, architecture: Mapping[str, Any]) -> FirstGuess:
        """The untrained denoiser: the exact Gaussian one."""
        shape = {k: v for k, v in architecture.items() if k != "type"}
        s = self.state
        backbone = FieldBackbone(shape, self.gaussians[0], self.calendar, s.latitude, s.longitude, s.vectors)
        return assemble(backbone, self.card["fields"], self.gaussians[1:])


def load_states(data: FieldsConfig) -> tuple[State, NDArray[Any], Tensor]:
    """State, times and fields ``(T, C, rows, columns)`` of all files of a configuration, in their order of time."""
    from invdiff.datasets.weather.measurements import State
    from invdiff.datasets.weather.netcdf import read_fields

    state: State | None = None
    times, parts = [], []
    for path in data.paths:
        select = {k: slice(*v) for k, v in data.select.items()}
        fields = read_fields(os.path.expandvars(path), data.variables, select)
        if "time" not in fields.dims or "realization" in fields.dims:
            raise InputError(
                f"{path} has dimensions {dict(fields.sizes)}; training takes one state at each of many times"
            )
        state = State.of(fields) if state is None else state
        parts.append(state.tensor(fields))  # raises where the grids differ
        times.append(fields["time"].values)
    if state is None:
        raise InputError("no files are named to train on")
    stamps = np.concatenate(times)
    order = np.argsort(stamps, kind="stable")
    x = torch.cat(parts)[torch.from_numpy(order)]
    if not bool(torch.isfinite(x).all()):
        raise InputError("the fields to train on have missing values; leave those variables or times out")
    return state, stamps[order], x


def _steps(times: NDArray[Any], offsets: list[float]) -> list[int]:
    """Offsets in positions along the times."""
    step = _step(hours_since(times, times[0]))
    found = [offset / step for offset in offsets]
    if any(abs(f - round(f)) > 1e-6 for f in found):
        raise InputError(f"the window's offsets {offsets} h are no multiples of the step between times, {step:g} h")
    return [round(f) for f in found]


def _step(hours: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(hours))) if len(hours) > 1 else 1.0


def _windows(times: NDArray[Any], good: NDArray[np.bool_], steps: list[int]) -> NDArray[np.int64]:
    """Positions about which a whole window of good, evenly spaced times is there."""
    hours, count = hours_since(times, times[0]), len(times)
    step, centre = _step(hours), np.arange(count)
    kept = good.copy()
    for k in steps:
        other = centre + k
        there = (other >= 0) & (other < count)
        other = other.clip(0, count - 1)
        kept &= there & good[other] & (np.abs(hours[other] - hours - k * step) < 1e-3)
    return np.flatnonzero(kept)


def _cut(z: Tensor, centres: NDArray[np.int64], steps: list[int]) -> Tensor:
    """Windows ``(N, offsets x C, rows, columns)``."""
    return torch.cat([z[torch.from_numpy(centres + k)] for k in steps], 1)


def _calendar(
    x: Tensor,
    times: NDArray[Any],
    used: NDArray[np.bool_],
    data: FieldsConfig,
    static: Tensor,
    like: Calendar | None = None,
) -> Calendar:
    """What is normal, from the used times; mean, std and the year's cycle from `like`, so that units agree."""
    hour, season = hours_and_season(times)
    known = np.unique(hour)
    part, at = x[torch.from_numpy(used)].double(), hour[used]
    annual = None
    if like is None:
        annual = _annual(part, at, season[used], times[used])
    elif like.annual is not None:
        annual = like.annual.double() * like.std.double()[:, None, None]
    if annual is not None:
        part = part - _cycle(season[used], annual)
    mean = part.mean((0, 2, 3)) if like is None else like.mean.double()
    normal = torch.stack([part[torch.from_numpy(at == h)].mean(0) if (at == h).any() else part.mean(0) for h in known])
    rest = part - normal[torch.from_numpy(np.searchsorted(known, at))]
    std = rest.square().mean((0, 2, 3)).sqrt() if like is None else like.std.double()
    if not bool((std > 0).all()):
        raise InputError("a variable to train on does not vary about its mean by hour of the day; leave it out")
    climatology = (normal - mean[:, None, None]) / std[:, None, None]
    cycle = None if annual is None else (annual / std[:, None, None]).float()
    return Calendar(
        tuple(known.tolist()), climatology.float(), mean.float(), std.float(), static, tuple(data.offsets), cycle
    )


def _cycle(season: NDArray[np.float64], annual: Tensor) -> Tensor:
    angle = 2 * np.pi * torch.from_numpy(season)[:, None, None, None]
    return angle.cos() * annual[0] + angle.sin() * annual[1]


def _annual(x: Tensor, hour: NDArray[np.float64], season: NDArray[np.float64], times: NDArray[Any]) -> Tensor | None:
    """The first harmonic of the year ``(2, C, rows, columns)`` in x's unit, by least squares beside a mean an hour.

    None where the times do not cover a year: the season is then part of the mean.
    """
    if float(hours_since(times[-1:], times[0])[0]) < 24 * 330:
        return None
    angle = 2 * np.pi * torch.from_numpy(season)
    waves, rest = torch.stack([angle.cos(), angle.sin()], 1), x.flatten(1).clone()
    for h in np.unique(hour):
        rows = torch.from_numpy(hour == h)
        waves[rows] -= waves[rows].mean(0)
        rest[rows] -= rest[rows].mean(0)
    return torch.linalg.lstsq(waves, rest).solution.reshape(2, *x.shape[1:])


def _anomalies(x: Tensor, times: NDArray[Any], calendar: Calendar) -> Tensor:
    now = replace(calendar, offsets=(0.0,))
    return (x - now.normal(times)) / now.deviations()


def _static(data: FieldsConfig, state: State, x: Tensor) -> Tensor:
    """Mean and variability of each channel, the grid's coordinates, and fields from files: about unit variance."""
    from invdiff.datasets.weather.measurements import State as Grid
    from invdiff.datasets.weather.netcdf import read_fields

    planes = [*x.mean(0), *x.std(0)]
    lat = torch.tensor(state.latitude).deg2rad().float()[:, None].expand(state.shape[1:])
    lon = torch.tensor(state.longitude).deg2rad().float()[None].expand(state.shape[1:])
    planes += [lat.sin(), lat.cos() * lon.sin(), lat.cos() * lon.cos()]
    for path in data.static:
        fields = read_fields(
            os.path.expandvars(path), None, {k: slice(*v) for k, v in data.select.items() if k != "time"}
        )
        grid = Grid.of(fields)
        if (grid.latitude, grid.longitude) != (state.latitude, state.longitude):
            raise InputError(f"{path} is on another grid than the fields to train on")
        planes += list(grid.tensor(fields)[0])
    out = torch.stack(planes)
    centred = out - out.mean((1, 2), keepdim=True)
    return centred / centred.std((1, 2), keepdim=True).clamp_min(1e-6)


def _taper(state: State, data: FieldsConfig) -> Any:
    channels, rows, columns = state.shape
    if len(data.offsets) * channels * rows * columns > LARGEST:
        return None
    lat, lon = torch.meshgrid(torch.tensor(state.latitude), torch.tensor(state.longitude), indexing="ij")
    space = gaspari_cohn(great_circle(lat.flatten(), lon.flatten()), data.reach_km)
    hours = torch.tensor(data.offsets, dtype=torch.float64)
    time = gaspari_cohn((hours[:, None] - hours).abs(), data.reach_hours)
    return lambda: torch.kron(torch.kron(time, torch.ones(channels, channels)), space).float()
