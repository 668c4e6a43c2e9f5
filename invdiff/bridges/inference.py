"""From a measurement on an energy to posterior draws: Hamiltonian Monte Carlo, or reweighting of draws of the energy.

Hamiltonian Monte Carlo (R. Neal 2011, arXiv 1206.1901), many chains side by side: velocities from the Maxwell law, L
leapfrog steps ``v += h/2 F/m, x += h v, v += h/2 F/m``, accepted with probability ``min(1, exp(-dH/kT))``. It leaves
``exp(-U'/kT)`` exactly invariant for any step h. Chains move within the basins that they start in and over low
barriers; where there are several basins, start from samples of all of them (a bridge sampler's) or reweight those.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from invdiff.energies.base import CollectiveVariable, Energy
from invdiff.energies.posterior import PosteriorEnergy
from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.posterior import Posterior
from invdiff.random import generator

__all__ = ["infer", "reweight"]

_ACCEPTANCE = 0.8  # where HMC costs least, between 0.65 (Neal 2011) and what short runs need to stay stable


def infer(
    measurement: Measurement,
    energy: Energy,
    start: Tensor,
    *,
    temperature: float | None = None,
    masses: Tensor | None = None,
    draws_per_chain: int = 100,
    warm_up: int = 200,
    thin: int = 5,
    leapfrog: int = 20,
    step: float = 0.001,
    seed: int = 0,
    watch: CollectiveVariable | None = None,
    progress: bool = False,
) -> Posterior:
    """Draw from ``p(x | y) ~ exp(-U(x)/kT) p(y | A(x))``.

    Args:
        measurement: data on one molecule.
        energy: U.
        start: ``(chains, *event)``, one per chain, 2 at least.
        temperature: in K; None for energies in kT.
        masses: ``(atoms,)`` in Da (they set how fast each atom moves, not the law); None for 1 each.
        draws_per_chain: kept of each chain.
        warm_up: trajectories before the first is kept; the step adapts to 80 % acceptance meanwhile.
        thin: trajectories per draw kept.
        leapfrog: mean number of leapfrog steps (drawn anew for each trajectory, so that none is resonant).
        step: the first leapfrog step, ps for molecules.
        seed: of all random numbers.
        watch: further variables that must have converged, of which the data may say nothing: torsions, say. Cosine and
            sine stand for periodic ones.
        progress: show a bar.

    Returns:
        Draws with dimensions ``(draw, atom, axis)`` (``(draw, component)`` for vectors), chain after chain; variables
        ``energy`` (the prior's U) and ``prediction`` ``(draw, datum)``. Diagnostics: acceptance, step, the worst R-hat
        and effective sample size of U', the predicted data and what is watched; chi2 per datum, energy calls.

    Raises:
        ShapeError: start does not fit. InputError: fewer than 2 chains, or a start whose energy is not finite.
    """
    target = PosteriorEnergy(energy, measurement, temperature)
    if tuple(start.shape[1:]) != target.domain_shape:
        raise ShapeError(f"start has shape {tuple(start.shape)}; it expects (chains, {target.domain_shape})")
    if len(start) < 2 or draws_per_chain < 4:
        raise InputError(f"{len(start)} chains of {draws_per_chain} draws; R-hat needs 2 chains of 4 draws at least")
    rng = generator(seed)
    weight = torch.ones(start.shape[1]) if masses is None else masses
    mass = weight.to(start).reshape(1, -1, *[1] * (start.ndim - 2))
    calls = energy.calls
    x = start.detach().clone()
    u, force = target(x)
    if not bool(torch.isfinite(u).all() & torch.isfinite(force).all()):
        raise InputError("the energy of a starting configuration is not finite; start from relaxed structures")
    h, accepted, kept, levels = step, [], [], []
    total = warm_up + draws_per_chain * thin
    for k in tqdm(range(total), disable=not progress, desc="HMC"):
        count = int(torch.randint(max(1, leapfrog // 2), leapfrog + leapfrog // 2 + 1, (), generator=rng))
        v = torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x) * (target.kT / mass).sqrt()
        y, w, f = x, v, force
        for _ in range(count):
            w = w + h / 2 * f / mass
            y = y + h * w
            u_new, f = target(y)
            w = w + h / 2 * f / mass
        change = u_new - u + 0.5 * (mass * (w**2 - v**2)).flatten(1).sum(1)
        chance = torch.nan_to_num((-change / target.kT).double().clamp_max(0).exp(), nan=0.0)
        take = torch.rand(len(x), generator=rng, dtype=torch.float64).to(chance) < chance
        wide = take.reshape(-1, *[1] * (x.ndim - 1))
        x, force, u = torch.where(wide, y, x), torch.where(wide, f, force), torch.where(take, u_new, u)
        if k < warm_up:
            h *= math.exp((float(chance.mean()) - _ACCEPTANCE) / math.sqrt(1 + k / 10))
        else:
            accepted.append(float(chance.mean()))
            if (k - warm_up + 1) % thin == 0:
                kept.append(x)
                levels.append(u)
    draws, potentials = torch.stack(kept, 1), torch.stack(levels, 1).double()  # (chains, draws, ...)
    flat = draws.flatten(0, 1)
    with torch.no_grad():
        predicted = target._measurement(flat).operator.forward(flat)
    parts = [potentials.flatten()[:, None], predicted.flatten(1), *([] if watch is None else [_features(watch, flat)])]
    watched = torch.cat([p.double() for p in parts], 1).reshape(*potentials.shape, -1)
    rhat, ess = _convergence(watched)
    diagnostics = {
        "sampler": "hmc",
        "acceptance": sum(accepted) / len(accepted),
        "step": h,
        "rhat": rhat,
        "ess": ess,
        "chi2_per_datum": float(target._measurement(flat).chi2(flat).mean()) / measurement.count,
        "energy_calls": energy.calls - calls,
        "warnings": [] if rhat < 1.05 else [f"R-hat is {rhat:.2f}: the chains disagree; run longer or start elsewhere"],
    }
    prior_u = potentials.flatten() + target.kT * target.log_likelihood(flat).detach().double()
    return _posterior(flat, predicted, {"energy": prior_u}, measurement, energy, diagnostics)


def reweight(
    measurement: Measurement,
    energy: Energy,
    samples: Tensor,
    log_weight: Tensor | None = None,
) -> Posterior:
    """Turn draws of ``exp(-U/kT)`` into weighted draws of the posterior: ``log w += log p(y | x)``.

    Args:
        measurement: data on one molecule.
        energy: says which unit and events; it is not evaluated.
        samples: ``(N, *event)``.
        log_weight: ``(N,)`` of the samples (a biased run's); None for equal ones.

    Returns:
        The draws with ``log_weight``. Diagnostics: the effective sample size and a warning where it is below 1 %.
    """
    operator = measurement.operator.to(samples.dtype).to(samples.device)
    held = measurement.to(samples.device).to(samples.dtype)
    with torch.no_grad():
        predicted, logs = operator.forward(samples), held.log_likelihood(samples).double()
    logs = logs if log_weight is None else logs + log_weight.to(logs)
    weights = torch.softmax(logs, 0)
    ess = float(1 / weights.square().sum())
    share = ess / len(samples)
    text = f"the effective sample size is {ess:.1f} of {len(samples)}: the samples hardly meet the data; use infer"
    notes = {"sampler": "reweighting", "ess": ess, "warnings": [text] if share < 0.01 else []}
    return _posterior(samples, predicted, {"log_weight": logs - logs.max()}, measurement, energy, notes)


def _features(watch: CollectiveVariable, x: Tensor) -> Tensor:
    """The variables at x, cosine and sine of the periodic ones, ``(N, features)``."""
    with torch.no_grad():
        s = watch.forward(x)
    columns = []
    for k, period in enumerate(watch.period):
        turn = None if period is None else 2 * math.pi / period * s[:, k]
        columns += [s[:, k]] if turn is None else [torch.cos(turn), torch.sin(turn)]
    return torch.stack(columns, 1)


def _posterior(
    draws: Tensor,
    predicted: Tensor,
    columns: dict[str, Tensor],
    measurement: Measurement,
    energy: Energy,
    diagnostics: dict[str, Any],
) -> Posterior:
    import xarray as xr

    dims = ("draw", "component") if draws.ndim == 2 else ("draw", "atom", "axis")
    content = {"draws": xr.DataArray(draws.detach().cpu().numpy(), dims=dims)}
    if draws.ndim == 3 and energy.units == "kJ/mol":
        content["draws"].attrs["units"] = "nm"
    content["prediction"] = xr.DataArray(predicted.flatten(1).cpu().numpy(), dims=("draw", "datum"))
    content |= {name: xr.DataArray(v.cpu().numpy(), dims="draw") for name, v in columns.items()}
    if "energy" in content:
        content["energy"].attrs["units"] = energy.units
    coords = {"axis": list("xyz")} if draws.ndim == 3 and draws.shape[2] == 3 else {}
    return Posterior(xr.Dataset(content, coords=coords, attrs={"operator": repr(measurement.operator)}), diagnostics)


def _convergence(values: Tensor) -> tuple[float, float]:
    """Worst split R-hat, least effective sample size of values ``(chains, draws, k)`` (Gelman et al., BDA3, 11.4)."""
    half = values.shape[1] // 2
    split = torch.cat([values[:, :half], values[:, half : 2 * half]])
    within = split.var(1).mean(0).clamp_min(1e-300)
    between = half * split.mean(1).var(0)
    total = (half - 1) / half * within + between / half
    rhat = (total / within).sqrt()
    least = math.inf
    for k in range(values.shape[2]):
        rho, pairs = [], split[..., k] - split[..., k].mean(1, keepdim=True)
        for lag in range(1, half):
            rho.append(float(1 - (within[k] - (pairs[:, lag:] * pairs[:, :-lag]).sum(1).mean() / half) / total[k]))
            if lag % 2 == 0 and rho[-1] + rho[-2] < 0:  # Geyer's initial positive sequence ends here
                rho = rho[:-2]
                break
        least = min(least, split.shape[0] * half / max(1 + 2 * sum(rho), 1e-3))
    return float(rhat.max()), least
