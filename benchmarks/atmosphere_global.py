"""Global multivariate fields and a real sounding through the whole chain: a demonstration, there is no matching truth.

    python benchmarks/atmosphere_global.py --data $INVDIFF_DATA/atmosphere [--json g.json] [--out global.nc]

The prior is a Gaussian of low rank without a network: of z and t at 850 and 500 hPa from the deviations of ERA5's ten
members, and of u, v, z at 200, 500 and 850 hPa from ERA-Interim's departures from their zonal mean, turned to all
longitudes. What is seen: a coarse field of the state itself, and the sounding of Barrow (IGRA v2).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import write
from torch import Tensor

from invdiff.datasets.weather.ensemble import ensemble, write_ensemble
from invdiff.datasets.weather.igra import read_igra
from invdiff.datasets.weather.measurements import State, station_measurement
from invdiff.datasets.weather.netcdf import read_fields
from invdiff.guidance.declared import Declared
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.fields.sphere import Coarsen, block_axis
from invdiff.priors.fields_calendar import Calendar
from invdiff.priors.fields_gaussian import fit_low_rank
from invdiff.random import Streams
from invdiff.reconstruction.windows import states_of, window_measurement

ERRORS = {"air_temperature": 0.7, "geopotential": 150.0, "eastward_wind": 2.0, "northward_wind": 2.0}


def run(name: str, state: State, first: Tensor, samples: Tensor, data: Path, out: Path | None) -> dict[str, Any]:
    """Draw given a coarse field alone, then with the sounding; say how both fit the sounding.

    Args:
        first: the state about which samples deviate, ``(C, rows, columns)``. samples: deviations ``(T, C, ...)``.
    """
    std = samples.square().mean((0, 2, 3)).sqrt()
    calendar = Calendar(
        (0.0,), ((first - first.mean((1, 2), keepdim=True)) / std[:, None, None])[None], first.mean((1, 2)), std,
        torch.zeros(0, *state.shape[1:]),
    )  # fmt: skip
    prior = fit_low_rank((samples / std[:, None, None]).flatten(1), state.shape, 200, shrink=0.05)
    table = read_igra(data / "igra2_USM00070026.txt", incomplete="drop")
    time = np.unique(table["time"].values)[0]
    sounding = station_measurement(table, state, time, error=ERRORS, representativeness=ERRORS)
    rows = state.shape[1] // 4 * 4
    lat, lon = state.latitude[:rows], state.longitude
    cells = block_axis(lat, 4), block_axis(lon, 4)
    coarse = Coarsen(state.shape, state.latitude, lon, *cells)
    sigma = (0.3 * std)[:, None, None]
    y = coarse.forward(first[None])[0]
    y = y + sigma * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    instruments = {"coarse": [Measurement(y, coarse, Gaussian(sigma))]}
    instruments["coarse and sounding"] = [*instruments["coarse"], sounding]
    found: dict[str, Any] = {
        "case": name, "state": list(state.shape), "sounding_data": sounding.count, "left_out": sounding.meta["left_out"]
    }  # fmt: skip
    for title, seen in instruments.items():
        m = window_measurement({0: seen}, calendar, time)
        like, rng = torch.empty(16, *state.shape), Streams(0, range(16))
        with torch.inference_mode():
            noise = rng.normal(like.new_empty(16, *m.operator.range_shape))
            z = Declared(prior, m).posterior_draw(rng.normal(like), noise)
            x = states_of(z, calendar, time)
        fit = sounding.noise.whiten(sounding.residual(x.mean(0, keepdim=True)))
        predicted = sounding.operator.forward(x)
        found[title] = {
            "misfit_of_mean_in_sigma": round(float(fit.square().mean().sqrt()), 3),
            "spread_at_sounding_in_sigma": round(float(sounding.noise.whiten(predicted).std(0).mean()), 3),
            "spread": [float(f"{v:.4g}") for v in x.var(0).mean((1, 2)).sqrt().tolist()],
        }
        if out is not None and len(seen) > 1:
            path = out.with_name(f"{out.stem}_{name}{out.suffix}")
            write_ensemble(ensemble(x[None], state, np.array([time]), {"title": "demonstration"}), path)
            found["written"] = str(path)
    return found


def main() -> None:
    """Both cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="NetCDF; the case's name is added")
    args = parser.parse_args()
    members = read_fields(args.data / "era5_levels_members.nc")
    state = State.of(members)
    x = state.tensor(members)  # members and times, in this order
    x = x.reshape(members.sizes["realization"], members.sizes["time"], *state.shape)
    deviations = (x - x.mean(0, keepdim=True)).flatten(0, 1) * (len(x) / (len(x) - 1)) ** 0.5
    rows = [run("era5_members", state, x.mean(0)[0], deviations, args.data, args.out)]
    every = {"latitude": slice(0, 241, 4), "longitude": slice(0, 480, 4)}
    months = [read_fields(args.data / "eraint_uvz.nc", select={**every, "month": m}) for m in (0, 1)]
    state = State.of(months[0])
    x = torch.cat([state.tensor(month) for month in months])
    departures = x - x.mean(3, keepdim=True)
    turned = torch.cat([departures.roll(k, 3) for k in range(0, x.shape[3], 2)])
    rows.append(run("eraint_uvz", state, x[0], turned, args.data, args.out))
    for row in rows:
        print(row)
    write(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
