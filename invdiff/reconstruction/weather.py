"""Ensembles of the atmosphere: coarse fields and station reports of many times to draws of the state at each.

Every time is a problem of its own, seen through a window of the times about it, with the prior of its time of day and
year; times run one after the other, or on the workers of a Dask cluster. What is done is kept in a folder, so that an
interrupted run goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.weather.clock import hours_since, instant
from invdiff.datasets.weather.ensemble import check_later, ensemble, write_ensemble
from invdiff.datasets.weather.measurements import Channel, State
from invdiff.errors import FileError, InputError
from invdiff.files import replacing
from invdiff.measurement import Measurement
from invdiff.networks.tiles import Tiled, tile_for
from invdiff.priors.fields_guess import FieldsPrior
from invdiff.priors.fields_weights import FieldBackbone
from invdiff.priors.loading import load_prior
from invdiff.random import Streams
from invdiff.reconstruction.weather_data import Observed
from invdiff.reconstruction.windows import states_of, window_measurement
from invdiff.samplers.warm import Warm
from invdiff.sampling import DEFAULT_MEMORY
from invdiff.solvers import DPMpp2M

__all__ = ["Weather", "is_weather", "reconstruct_weather", "state_of"]


@dataclass(frozen=True)
class Weather:
    """How to reconstruct.

    Attributes:
        draws: members at each time. nfe: network evaluations per draw. seed: of the draws.
        sigma: error of the coarse field in its unit, one number or by quantity; None for what the file states.
        error, representativeness: of stations by quantity, where the table has none, and what the grid cannot resolve.
        memory: bytes for the network at all draws of a time; larger fields are seen in tiles.
        workers, scheduler: run the times on that many processes here, or on a Dask scheduler.
        checkpoint: folder for what is done. resume: go on from it.
        report: told what is being done.
    """

    draws: int = 16
    nfe: int = 10
    seed: int = 0
    sigma: float | Mapping[str, float] | None = None
    error: Mapping[str, float] = field(default_factory=dict)
    representativeness: Mapping[str, float] = field(default_factory=dict)
    memory: int = DEFAULT_MEMORY
    workers: int | None = None
    scheduler: str | None = None
    checkpoint: Path | None = None
    resume: bool = False
    report: Callable[[str], None] = lambda line: None


def is_weather(prior: str | Path | None) -> bool:
    """Whether these are the weights of a prior of fields."""
    from invdiff.errors import InvdiffError
    from invdiff.priors.loading import card_of

    try:
        return prior is not None and "fields" in card_of(prior)
    except InvdiffError:
        return False


def state_of(prior: FieldsPrior) -> State:
    """The state that a prior was trained on."""
    told = prior.card["fields"]
    columns = zip(told["quantities"], told["levels"], told["names"], told["units"], strict=True)
    return State(tuple(Channel(*c) for c in columns), tuple(told["latitude"]), tuple(told["longitude"]))


def reconstruct_weather(
    coarse: Path | None, stations: Sequence[Path], prior: str | Path, out: Path, settings: Weather
) -> dict[str, Any]:
    """Write an ensemble (``.nc``, or ``.zarr``, which grows) and return the figures.

    Without a coarse field the times are those of the observations.

    Raises:
        InvdiffError: a file cannot be read, there is nothing to go by, or the prior is none of fields.
    """
    began = time.monotonic()
    model = load_prior(prior)
    if not isinstance(model, FieldsPrior):
        raise InputError(f"{prior} is no prior of fields: train one with 'invdiff train weather'")
    state = state_of(model)
    tile = _tiled(model, settings.memory // settings.draws)
    data = Observed(
        coarse, stations, state, model.calendar, settings.sigma, settings.error, settings.representativeness
    )
    if out.suffix == ".zarr":
        check_later(out, data.times)
    settings.report(f"{len(data.times)} times, {state.shape} fields, {data.told}")
    fresh = settings.checkpoint is not None and not settings.checkpoint.exists()
    folder = _folder(settings, model, coarse, stations)
    todo = [i for i in range(len(data.times)) if not (folder and _kept(folder, i).is_file())]
    made: dict[int, NDArray[np.float32]] = {}

    def done(i: int, x: NDArray[np.float32]) -> None:
        if folder:
            with replacing(_kept(folder, i)) as part, part.open("wb") as file:
                np.save(file, x)
        else:
            made[i] = x

    try:
        _run(todo, data, model, settings, done)
    except Exception:
        if folder and fresh and not any(folder.glob("time-*.npy")):
            shutil.rmtree(folder, ignore_errors=True)  # it holds nothing to go on from
        raise
    x = torch.from_numpy(np.stack([np.load(_kept(folder, i)) if folder else made[i] for i in range(len(data.times))]))
    attrs = {
        "title": "posterior draws", "seed": settings.seed, "sampler": "warm", "nfe": settings.nfe, **model.describe()
    }  # fmt: skip
    write_ensemble(ensemble(x, state, data.times, attrs), out)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        **_figures(x, data, model),
        "method": "warm",
        "draws": settings.draws,
        "nfe": settings.nfe,
        "seed": settings.seed,
        "tile": tile,
        "seconds": round(time.monotonic() - began, 2),
    }


def _run(
    todo: Sequence[int],
    data: Observed,
    model: FieldsPrior,
    settings: Weather,
    done: Callable[[int, NDArray[np.float32]], None],
) -> None:
    from tqdm import tqdm

    def problem(i: int) -> Measurement:
        return window_measurement(data.about(data.times[i]), model.calendar, data.times[i])

    if settings.workers is None and settings.scheduler is None:
        for i in tqdm(todo, unit="time", desc="warm"):
            done(i, _draws(model, problem(i), data.times[i], settings.draws, settings.nfe, settings.seed))
        return
    from distributed import as_completed

    from invdiff.engine.distributed import connect

    with connect(settings.workers, settings.scheduler) as client, tqdm(total=len(todo), unit="time") as bar:
        shared = client.scatter(model, broadcast=True)
        futures = {
            client.submit(
                _elsewhere,
                torch.get_num_threads(),
                shared,
                problem(i),
                data.times[i],
                settings.draws,
                settings.nfe,
                settings.seed,
                pure=False,
            ): i
            for i in todo
        }
        for future in as_completed(futures):
            done(futures[future], future.result())
            bar.update()


def _elsewhere(threads: int, *what: Any) -> NDArray[np.float32]:
    """`_draws` in a worker, with as many threads as here: the last bits depend on it."""
    torch.set_num_threads(threads)
    return _draws(*what)


def _draws(
    model: FieldsPrior, measurement: Measurement, time: Any, draws: int, nfe: int, seed: int
) -> NDArray[np.float32]:
    """Members ``(draws, C, rows, columns)`` at one time, from streams of their own.

    Member k takes its numbers from stream ``2^32 s + k``, s the seconds from 1970: a period has the same draws, whether
    it is made at once or piece by piece.
    """
    assert model.sample_shape is not None  # a field's prior knows its grid
    like = torch.empty(draws, *model.sample_shape)
    second = round(3600 * float(hours_since(np.atleast_1d(time), instant("1970-01-01", time))[0]))
    rng = Streams(seed, [(second << 32) + k for k in range(draws)])
    z = like
    with torch.inference_mode():
        for state in Warm(DPMpp2M(1.0), nfe).steps(model.at(np.atleast_1d(time)), measurement, like, rng):
            z = state.x
        x = states_of(z, model.calendar, time)
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"the draws at {time} are not finite; check the data's unit and errors")
    return x.numpy()


def _tiled(model: FieldsPrior, memory: int) -> int | None:
    backbone = model.network.backbone
    if not isinstance(backbone, FieldBackbone):
        return None
    assert model.sample_shape is not None  # a field's prior knows its grid
    tile = tile_for(backbone.network, memory, *model.sample_shape[1:])
    if tile is not None:
        multiple = backbone.network.fold * 2 ** (backbone.network.levels - 1)
        backbone.network = Tiled(backbone.network, tile, max(multiple, 16 // multiple * multiple))  # type: ignore
    return tile


def _figures(x: Tensor, data: Observed, model: FieldsPrior) -> dict[str, Any]:
    """Spread by channel, and how the draws fit what was observed at their own time."""
    spread = x.var(1).mean((0, 2, 3)).sqrt() if x.shape[1] > 1 else torch.zeros(x.shape[2])
    square, count = 0.0, 0
    residuals: list[dict[str, Any]] = []
    offset = model.calendar.offsets.index(0.0)
    for i, at in enumerate(data.times):
        for m in data.about(at).get(offset, []):
            square += float(m.chi2(x[i]).mean())
            count += m.count
            if m.meta["instrument"] == "observations":
                mean = m.operator.forward(x[i]).mean(0)
                residuals += [
                    {"time": str(at), "station": s, "variable": v, "residual": round(float(r), 4)}
                    for s, v, r in zip(m.meta["station"], m.meta["variable"], (m.y - mean).tolist(), strict=True)
                ]
    names = [c.name if c.level is None else f"{c.name}_{c.level / 100:g}hPa" for c in data.state.channels]
    return {
        "times": len(data.times),
        "data": count,
        "chi2_per_datum": round(square / max(count, 1), 4),
        "spread": {n: round(float(s), 5) for n, s in zip(names, spread, strict=True)},
        "left_out": data.left_out,
        "station_residuals": residuals[:1000],
    }


def _folder(settings: Weather, model: FieldsPrior, coarse: Path | None, stations: Sequence[Path]) -> Path | None:
    if settings.checkpoint is None:
        return None
    recipe = {
        "draws": settings.draws, "nfe": settings.nfe, "seed": settings.seed, "sigma": str(settings.sigma),
        "error": str(settings.error), "files": [str(coarse), *map(str, stations)], **model.describe(),
    }  # fmt: skip
    folder = settings.checkpoint
    stored = folder / "recipe.json"
    if settings.resume and stored.is_file():
        if json.loads(stored.read_text()) != recipe:
            raise FileError(f"{folder} is of another run ({stored.read_text()}); remove it or ask for the same")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(stored) as part:
        part.write_text(json.dumps(recipe))
    return folder


def _kept(folder: Path | None, i: int) -> Path:
    assert folder is not None
    return folder / f"time-{i:06d}.npy"
