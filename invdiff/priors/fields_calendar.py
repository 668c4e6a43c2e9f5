"""What is normal at a time of day: the mean that anomalies depart from, and what a network is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["Calendar", "hours_and_season"]


@dataclass
class Calendar:
    """Windows of C channels at several times as standardised anomalies ``z = (x - normal)/std``.

    Attributes:
        hours: times of day (UTC) of the climatology, ascending.
        climatology: departures of their means from the mean of all, in units of std: ``(hours, C, rows, columns)``.
        mean, std: of each channel over space and time, in its unit: ``(C,)``; std is that of the anomalies.
        static: fields that do not change, about unit variance: ``(S, rows, columns)``.
        offsets: of a window's times from the one it is named after, in hours.
        annual: the cycle of the year in units of std, times the cosine and the sine of the season:
            ``(2, C, rows, columns)``; None where the states do not cover a year.
    """

    hours: tuple[float, ...]
    climatology: Tensor
    mean: Tensor
    std: Tensor
    static: Tensor
    offsets: tuple[float, ...] = (0.0,)
    annual: Tensor | None = None

    @property
    def conditions(self) -> int:
        """Channels of the condition: the number of a Gaussian, static fields, times, the normal field."""
        return 1 + len(self.static) + 4 + self.climatology.shape[1]

    def condition(self, times: NDArray[np.datetime64], which: Tensor | None = None) -> Tensor:
        """What the network is told at the times, ``(N, K, rows, columns)``; `which` as `FirstGuess` takes it."""
        times = np.atleast_1d(np.asarray(times))
        shape = self.static.shape[1:]
        hour, season = hours_and_season(times)
        angles = 2 * math.pi * torch.from_numpy(np.stack([hour / 24, season], 1)).float()
        told = [torch.zeros(len(times), 1) if which is None else which.float()[:, None], angles.sin(), angles.cos()]
        planes = torch.cat(told, 1)[:, :, None, None].expand(-1, -1, *shape).to(self.static)
        static = self.static.expand(len(times), *self.static.shape)
        return torch.cat([planes[:, :1], static, planes[:, 1:], self._normal(hour, season)], 1)

    def normal(self, times: NDArray[np.datetime64]) -> Tensor:
        """The climatology of windows, in the channels' units: ``(N, offsets x C, rows, columns)``."""
        times = np.atleast_1d(np.asarray(times))
        hour, season = hours_and_season(times)
        parts = [self._normal((hour + offset) % 24, season) for offset in self.offsets]
        mean, std = (v.repeat(len(self.offsets))[:, None, None] for v in (self.mean, self.std))
        return torch.cat(parts, 1) * std + mean

    def deviations(self) -> Tensor:
        """Standard deviations of a window's channels, ``(offsets x C, 1, 1)``."""
        return self.std.repeat(len(self.offsets))[:, None, None]

    def _normal(self, hour: NDArray[np.float64], season: NDArray[np.float64]) -> Tensor:
        """The climatology of the hour with the cycle of the year, ``(N, C, rows, columns)``."""
        if self.annual is None:
            return self._hourly(hour)
        angle = 2 * math.pi * torch.from_numpy(season).to(self.annual)[:, None, None, None]
        return self._hourly(hour) + angle.cos() * self.annual[0] + angle.sin() * self.annual[1]

    def _hourly(self, hour: NDArray[np.float64]) -> Tensor:
        """The climatology, linear between the hours it has, and round the clock."""
        known = np.asarray(self.hours)
        if len(known) == 1:
            return self.climatology[[0] * len(hour)]
        turned = np.concatenate([known, known[:1] + 24])
        at = known[0] + (hour - known[0]) % 24
        low = np.searchsorted(turned, at, side="right") - 1
        share = torch.from_numpy((at - turned[low]) / (turned[low + 1] - turned[low])).to(self.climatology)
        high = (low + 1) % len(known)
        share = share[:, None, None, None]
        return (1 - share) * self.climatology[low] + share * self.climatology[high]

    def to(self, target: torch.device | str | torch.dtype) -> Calendar:
        """Return a copy on a device or in a precision."""
        climatology, mean, std, static = (v.to(target) for v in (self.climatology, self.mean, self.std, self.static))
        annual = None if self.annual is None else self.annual.to(target)
        return Calendar(self.hours, climatology, mean, std, static, self.offsets, annual)

    def check(self, shape: Sequence[int]) -> None:
        """Raise ShapeError where the parts are not of channels and grid ``(C, rows, columns)``."""
        if tuple(self.climatology.shape[1:]) != tuple(shape) or len(self.climatology) != len(self.hours):
            raise ShapeError(f"the climatology is {tuple(self.climatology.shape)} for {len(self.hours)} hours, {shape}")


def hours_and_season(times: NDArray[np.datetime64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hour of the day (UTC), and the part of the year that has passed, of ``datetime64`` or cftime objects.

    Raises:
        InputError: they are neither.
    """
    times = np.atleast_1d(np.asarray(times))
    if times.dtype.kind == "M":
        hour = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h")
        year = times.astype("datetime64[Y]")
        first, last = year.astype("datetime64[D]"), (year + 1).astype("datetime64[D]")
        days = (times.astype("datetime64[D]") - first) / np.timedelta64(1, "D")
        return hour.astype(float), (days + hour / 24) / ((last - first) / np.timedelta64(1, "D"))
    if times.dtype == object and hasattr(times.flat[0], "dayofyr"):
        hour = np.array([t.hour + t.minute / 60 + t.second / 3600 for t in times])
        length = np.array([t.replace(month=12, day=30 if t.calendar == "360_day" else 31).dayofyr for t in times])
        return hour, (np.array([t.dayofyr - 1 for t in times]) + hour / 24) / length
    raise InputError(f"times are {times.dtype}; expected datetime64 or cftime objects")
