"""From a measurement to a reconstruction, with the classical methods beside it, and its judgement."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from invdiff.baselines.tune import Tuned
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.operators.ct.tomography import Tomography
from invdiff.priors.base import Prior, as_prior
from invdiff.priors.loading import load_prior
from invdiff.priors.slices import on_slices
from invdiff.reconstruction.classical import ALL, beside, methods
from invdiff.reconstruction.draw import draw
from invdiff.reconstruction.held_out import HeldOut
from invdiff.reconstruction.planes import plane_rows
from invdiff.reconstruction.provenance import versions
from invdiff.reconstruction.result import Reconstruction, misfit, single
from invdiff.reconstruction.scores import rows
from invdiff.reconstruction.settings import Settings, default_prior
from invdiff.reconstruction.texture import broadened
from invdiff.samplers.base import Sampler
from invdiff.samplers.named import sampler as named_sampler
from invdiff.simulation.case import Case
from invdiff.trust.words import held_out_warning
from invdiff.units import held_beside
from invdiff.validation.holdout import score

__all__ = ["reconstruct"]


def reconstruct(case: Case | Measurement, settings: Settings) -> Reconstruction:
    """Reconstruct, with the classical methods beside it.

    Args:
        case: all data, on the device to work on; with the truth, where it is known, to be scored against.
        settings: how.

    Raises:
        InvdiffError: see the message; nothing is kept then.
    """
    began = time.monotonic()
    case = case if isinstance(case, Case) else Case(case)
    chosen = _chosen(case.measurement, settings)  # mistakes first: what follows takes minutes
    held = HeldOut(case.measurement, settings.holdout) if settings.holdout is not None else None
    used = held.train if held else case.measurement
    texture = 0.0
    if chosen is None:
        classical = beside(used, settings.method, held, case.truth, settings.report, settings.alone)
        name, strength = settings.method, classical[settings.method].strength
        posterior = single(used, classical[name].x)
        posterior.dataset.attrs |= {"sampler": "none", "strength": strength}
    else:
        sampler, prior = chosen
        name = sampler.name
        if used.operator.domain == "complex":
            prior, texture = broadened(used, prior, sampler, settings)
        posterior = draw(used, prior, sampler, settings)
        # After the draws, which are kept: a run that is interrupted among them does not tune these methods twice.
        classical = beside(used, settings.method, held, case.truth, settings.report, settings.alone)
    done = Reconstruction(posterior, used, {key: tuned.x for key, tuned in classical.items()}, truth=case.truth)
    if held:
        _judge(done, held, classical, settings, ours=chosen is not None)
    if case.truth is not None:
        found = {key: x for key, x in done.baselines.items() if key != name or chosen is not None}
        scores = [{**row, "plane": None} for row in rows(case.truth, found, case.slices, posterior, name)]
        done.figures["coverage90"] = next(r["coverage90"] for r in scores if r["slice"] == "mean")
        mean = torch.from_numpy(posterior.mean().values)
        done.figures["rows"] = [*scores, *plane_rows(case.truth, {name: mean, **found}, used.meta)]
        done.figures["reference"] = case.reference
        done.figures["strength"] = {key: tuned.strength for key, tuned in classical.items()}
    if isinstance(used.operator, Tomography):
        posterior.draws.attrs["units"] = f"1/{used.operator.unit}"
    if settings.maps:
        _attach_misfit(done)
    done.figures |= {key: posterior.diagnostics[key] for key in ("chi2_ratio", "nfe")}
    done.figures |= {"method": settings.method, "draws": int(posterior.draws.sizes["draw"]), "seed": settings.seed}
    done.figures |= {key: used.meta[key] for key in ("sigma", "acceleration", "views") if key in used.meta}
    done.figures["warnings"] = posterior.diagnostics.get("warnings", [])
    posterior.dataset.attrs |= {
        "method": settings.method,
        "options": (settings if chosen else replace(settings, draws=1)).plain(texture),
        **versions(),
    }
    if "rows" in done.figures:
        posterior.diagnostics["rows"] = [row for row in done.figures["rows"] if row["slice"] == "mean"]
    done.figures["seconds"] = round(time.monotonic() - began, 2)
    return done


def _chosen(measurement: Measurement, settings: Settings) -> tuple[Sampler, Prior] | None:
    """The sampler and its prior; None where the method is a classical one."""
    method, known = settings.method, methods(measurement)
    if method in known:
        if settings.nfe is not None or settings.solver is not None:
            raise InputError(f"{method} takes neither nfe nor solver: they are for samplers")
        return None
    if method in ALL:
        raise InputError(
            f"{method} is no method for {measurement.operator!r}; of the classical ones there are {', '.join(known)}"
        )
    prior = default_prior(measurement) if settings.prior is None else settings.prior
    if method == "auto" and len(measurement.operator.domain_shape) == 4:
        method = "dds3d"  # a volume from a prior of its slices
    chosen = (
        named_sampler(method, settings.nfe, settings.solver, measurement),
        as_prior(load_prior(prior) if isinstance(prior, (str, Path)) else prior),
    )
    operator = measurement.operator
    on_slices(  # raises where it cannot be
        chosen[1], tuple(operator.domain_shape), operator.domain, settings.memory, gradient=chosen[0].uses_vjp,
        beside=held_beside(measurement, settings.draws),
    )  # fmt: skip
    return chosen


def _judge(done: Reconstruction, held: HeldOut, classical: dict[str, Tuned], settings: Settings, ours: bool) -> None:
    """Add what the held-out data say."""
    known, posterior = methods(done.measurement), done.posterior
    errors = {known[name].key: held.nrmse(tuned.x) for name, tuned in classical.items()}
    if ours:
        scores = score(held.y, held.predictions(done.draws()), held.sigma)
        del scores["holdout_nrmse"]  # that of the draws' mean
        errors["posterior_mean"] = held.nrmse(done.mean())
        components = held.y.numel() * (2 if held.y.is_complex() else 1)
        posterior.diagnostics["warnings"] += held_out_warning(scores, components)
        done.figures |= scores
    done.figures |= {"holdout": settings.holdout, "holdout_nrmse": errors, "held_out_data": held.y.numel()}
    done.figures["strength"] = {known[name].key: tuned.strength for name, tuned in classical.items()}
    posterior.dataset.attrs |= {
        "holdout_fraction": settings.holdout,
        "comment": "made from the data that were not held out (split seed 0)",
    }


def _attach_misfit(done: Reconstruction) -> None:
    import xarray as xr

    values = misfit(done.measurement, done.draws())
    values = values if done.measurement.batched else values[0]
    lead = ("problem",) if done.measurement.batched else ()
    dims = (*lead, *(f"datum_{k}" for k in range(values.ndim - len(lead))))
    note = {"long_name": "rms of (y - A x) / sigma over the draws", "units": "noise standard deviation"}
    done.posterior.dataset["misfit"] = xr.DataArray(values, dims=dims, attrs=note)
