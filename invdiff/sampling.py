"""`sample`: the public door from a measurement and a prior to posterior draws."""

from __future__ import annotations

import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from invdiff.engine.checkpoint import Checkpoint
from invdiff.engine.distributed import connect, run_distributed
from invdiff.engine.fingerprint import fingerprint
from invdiff.engine.run import Watch, chunk_size, run
from invdiff.errors import InputError
from invdiff.guidance.base import Counts
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.posterior import Posterior
from invdiff.priors.base import Prior, as_prior
from invdiff.priors.latent import LatentPrior
from invdiff.priors.slices import SlicePrior, on_slices
from invdiff.samplers.base import Sampler
from invdiff.samplers.latent import decoded, in_latent_space
from invdiff.samplers.named import sampler as named_sampler
from invdiff.solvers.base import Solver
from invdiff.trust.expectation import expectation
from invdiff.trust.words import data_fit, warnings_of
from invdiff.units import held_beside, in_memory, rescale

__all__ = ["pick_device", "sample"]

DEFAULT_MEMORY = 2 * 2**30


def sample(
    measurement: Measurement,
    prior: Prior | Any,
    sampler: str | Sampler = "auto",
    draws: int = 8,
    *,
    seed: int = 0,
    nfe: int | None = None,
    solver: str | Solver | None = None,
    device: str | torch.device = "auto",
    batch: int | str = "auto",
    memory: int = DEFAULT_MEMORY,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    keep: bool = False,
    watch: Watch | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Posterior:
    """Draw from ``p(x | y)``.

    Args:
        measurement: data, operator and noise.
        prior: a `Prior`, a callable ``(x, sigma) -> E[x0 | x]``, or the name of shipped weights. A prior of images
            stands for the slices of a volume along z (`invdiff.priors.slices.SlicePrior`, which takes other axes).
        sampler: a name (`invdiff info` lists them) or a sampler object; "auto" is
            `invdiff.samplers.named.automatic`.
        draws: how many, for each independent problem.
        seed: the one seed; the same seed gives the same bits on the same device, and draw k does not depend on how
            many others are made beside it.
        nfe: network evaluations per draw; None for the method's usual number.
        solver: name or object, for methods that run under any solver.
        device: "auto" (CUDA where present, else CPU), or a torch device.
        batch: draws computed at once; "auto" fills `memory` bytes.
        memory: bytes for all of the run, see `batch`. Of a volume, as many slices go through the network at once as
            fit, and a tomograph's views are streamed where their data would take a 16th.
        progress: show a progress bar with sigma, chi2 and the remaining time.
        checkpoint: folder in which an interrupted run survives; removed when the run ends.
        resume: go on from `checkpoint`.
        keep: leave `checkpoint` at the end, for a caller who removes it once the result is on disk.
        watch: called with ``(state, measurement)`` after every step, on the scaled measurement.
        workers: share the draws among that many processes (`invdiff.engine.distributed`), each with up to `memory`
            bytes; the same bits where `batch` is the same. `watch` is not called then.
        scheduler: the same through a Dask scheduler at this address, such as ``tcp://host:8786``.

    Raises:
        InputError, ShapeError, DTypeError, UnknownNameError: see the message; nothing is computed then.
    """
    from invdiff import __version__

    if not isinstance(draws, int) or draws < 1:
        raise InputError(f"draws = {draws!r}; it expects an integer of at least 1")
    if isinstance(prior, (str, Path)):
        from invdiff.priors.loading import load_prior

        prior = load_prior(prior)
    prior = as_prior(prior)
    if isinstance(prior, LatentPrior):
        of_latents = sample(
            in_latent_space(measurement, prior),
            prior.latent,
            sampler,
            draws,
            seed=seed,
            nfe=nfe,
            solver=solver,
            device=device,
            batch=batch,
            memory=memory,
            progress=progress,
            checkpoint=checkpoint,
            resume=resume,
            keep=keep,
            watch=watch,
            workers=workers,
            scheduler=scheduler,
        )
        return decoded(of_latents, measurement, prior)
    method = named_sampler(sampler, nfe, solver, measurement)
    measurement = in_memory(measurement, memory)
    op = measurement.operator
    rows = getattr(method, "particles", 1)  # what a population method computes for each draw
    prior = on_slices(
        prior, tuple(op.domain_shape), op.domain, memory, gradient=method.uses_vjp,
        beside=held_beside(measurement, draws * rows),
    )  # fmt: skip
    target = pick_device(device, measurement)
    prior = prior.to(target)
    began = time.monotonic()
    scaled, factor = rescale(measurement.to(target), prior)
    if batch == "auto" and isinstance(prior, SlicePrior):
        batch = 1  # one volume at a time: its slices fill the memory
    chunk = (
        chunk_size(op.domain_shape, method.uses_vjp, memory // rows, prior.is_network)
        if batch == "auto"
        else int(batch)
    )
    if batch == "auto" and workers is not None and workers > 0:
        chunk = min(chunk, -(-draws * measurement.n_problems // workers))
    if chunk < 1:
        raise InputError(f"batch = {batch}; it expects 'auto' or an integer of at least 1")
    recipe = {
        "source": f"invdiff {__version__}",
        "torch_version": torch.__version__,
        "sampler": method.name,
        "options": repr(_options(method)),
        "draws": draws,
        "seed": seed,
        "chunk": chunk,
        "data": fingerprint(measurement.data),
        "device": str(target),
        **prior.describe(),
    }
    keeper = None
    if checkpoint is not None:
        model = {"model": fingerprint(op, measurement.noise), "factor": repr(factor)}
        keeper = Checkpoint(Path(checkpoint), recipe | model, resume)
    chunk = min(chunk, draws * measurement.n_problems)
    if workers is None and scheduler is None:
        x, cost, log_weight = run(method, prior, scaled, draws, seed, target, chunk, progress, keeper, watch)
    else:
        with connect(workers, scheduler) as client:
            if progress:
                print(f"workers: {client.dashboard_link}", file=sys.stderr)
            x, cost, log_weight = run_distributed(
                client, method, prior, scaled, draws, seed, target, chunk, progress, keeper
            )
    mean = expectation(scaled, prior, x, log_weight)
    support = 1 if op.support is None else op.support.cpu()
    x = x / factor * support
    mean = None if mean is None else mean / factor * support
    fit = data_fit(measurement, x)
    counts = Counts(*cost)
    diagnostics = {
        "seconds": round(time.monotonic() - began, 3),
        "nfe": counts.nfe,
        "vjp": counts.vjp,
        "chi2": fit.chi2,
        "chi2_ratio": fit.ratio,
    }
    posterior = Posterior.from_draws(
        x if measurement.batched else x[:, 0],
        coords=measurement.coords,
        attrs=_provenance(recipe, measurement, factor),
        diagnostics=diagnostics,
        batched=measurement.batched,
        log_weight=log_weight if log_weight is None or measurement.batched else log_weight[:, 0],
        expectation=mean if mean is None or measurement.batched else mean[0],
    )
    if log_weight is not None:
        # The data were multiplied by `factor`, and so was the unit of the density p(y).
        shift = measurement.count * math.log(factor)
        evidence = torch.logsumexp(log_weight, 0) - math.log(len(log_weight)) + shift
        posterior.diagnostics["ess"] = posterior.ess()
        if getattr(method, "knows_evidence", lambda _: True)(measurement):
            posterior.diagnostics["log_evidence"] = evidence.tolist() if measurement.batched else float(evidence)
    scale = prior.scale / factor
    shrunk = counts.shrunk / max(1, counts.weighed)
    posterior.diagnostics["warnings"] = warnings_of(fit, x, scale, posterior.diagnostics.get("ess"), shrunk)
    if keeper and not keep:
        keeper.remove()
    return posterior


def pick_device(device: str | torch.device, measurement: Measurement | None = None) -> torch.device:
    """Resolve "auto": where the data already are if not on the CPU, else CUDA if there is one, else the CPU.

    Raises:
        InputError: the device named is not there.
    """
    if device == "auto":
        if measurement is not None and measurement.y.device.type != "cpu":
            return measurement.y.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} is not available here ({str(error).splitlines()[0]})") from error
    return chosen


def _options(method: Sampler) -> dict[str, Any]:
    plain = {k: v for k, v in vars(method).items() if isinstance(v, (int, float, str, bool, type(None)))}
    plain |= {k: _told(v) for k, v in vars(method).items() if callable(v)}
    solver = getattr(method, "solver", None)
    return plain | ({"solver": {"name": solver.name, **vars(solver)}} if solver is not None else {})


def _told(function: Any) -> Any:
    """What a guidance or a grid is made from, without addresses in memory."""
    if isinstance(function, partial):
        return _told(function.func), function.args, function.keywords
    return getattr(function, "__qualname__", type(function).__name__)


def _provenance(recipe: dict[str, Any], measurement: Measurement, factor: float) -> dict[str, Any]:
    linear = isinstance(measurement.operator, LinearOperator)
    return {
        "operator": repr(measurement.operator),
        "linear": int(linear),
        "scale_to_prior_unit": factor,
        **{k: v for k, v in recipe.items() if not isinstance(v, dict)},
        **measurement.attributes(),
    }
