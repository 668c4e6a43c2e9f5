"""Reconstruct the last week of a month of real weather from coarse fields and stations; chaotic systems with a truth.

    python benchmarks/atmosphere.py --data $INVDIFF_DATA/atmosphere [--json w.json] [--prior weather.safetensors]

Hourly ERA5 2 m temperature over the British Isles, March 2019, 32 x 48 points at 0.25 degrees. Everything is fitted to
the first three weeks; three days after them choose what has to be chosen; the last week is the test. Data are made from
the test week: means over 4 x 4 and 8 x 8 cells (error 0.2 K) and 5, 10, 30 stations between the nodes (error 0.5 K).

`rows[]`: method, sources, rmse, crps, spread_skill, bias over the grid, each with a 90 % interval by bootstrap of whole
days; the same at 40 withheld stations; and `crps_gain`, the score of the best classical method less this one's, with
its interval. RMSE is of the ensemble's mean; CRPS is the fair one of its members, or exact where all is Gaussian.

Without --prior the network is trained first (`invdiff train weather`, a quarter of an hour on one core).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from atmosphere_classical import Grid, Source, bicubic, condition, gaussian_covariance, kriging_covariance
from chaos import particle_filter_rows
from record import write
from torch import Tensor

from invdiff.datasets.weather.measurements import State
from invdiff.guidance.declared import Declared
from invdiff.measurement import Measurement
from invdiff.metrics.bootstrap import block_bootstrap
from invdiff.metrics.ensemble import area_mean, crps, crps_gaussian
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.fields.sensors import PointSensors
from invdiff.operators.fields.sphere import Coarsen, block_axis
from invdiff.priors.fields_guess import FieldsPrior
from invdiff.priors.loading import load_prior
from invdiff.random import Streams
from invdiff.reconstruction.windows import states_of, window_measurement
from invdiff.samplers.warm import Warm
from invdiff.solvers import DPMpp2M
from invdiff.validation.linear_gaussian import real_matrix

FILE = "era5_t2m_uk_2019-03.nc"
TRAIN, TEST = 504, 576  # hours: three weeks; the last week begins
COARSE_ERROR, STATION_ERROR = 0.2, 0.5  # K
SOURCES = {
    "4x": (4, 0), "8x": (8, 0), "5 stations": (0, 5), "10 stations": (0, 10), "30 stations": (0, 30),
    "8x + 10 stations": (8, 10), "8x + 30 stations": (8, 30), "4x + 30 stations": (4, 30),
}  # fmt: skip


class Case:
    """Truth ``(T, rows, columns)`` in K, its normal by hour, instruments, and their noise, the same for all methods."""

    def __init__(self, data: Path) -> None:
        from invdiff.datasets.weather.netcdf import read_fields

        fields = read_fields(data / FILE, ["t2m"], {"latitude": slice(0, 32), "longitude": slice(0, 48)})
        self.state, self.times = State.of(fields), fields["time"].values
        self.truth = self.state.tensor(fields)[:, 0].double()
        hour = torch.from_numpy((self.times.astype("datetime64[h]").astype(int) % 24).astype(np.int64))
        normal = torch.stack([self.truth[:TRAIN][hour[:TRAIN] == h].mean(0) for h in range(24)])[hour]
        self.normal = normal.flatten(1)
        self.anomaly = self.truth.flatten(1) - self.normal
        lat, lon = (torch.tensor(v, dtype=torch.float64) for v in (self.state.latitude, self.state.longitude))
        self.latitude, self.grid = lat, Grid.of(lat, lon)
        rng = torch.Generator().manual_seed(9)
        low, high = (torch.stack([v.min(), w.min()]) for v, w in ((lat, lon), (-lat, -lon)))
        high = -high
        places = low + (high - low) * torch.rand(70, 2, generator=rng, dtype=torch.float64)
        self.places, self.sites = places[:30], real_matrix(self.stations(places[30:]))
        self.noise = torch.randn(len(self.truth), 500, generator=rng, dtype=torch.float64)
        self.operators = {name: self._operators(*what) for name, what in SOURCES.items()}
        self.sources = {name: self._source(name) for name in SOURCES}

    def stations(self, places: Tensor) -> PointSensors:
        axes = (self.state.latitude, self.state.longitude)
        channel = torch.zeros(len(places), dtype=torch.long)
        return PointSensors(self.state.shape, axes, places, ("latitude", "longitude"), channel, units="degrees")

    def _operators(self, factor: int, count: int) -> list[tuple[LinearOperator, float]]:
        lat, lon = self.state.latitude, self.state.longitude
        found: list[tuple[LinearOperator, float]] = []
        if factor:
            cells = block_axis(lat, factor), block_axis(lon, factor)
            found.append((Coarsen(self.state.shape, lat, lon, *cells), COARSE_ERROR))
        if count:
            found.append((self.stations(self.places[:count]), STATION_ERROR))
        return found

    def _source(self, name: str) -> Source:
        parts = [(real_matrix(op), sigma) for op, sigma in self.operators[name]]
        sigma = torch.cat([torch.full((len(a),), s, dtype=torch.float64) for a, s in parts])
        return Source(torch.cat([a for a, _ in parts]), sigma, SOURCES[name][0])

    def data(self, name: str, times: Tensor | slice) -> Tensor:
        """Anomalies as measured, ``(T, m)``."""
        a, sigma, _ = self.sources[name]
        return self.anomaly[times] @ a.mT + sigma * self.noise[times, : len(sigma)]

    def instruments(self, name: str, hour: int) -> list[Measurement]:
        """The same data as measurements of the field of one hour, in K."""
        y = (self.data(name, slice(hour, hour + 1)) + self.normal[hour] @ self.sources[name].matrix.mT)[0].float()
        out = []
        for op, sigma in self.operators[name]:
            part, y = y[: math.prod(op.range_shape)], y[math.prod(op.range_shape) :]
            out.append(Measurement(part.reshape(op.range_shape), op, Gaussian(sigma)))
        return out


def scored(
    case: Case, hours: Tensor, mean: Tensor, stds: tuple[Tensor, Tensor] | None = None, members: Tensor | None = None
) -> Tensor:
    """Per hour: square error, variance, CRPS and error over the grid, then at withheld stations: ``(T, 8)``.

    Args:
        mean: ``(T, points)`` anomalies. stds: of a Gaussian at all points, and at the withheld stations.
        members: ``(M, T, points)``.
    """
    shape = (-1, *case.grid.shape)
    truth = case.anomaly[hours]

    def columns(truth: Tensor, mean: Tensor, var: Tensor, score: Tensor, field: bool) -> list[Tensor]:
        rows = ((mean - truth) ** 2, var, score, mean - truth)
        return [area_mean(r.reshape(shape), case.latitude) if field else r.mean(1) for r in rows]

    out = []
    for i, at in enumerate((None, case.sites.mT)):
        t, m, draws = (v if at is None or v is None else v @ at for v in (truth, mean, members))
        if draws is not None:
            var, score = draws.var(0), crps(draws, t)
        elif stds is not None:
            var, score = (stds[i] ** 2).expand_as(t), crps_gaussian(m, stds[i].expand_as(t), t)
        else:
            var, score = torch.full_like(t, math.nan), (m - t).abs()
        out += columns(t, m, var, score, at is None)
    return torch.stack(out, 1)


def row(method: str, source: str, series: Tensor, members: int | None, extra: dict[str, Any]) -> dict[str, Any]:
    """Figures of a series ``(T, 8)``, with intervals."""
    factor = 1.0 if members is None else math.sqrt((members + 1) / members)
    statistics = {
        "rmse": lambda v: v[:, 0].mean().sqrt(),
        "crps": lambda v: v[:, 2].mean(),
        "spread_skill": lambda v: factor * (v[:, 1].mean() / v[:, 0].mean()).sqrt(),
        "bias": lambda v: v[:, 3].mean(),
        "withheld_rmse": lambda v: v[:, 4].mean().sqrt(),
        "withheld_crps": lambda v: v[:, 6].mean(),
        "withheld_spread_skill": lambda v: factor * (v[:, 5].mean() / v[:, 4].mean()).sqrt(),
    }
    found: dict[str, Any] = {"method": method, "sources": source}
    block = max(2, 24 // extra.pop("every"))
    for name, statistic in statistics.items():
        value = float(statistic(series))
        if not math.isnan(value):
            low, high = block_bootstrap(series, block, torch.Generator().manual_seed(0), statistic)
            found |= {name: round(value, 4), f"{name}_interval": [round(float(low), 4), round(float(high), 4)]}
    found.setdefault("spread_skill", None)
    if members is not None:  # what infinitely many would have
        found["rmse_without_sampling"] = round(float((series[:, 0] - series[:, 1] / members).mean().sqrt()), 4)
    return found | extra


def ours(
    case: Case, prior: FieldsPrior, name: str, hours: Tensor, members: int, nfe: int
) -> Iterator[tuple[int, Tensor]]:
    """Draws of each hour, ``(M, points)`` anomalies from the classical normal, from windows of data about it.

    With nfe 0 the network is left out: exact draws of the Gaussian part's posterior.
    """
    calendar = prior.calendar
    for hour in hours.tolist():
        at = {k: hour + round(o) for k, o in enumerate(calendar.offsets)}
        there = {k: case.instruments(name, h) for k, h in at.items() if 0 <= h < len(case.times)}
        time_ = case.times[hour]
        measurement = window_measurement(there, calendar, time_)
        like, rng = torch.empty(members, *prior.sample_shape), Streams(hour, range(members))
        with torch.inference_mode():
            if not nfe:
                noise = rng.normal(like.new_empty(members, *measurement.operator.range_shape))
                z = Declared(prior, measurement).posterior_draw(rng.normal(like), noise)
            else:
                for state in Warm(DPMpp2M(1.0), nfe).steps(prior.at(case.times[[hour]]), measurement, like, rng):
                    z = state.x
        yield hour, states_of(z, calendar, time_)[:, 0].flatten(1).double() - case.normal[hour]


def run(case: Case, prior: FieldsPrior, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows, as they come."""
    hours = torch.arange(TEST, len(case.truth), args.every)
    watch = torch.arange(TRAIN, TEST)
    kriged, kriging = kriging_covariance(case.anomaly[:TRAIN], case.grid)
    names = args.sources or list(SOURCES)
    gauss, chosen = gaussian_covariance(
        case.anomaly[:TRAIN], case.anomaly[watch], case.sources, case.noise[watch], case.grid
    )
    for name in names:
        source, y = case.sources[name], case.data(name, hours)
        classical: dict[str, Tensor] = {}
        if source.coarse and len(case.operators[name]) == 1:
            mean = bicubic(source, y, case.normal[hours], case.grid)
            classical["bicubic"] = scored(case, hours, mean)
            yield row("bicubic", name, classical["bicubic"], None, {"every": args.every})
        for method, covariance, unknown, told in (
            ("kriging", kriged, True, kriging),
            ("gaussian", gauss, False, chosen),
        ):
            mean, *stds = condition(covariance, source, y, case.sites, unknown)
            classical[method] = scored(case, hours, mean, (stds[0], stds[1]))
            yield row(method, name, classical[method], None, {**told, "every": args.every})
        best = min(classical.values(), key=lambda s: float(s[:, 2].mean()))
        for method, nfe in (("gaussian window", 0), ("ours", args.nfe)):
            began = time.perf_counter()
            draws = torch.stack([x for _, x in ours(case, prior, name, hours, args.members, nfe)], 1)
            seconds = (time.perf_counter() - began) / len(hours)
            series = scored(case, hours, draws.mean(0), members=draws)
            gain = best[:, 2] - series[:, 2]
            low, high = block_bootstrap(gain, max(2, 24 // args.every), torch.Generator().manual_seed(0))
            yield row(
                method,
                name,
                series,
                args.members,
                {
                    "crps_gain": round(float(gain.mean()), 4),
                    "crps_gain_interval": [round(float(low), 4), round(float(high), 4)],
                    "members": args.members,
                    "nfe": nfe,
                    "seconds_per_field": round(seconds, 2),
                    "every": args.every,
                },
            )


def trained(data: Path, folder: Path) -> Path:
    """Train the shipped configuration on these data."""
    from invdiff.training.config import load_config
    from invdiff.training.run import train

    config = load_config("weather")
    config.data.paths = [str(data / FILE)]  # type: ignore[union-attr]
    return train(config, folder)


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prior", type=Path, help="weights of `invdiff train weather`")
    parser.add_argument("--work", type=Path, default=Path("runs/weather"), help="where to train without --prior")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--nfe", type=int, default=10)
    parser.add_argument("--every", type=int, default=1, help="score every so many hours of the test week")
    parser.add_argument("--sources", nargs="*", choices=list(SOURCES))
    parser.add_argument("--no-chaos", action="store_true")
    args = parser.parse_args()
    case = Case(args.data)
    loaded = load_prior(args.prior or trained(args.data, args.work))
    if not isinstance(loaded, FieldsPrior):
        raise SystemExit(f"{args.prior} is no prior of fields")
    content: dict[str, Any] = {
        "data": FILE, "train_hours": TRAIN, "test_hours": [TEST, len(case.truth)], "every": args.every,
        "coarse_error_K": COARSE_ERROR, "station_error_K": STATION_ERROR, "rows": [], "particle_filter": [],
    }  # fmt: skip
    for found in run(case, loaded, args):
        content["rows"].append(found)
        shown = ("rmse", "crps", "spread_skill", "bias", "withheld_crps", "crps_gain")
        figures = " ".join(f"{k} {found[k]}" for k in shown if k in found)
        print(f"{found['sources']:<18}{found['method']:<17}{figures}", flush=True)
        write(args.json, content)
    if not args.no_chaos:
        for found in particle_filter_rows():
            content["particle_filter"].append(found)
            write(args.json, content)


if __name__ == "__main__":
    main()
