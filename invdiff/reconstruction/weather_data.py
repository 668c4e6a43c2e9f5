"""What was observed of the atmosphere, by time: fields and tables from files as measurements of the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.weather import igra, metar
from invdiff.datasets.weather.clock import hours_since, later
from invdiff.datasets.weather.errors import stated_errors
from invdiff.datasets.weather.measurements import State, coarse_measurement, station_measurement
from invdiff.datasets.weather.netcdf import read_fields
from invdiff.datasets.weather.stations import read_stations
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.priors.fields_calendar import Calendar

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Observed"]

_SKIPPED = "no observation"  # how `station_measurement` begins to say that nothing is left
FAR = 20.0  # standard deviations from what is normal, and no weather any more: a wrong unit, or a broken instrument


class Observed:
    """Coarse fields and tables of observations, asked for by the time of a window.

    Observations further than 20 standard deviations from what is normal are left out and counted; a field with such
    values is refused, because its unit is then wrong.

    Args:
        coarse: a file of fields, whose times are those of the problem; None for those of the observations.
        stations: tables, told apart by content: IGRA, METAR (a row a report), or CSV and Parquet (a row a value).
        state: of x. calendar: what is normal, and the offsets of a window.
        sigma: error of the fields; None for what the file states. error, representativeness: of observations.

    Raises:
        InvdiffError: a file cannot be read, an error is missing, or one of the files has nothing that can be used.
    """

    def __init__(
        self,
        coarse: Path | None,
        stations: Sequence[Path],
        state: State,
        calendar: Calendar,
        sigma: float | Mapping[str, float] | None = None,
        error: Mapping[str, float] | None = None,
        representativeness: Mapping[str, float] | None = None,
    ) -> None:
        self.state, self.calendar = state, calendar
        self.error, self.representativeness = error, representativeness
        self.fields = read_fields(coarse) if coarse else None
        self.tables = [_table(path) for path in stations]
        self.left_out: dict[str, int] = {}
        self.sigma: float | Mapping[str, float] = {}
        if self.fields is not None and coarse is not None:
            self.sigma = _sigma(coarse, sigma)
            if "time" not in self.fields.dims or "realization" in self.fields.dims:
                raise InputError(f"{coarse} has dimensions {dict(self.fields.sizes)}; expected one field at each time")
            self.times = self.fields["time"].values
            if all(self._coarse(at) is None for at in self.times):
                raise InputError(f"{coarse} holds no value at any of its {len(self.times)} times, only missing ones")
        elif self.tables:
            self.times = np.unique(np.concatenate([t["time"].values for t in self.tables]))
        else:
            raise InputError("there is neither a coarse field nor a table of stations to go by")
        if self.tables and not isinstance(self.times[0], np.datetime64):
            raise InputError(
                f"the fields' times are of the {self.times[0].calendar} calendar, observations of the standard one;"
                " they cannot be put together"
            )
        for i in range(len(self.tables)):
            self._check_used(i)
        if self.fields is None:
            self.times = np.array([at for at in self.times if self.about(at)])
        told = [f"coarse fields {dict(self.fields.sizes)}"] if self.fields is not None else []
        self.told = ", ".join(told + [f"{t.sizes['observation']} reports" for t in self.tables])

    def about(self, time: Any) -> dict[int, list[Measurement]]:
        """Measurements of states by their position in the window about a time."""
        out: dict[int, list[Measurement]] = {}
        for k, hours in enumerate(self.calendar.offsets):
            at = later(time, hours)
            of_tables = (self._stations(i, at) for i in range(len(self.tables)))
            found = [m for m in (self._coarse(at), *of_tables) if m is not None]
            if found:
                out[k] = found
        return out

    def _coarse(self, at: Any) -> Measurement | None:
        if self.fields is None:
            return None
        where = np.flatnonzero(np.abs(hours_since(self.fields["time"].values, at)) <= 1 / 3600)
        if not len(where):
            return None
        part = self.fields.isel(time=int(where[0]))
        if not any(bool(np.isfinite(v.values).any()) for v in part.data_vars.values()):
            return None
        m = coarse_measurement(part, self.state, self.sigma)
        y, usual, far = self._far(m, at)
        if bool(far.any()):
            i = int(far.int().argmax())
            raise InputError(
                f"{self.fields.attrs.get('source')} holds {float(y[i]):.4g} at {str(at)[:19]}, where"
                f" {float(usual[i]):.4g} is normal in the prior's unit; is its unit the one that the file states?"
            )
        return m

    def _stations(self, i: int, at: Any) -> Measurement | None:
        try:
            m = self._reports(i, at)
            far = self._far(m, at)[2]
            if bool(far.any()):
                bad = np.array(m.meta["row"])[far.numpy()]
                self.tables[i] = self.tables[i].drop_isel(observation=bad)
                reason = f"more than {FAR:g} standard deviations from what is normal"
                self.left_out[reason] = self.left_out.get(reason, 0) + len(bad)
                m = self._reports(i, at)
        except InputError as error:
            if str(error).startswith(_SKIPPED):
                return None
            raise
        for reason, count in m.meta["left_out"].items():
            if reason != "another time":
                self.left_out[reason] = max(self.left_out.get(reason, 0), count)
        return m

    def _reports(self, i: int, at: Any) -> Measurement:
        return station_measurement(
            self.tables[i], self.state, at, error=self.error, representativeness=self.representativeness
        )

    def _far(self, m: Measurement, at: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Data, what is normal for them, and which of them are far from it; flat."""
        now = replace(self.calendar, offsets=(0.0,))
        normal = now.normal(np.atleast_1d(at))
        usual, std = m.operator.forward(normal)[0], m.operator.forward(now.deviations().expand_as(normal))[0]
        sigma = torch.as_tensor(getattr(m.noise, "sigma", 0.0))  # Gaussian, all of them
        far = (m.data[0] - usual).abs() > FAR * torch.hypot(std, sigma.expand_as(std))
        if m.operator.range_mask is not None:
            far = far & m.operator.range_mask.bool().expand_as(far)
        return m.data[0].flatten(), usual.flatten(), far.flatten()

    def _check_used(self, i: int) -> None:
        table, said = self.tables[i], ""
        for at in self.times:
            for hours in self.calendar.offsets:
                if self._stations(i, later(at, hours)) is not None:
                    return
        stamps = table["time"].values
        try:
            self._reports(i, self.times[0])
        except InputError as error:
            said = str(error).partition(": ")[2]
        own, asked = (f"{str(v.min())[:19]} to {str(v.max())[:19]}" for v in (stamps, self.times))
        raise InputError(
            f"none of the {table.sizes['observation']} reports of {table.attrs.get('source')} can be used: their times"
            f" are {own}, the problem's {asked}; left out: {self.left_out or said}"
        )


def _table(path: Path) -> xr.Dataset:
    if igra.recognise(path):
        return igra.read_igra(path, incomplete="drop")
    return metar.read_metar(path) if metar.recognise(path) else read_stations(path)


def _sigma(coarse: Path, sigma: float | Mapping[str, float] | None) -> float | Mapping[str, float]:
    if sigma is None:
        found = stated_errors(coarse)
        if not found:
            raise InputError(f"{coarse} states no error of its fields; give it with --sigma, in their unit")
        return found
    for value in sigma.values() if isinstance(sigma, Mapping) else (sigma,):
        if not value > 0:
            raise InputError(f"--sigma is {value:g}; expected the standard deviation of the field in its unit, above 0")
    return sigma
