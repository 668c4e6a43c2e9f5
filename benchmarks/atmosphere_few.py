"""Few stations, placed many times: where five stations stand decides more than what is made of them.

    python benchmarks/atmosphere_few.py --data $INVDIFF_DATA/atmosphere --prior weather.safetensors [--json f.json]

The case of `atmosphere.py` with five stations, at several sets of places drawn anew. `rows[]`: method, RMSE, CRPS and
spread over skill over all sets, and of each set.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from atmosphere import STATION_ERROR, TEST, TRAIN, Case, ours, scored
from atmosphere_classical import condition, gaussian_covariance, kriging_covariance
from record import write
from torch import Tensor

from invdiff.priors.fields_guess import FieldsPrior
from invdiff.priors.loading import load_prior

NAME, COUNT = "5 stations", 5


def place(case: Case, rng: torch.Generator) -> None:
    """Put the five stations elsewhere."""
    low = torch.tensor([case.latitude.min(), min(case.state.longitude)], dtype=torch.float64)
    high = torch.tensor([case.latitude.max(), max(case.state.longitude)], dtype=torch.float64)
    places = low + (high - low) * torch.rand(COUNT, 2, generator=rng, dtype=torch.float64)
    case.places = torch.cat([places, case.places[COUNT:]])
    case.operators[NAME] = case._operators(0, COUNT)
    case.sources[NAME] = case._source(NAME)


def figures(method: str, series: list[Tensor], members: int | None) -> dict[str, Any]:
    """Figures of hourly series ``(T, 8)`` of each set."""
    whole, factor = torch.cat(series), 1.0 if members is None else (members + 1) / members
    return {
        "method": method,
        "rmse": round(float(whole[:, 0].mean().sqrt()), 4),
        "crps": round(float(whole[:, 2].mean()), 4),
        "spread_skill": round(math.sqrt(factor * float(whole[:, 1].mean() / whole[:, 0].mean())), 3),
        "rmse_of_each": [round(float(s[:, 0].mean().sqrt()), 3) for s in series],
        "crps_of_each": [round(float(s[:, 2].mean()), 4) for s in series],
        "members": members,
    }


def main() -> None:
    """Score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prior", type=Path, required=True, help="weights of `invdiff train weather`")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sets", type=int, default=6)
    parser.add_argument("--every", type=int, default=12, help="hours of the test week")
    parser.add_argument("--members", type=int, default=64)
    args = parser.parse_args()
    case, prior = Case(args.data), load_prior(args.prior)
    if not isinstance(prior, FieldsPrior):
        raise SystemExit(f"{args.prior} is no prior of fields")
    watch, hours = torch.arange(TRAIN, TEST), torch.arange(TEST, len(case.truth), args.every)
    train = case.anomaly[:TRAIN]
    gaussian, _ = gaussian_covariance(train, case.anomaly[watch], case.sources, case.noise[watch], case.grid)
    kriged, _ = kriging_covariance(train, case.grid)
    series: dict[str, list[Tensor]] = {"kriging": [], "gaussian": [], "gaussian window": [], "ours": []}
    rng = torch.Generator().manual_seed(21)
    for _ in range(args.sets):
        place(case, rng)
        y = case.data(NAME, hours)
        for method, covariance in (("kriging", kriged), ("gaussian", gaussian)):
            mean, *stds = condition(covariance, case.sources[NAME], y, case.sites, method == "kriging")
            series[method].append(scored(case, hours, mean, (stds[0], stds[1])))
        for method, nfe in (("gaussian window", 0), ("ours", 10)):
            draws = torch.stack([x for _, x in ours(case, prior, NAME, hours, args.members, nfe)], 1)
            series[method].append(scored(case, hours, draws.mean(0), members=draws))
        rows = [figures(k, v, args.members if k in ("gaussian window", "ours") else None) for k, v in series.items()]
        told = {
            "stations": COUNT,
            "station_error_K": STATION_ERROR,
            "hours": hours.tolist(),
            "sets": len(series["ours"]),
        }
        write(args.json, {**told, "rows": rows})
    for row in rows:
        print({k: v for k, v in row.items() if k != "members"})


if __name__ == "__main__":
    main()
