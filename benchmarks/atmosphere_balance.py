"""Balance between a coarse field and stations, and spectra of what is made of them: figures and a picture.

    python benchmarks/atmosphere_balance.py --data $INVDIFF_DATA/atmosphere --prior weather.safetensors [--json b.json]
        [--png b.png]

The case of `atmosphere.py`, every so many hours of the test week, from 8 x 8 cells, 30 stations, and both.

`spectra[]`: variance by wavelength (cosine transform) of departures from the mean by hour of the day: of the truth, of
one member, of the mean of the members, and of bicubic interpolation. `balance[]`: what happens where the coarse field
is said to have another error than it has (0.2 K): the misfit of either source per datum in units of the error it was
said to have, the share of the information that is the stations' (trace of their block of the hat matrix), RMSE and
CRPS; exact draws of the prior's Gaussian part.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from atmosphere import COARSE_ERROR, SOURCES, STATION_ERROR, TEST, Case, ours
from atmosphere_classical import bicubic
from record import write
from torch import Tensor

from invdiff.guidance.declared import Declared
from invdiff.measurement import Measurement
from invdiff.metrics.ensemble import area_mean, crps
from invdiff.metrics.spectra import area_spectrum
from invdiff.noise import Gaussian
from invdiff.priors.fields_guess import FieldsPrior
from invdiff.priors.loading import load_prior
from invdiff.random import Streams
from invdiff.reconstruction.windows import states_of, window_measurement

NAMES = ("8x", "30 stations", "8x + 30 stations")
SAID = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # K


def spectra(case: Case, draws: dict[str, Tensor], hours: Tensor) -> list[dict[str, Any]]:
    """Rows of a source and what its spectrum is of; draws are anomalies ``(M, T, points)``."""
    spacing = (27.8, 27.8 * float(case.latitude.deg2rad().cos().mean()))

    def row(source: str, of: str, fields: Tensor) -> dict[str, Any]:
        lengths, power = area_spectrum(fields.reshape(-1, *case.grid.shape), spacing)
        told = {"wavelength_km": lengths.tolist(), "variance": power.mean(0).tolist()}
        return {"sources": source, "of": of, **{k: [float(f"{x:.5g}") for x in v] for k, v in told.items()}}

    rows = [row("", "truth", case.anomaly[hours])]
    rows.append(
        row("8x", "bicubic", bicubic(case.sources["8x"], case.data("8x", hours), case.normal[hours], case.grid))
    )
    for name, x in draws.items():
        rows += [row(name, "mean of members", x.mean(0)), row(name, "members", x)]
    return rows


def balance(case: Case, prior: FieldsPrior, hours: Tensor, said: float, members: int) -> dict[str, Any]:
    """Draws where the coarse field is said to have an error of `said` K."""
    calendar, (factor, count) = prior.calendar, SOURCES[NAMES[2]]
    totals = dict.fromkeys(("coarse_misfit", "station_misfit", "station_share", "mse", "crps"), 0.0)
    for hour in hours.tolist():
        there, kinds = {}, []
        for k, offset in enumerate(calendar.offsets):
            at = hour + round(offset)
            if not 0 <= at < len(case.times):
                continue
            coarse, stations = case.instruments(NAMES[2], at)
            there[k] = [Measurement(coarse.y, coarse.operator, Gaussian(said)), stations]
            kinds += [torch.zeros(coarse.y.numel()), torch.ones(stations.y.numel())]
        m = window_measurement(there, calendar, case.times[hour])
        guidance, rng = Declared(prior, m), Streams(hour, range(members))
        like = torch.empty(members, *prior.sample_shape)
        z = guidance.posterior_draw(rng.normal(like), rng.normal(like.new_empty(members, *m.operator.range_shape)))
        gaussian = prior.gaussian
        seen = (guidance.seen * (gaussian.variances.double() - gaussian.tail)) @ guidance.seen.mT
        seen = seen + gaussian.tail * guidance.gram
        hat = torch.linalg.solve(seen + guidance.noise.diag(), seen).diagonal()  # of A C A^H (A C A^H + S)^-1
        x = states_of(z, calendar, case.times[hour])
        own = there[calendar.offsets.index(0.0)]
        misfit = [float(part.chi2(x.mean(0, keepdim=True))) / part.y.numel() for part in own]
        truth = case.truth[hour]
        found = (
            misfit[0],
            misfit[1],
            float(hat[torch.cat(kinds) > 0].sum() / hat.sum()),
            float(area_mean((x[:, 0].double().mean(0) - truth) ** 2, case.latitude)),
            float(area_mean(crps(x[:, 0].double(), truth), case.latitude)),
        )
        totals = {k: v + f / len(hours) for (k, v), f in zip(totals.items(), found, strict=True)}
    rmse = totals.pop("mse") ** 0.5
    told = {"coarse_error_said_K": said, "cells": factor, "stations": count, "rmse": rmse, **totals}
    return {k: round(v, 4) for k, v in told.items()}


def picture(case: Case, content: dict[str, Any], draws: dict[str, Tensor], hours: Tensor, path: Path) -> None:
    """Error and spread by source at one time, spectra, and the balance."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(16, 6.4), layout="constrained")
    middle = len(hours) // 2
    extent = (case.state.longitude[0], case.state.longitude[-1], float(case.latitude[-1]), float(case.latitude[0]))
    spread = {name: x[:, middle].std(0).reshape(case.grid.shape) for name, x in draws.items()}
    error = {n: (x[:, middle].mean(0) - case.anomaly[hours[middle]]).reshape(case.grid.shape) for n, x in draws.items()}
    top, far = max(float(v.max()) for v in spread.values()), max(float(v.abs().max()) for v in error.values())
    for k, name in enumerate(NAMES):
        shown = axes[0, k].imshow(spread[name], extent=extent, aspect="auto", cmap="magma", vmin=0, vmax=top)
        axes[0, k].set_title(f"spread from {name}")
        other = axes[1, k].imshow(error[name], extent=extent, aspect="auto", cmap="RdBu_r", vmin=-far, vmax=far)
        axes[1, k].set_title(f"mean - truth from {name}")
        if "stations" in name:
            for axis in axes[:, k]:
                axis.plot(case.places[:, 1], case.places[:, 0], "c.", markersize=4)
    figure.colorbar(shown, ax=axes[0, 2], label="K")
    figure.colorbar(other, ax=axes[1, 2], label="K")
    for row in content["spectra"]:
        if row["sources"] in ("", NAMES[2]) or row["of"] == "bicubic":
            style = {"truth": "k-", "bicubic": "C1:", "members": "C0-", "mean of members": "C0--"}[row["of"]]
            title = row["of"] + (f" ({row['sources']})" if row["sources"] else "")
            axes[0, 3].loglog(row["wavelength_km"], row["variance"], style, label=title)
    axes[0, 3].invert_xaxis()
    axes[0, 3].set(xlabel="wavelength in km", ylabel="variance in K$^2$", title="spectra of anomalies")
    axes[0, 3].legend(fontsize=7)
    said = [row["coarse_error_said_K"] for row in content["balance"]]
    for key, style in (("coarse_misfit", "C0-"), ("station_misfit", "C2-"), ("station_share", "C3--"), ("rmse", "k-")):
        axes[1, 3].loglog(said, [row[key] for row in content["balance"]], style, label=key.replace("_", " "))
    axes[1, 3].axvline(COARSE_ERROR, color="grey", linewidth=0.8)
    axes[1, 3].set(xlabel="error that the coarse field is said to have, K", title="balance between the sources")
    axes[1, 3].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prior", type=Path, required=True, help="weights of `invdiff train weather`")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--every", type=int, default=12, help="hours of the test week")
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--nfe", type=int, default=10)
    args = parser.parse_args()
    case, prior = Case(args.data), load_prior(args.prior)
    if not isinstance(prior, FieldsPrior):
        raise SystemExit(f"{args.prior} is no prior of fields")
    hours = torch.arange(TEST + 5, len(case.truth), args.every)
    told = {"hours": hours.tolist(), "coarse_error_K": COARSE_ERROR, "station_error_K": STATION_ERROR}
    content: dict[str, Any] = {**told, "members": args.members, "nfe": args.nfe, "balance": []}
    for said in SAID:
        content["balance"].append(balance(case, prior, hours, said, args.members))
        print(content["balance"][-1], flush=True)
        write(args.json, content)
    draws = {
        name: torch.stack([x for _, x in ours(case, prior, name, hours, args.members, args.nfe)], 1) for name in NAMES
    }
    content["spectra"] = spectra(case, draws, hours)
    write(args.json, content)
    truth = content["spectra"][0]["variance"]
    for row in content["spectra"][1:]:
        ratio = [round(v / t, 2) for v, t in zip(row["variance"], truth, strict=True)]
        print(f"{row['sources']:<18}{row['of']:<17}variance over the truth's, long to short: {ratio[::6]}")
    if args.png:
        picture(case, content, draws, hours, args.png)


if __name__ == "__main__":
    main()
