"""Where to put stations: the real 2 m temperature of the British Isles, a Gaussian prior with empirical covariance.

Anomalies about the mean at each hour of the day; the first three weeks make the prior, the last days judge. A
Gaussian belief does not depend on the data, so the adaptive choice is the greedy design: theory says that adaptivity
cannot pay here, and it does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.policies import AOptimal, Candidates, Equispaced, Policy, Random, greedy_design
from invdiff.policies.belief import Belief
from invdiff.priors.gaussian import GaussianPrior
from invdiff.random import generator

SIGMA, SITES = 0.5, 12  # K; stations
DAYS, KEPT, EVERY = 22, 80, 2  # of training; directions of the covariance; grid points left out between two


def field() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anomalies ``(hours, 1, H, W)`` in K, of training and of judgement, and the coordinates of rows and columns."""
    import xarray as xr

    with xr.open_dataset(Path(os.environ["INVDIFF_DATA"]) / "atmosphere" / "era5_t2m_uk_2019-03.nc") as file:
        t = file["t2m"].values[:, ::EVERY, ::EVERY].astype(np.float64)
        lat, lon = file["latitude"].values[::EVERY], file["longitude"].values[::EVERY]
    train = t[: 24 * DAYS].reshape(DAYS, 24, *t.shape[1:])
    daily = train.mean(0)
    whole = t - np.tile(daily, (t.shape[0] // 24, 1, 1))
    x = torch.from_numpy(whole).float()[:, None]
    return x[: 24 * DAYS], x[24 * DAYS :], torch.from_numpy(lat.copy()), torch.from_numpy(lon.copy())


def prior_of(x: Tensor) -> GaussianPrior:
    """Mean and covariance of a sample, cut to the leading directions; what is cut stays as white variance."""
    flat = x.flatten(1).double()
    mean = flat.mean(0)
    _, s, v = torch.linalg.svd(flat - mean, full_matrices=False)
    variances = s**2 / (len(flat) - 1)
    rest = float(variances[KEPT:].sum()) / flat.shape[1]
    covariance = (v[:KEPT].mT * variances[:KEPT]) @ v[:KEPT] + rest * torch.eye(flat.shape[1], dtype=torch.float64)
    return GaussianPrior(mean.reshape(x.shape[1:]).float(), covariance)


def weather(report: Callable[[str], None], judged: int = 40) -> dict[str, Any]:
    """RMSE over the whole field, K, from 12 stations, by who chose the sites."""
    from invdiff.validation.linear_gaussian import posterior

    train, test, lat, lon = field()
    prior = prior_of(train)
    op = Identity(train.shape[1:])
    noise = Gaussian(SIGMA)
    places = torch.stack(torch.meshgrid(lat, lon * torch.cos(torch.deg2rad(lat.mean())), indexing="ij"), -1)
    places = places.reshape(-1, 2) - places.reshape(-1, 2).mean(0)
    candidates = Candidates.along(op, -2, -1, positions=places)
    plan = Belief.plan(candidates, (), SITES)
    fixed: dict[str, Policy] = {
        "logdet": greedy_design(prior, op, noise, candidates, SITES),
        "a-optimal": greedy_design(prior, op, noise, candidates, SITES, policy=AOptimal()),
        "equispaced": Equispaced(),
    } | {f"random {k}": Random() for k in range(8)}
    hours = torch.linspace(0, len(test) - 1, judged).long()
    out: dict[str, Any] = {"sigma_K": SIGMA, "stations": SITES, "hours": judged}
    for k, (name, policy) in enumerate(fixed.items()):
        order = policy(plan, SITES, generator(k))
        errors, expected = [], 0.0
        for n, hour in enumerate(hours.tolist()):
            truth = test[hour : hour + 1]
            y = noise.sample(op.forward(truth), generator(n, 1))[0]
            some, data = candidates.restrict(op, y, order)
            found = posterior(prior, Measurement(data, some, noise))
            errors.append(float((found.mean - truth[0]).square().mean()))
            expected = float(found.std.square().mean().sqrt())
        score = float(np.sqrt(np.mean(errors)))
        rows = [[round(float(lat[g // len(lon)]), 2), round(float(lon[g % len(lon)]), 2)] for g in order]
        out[name] = {"rmse_K": score, "expected_rmse_K": expected, "sites": rows}
        report(f"weather, {name}: RMSE {score:.3f} K (expected {expected:.3f})")
    randoms = [out[f"random {k}"]["rmse_K"] for k in range(8)]
    out["random"] = {"rmse_K": float(np.mean(randoms)), "best": min(randoms), "worst": max(randoms)}
    out["adaptive"] = adaptive(prior, op, noise, candidates, test[hours[0]], report)
    out["adaptive"]["same_as_design"] = out["adaptive"]["order"] == fixed["logdet"](plan, SITES, generator(0))
    return out


def adaptive(
    prior: GaussianPrior, op: Identity, noise: Gaussian, candidates: Candidates, truth: Tensor,
    report: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Site after site with the exact posterior in between, each choice by log-det on what is then believed."""
    from invdiff.validation.linear_gaussian import posterior

    y = noise.sample(op.forward(truth[None]), generator(0, 1))[0]
    order: list[int] = []
    believed = prior
    for _ in range(SITES):
        order += greedy_design(believed, op, noise, candidates, 1).order
        some, data = candidates.restrict(op, y, order)
        found = posterior(prior, Measurement(data, some, noise))
        believed = GaussianPrior(found.mean.float(), found.covariance)
    report(f"weather, adaptive sites {order}")
    return {"order": order}
