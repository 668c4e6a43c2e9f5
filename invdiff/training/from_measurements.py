"""Train a prior when nobody has ever seen an image: only ``y_i = A_i x_i + n_i``, each A_i blind in its own way.

Expectation maximisation (Rozet, Andry, Lanusse and Louppe, 2024, arXiv 2405.13712): draw each image from its
posterior under the present prior, fit the prior to the draws, again and again. The likelihood of the measurements
grows (as far as draws and fit are exact), so what one A_i cannot see is learned from the others that do. It starts
from Gaussian fields, whose fit and posterior are cheap, and goes on with the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.engine.checkpoint import Checkpoint
from invdiff.engine.run import run
from invdiff.errors import FileError, InputError, ShapeError
from invdiff.files import replacing
from invdiff.guidance import MMPS
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.adapters.network import NetworkPrior
from invdiff.priors.base import Prior
from invdiff.priors.gaussian_field import GaussianFieldPrior
from invdiff.priors.loading import load_prior
from invdiff.random import generator
from invdiff.samplers.guided import Guided
from invdiff.solvers import DPMpp2M
from invdiff.training.config import TrainConfig
from invdiff.training.data_config import MeasurementsConfig
from invdiff.training.field_rounds import field_draws, fit_field, least_squares, noise_level
from invdiff.training.run import train
from invdiff.training.source import Batch

__all__ = ["DrawnImages", "read_measurements", "train_from_measurements", "unit_of"]


def train_from_measurements(
    config: TrainConfig,
    folder: Path,
    report: Callable[[str], None] = print,
    progress: bool = True,
    measurements: Sequence[Measurement] | None = None,
) -> Path:
    """Run the rounds that ``config.data`` (of kind "measurements") asks for; return the last round's weights.

    Each round has a folder, and what is finished is not made again: the same call goes on after an interruption.

    Args:
        measurements: linear, Gaussian noise, x of one shape; read from ``config.data.paths`` if not given.

    Raises:
        InputError: a nonlinear operator, or another kind of data. ShapeError: images of different shapes.
        FileError: the folder holds a run of another configuration.
    """
    data = config.data
    if not isinstance(data, MeasurementsConfig):
        raise InputError(f"data.kind is {data.kind}; training from measurements alone expects 'measurements'")
    given = read_measurements(data.paths) if measurements is None else list(measurements)
    _check(given)
    folder.mkdir(parents=True, exist_ok=True)
    _same_run(folder / "run.json", config)
    unit = unit_of(given)
    given = [_scaled(m, unit) for m in given]
    prior: Prior = fit_field(given, data.gaussian_rounds, config.seed, report)
    floor = noise_level(given, config.seed)
    report(f"noise where the data show an image: deviation {floor:.4f}")
    weights = None
    for k in range(data.rounds):
        place = folder / f"round_{k + 1}"
        place.mkdir(exist_ok=True)
        target = place / f"{config.name}.safetensors"
        if not target.is_file():
            draws = _kept(place, partial(_posterior_draws, given, prior, data, 100 + k, place, progress))
            changed: dict[str, Any] = {} if weights is None else {"start_from": str(weights)}
            if k + 1 < data.rounds:
                changed["decay_from"] = 1.0  # the next round goes on; the running mean of the weights settles enough
            elif data.last_steps:
                changed["steps"] = data.last_steps
            settings = config.model_copy(update=changed)
            train(settings, place, report, progress, DrawnImages(draws, data.patch, config.seed + k))
        weights = target
        loaded = load_prior(weights)
        assert isinstance(loaded, NetworkPrior)
        loaded.units = None  # the measurements were scaled above, all by one number
        loaded.sigma_min = max(loaded.sigma_min, floor)
        prior = loaded
        report(f"round {k + 1} of {data.rounds} is in {place}")
    assert weights is not None
    return weights


class DrawnImages:
    """Posterior draws, real ``(n, C, H, W)`` or complex ``(n, 1, H, W)``, as training crops; 1 in 20 is held out."""

    def __init__(self, draws: Tensor, patch: int | None, seed: int) -> None:
        self.domain = "complex" if draws.is_complex() else "real"
        x = torch.view_as_real(draws[:, 0]).permute(0, 3, 1, 2).contiguous() if draws.is_complex() else draws.float()
        self.patch, self.seed = patch or min(x.shape[-2:]), seed
        if self.patch > min(x.shape[-2:]):
            raise ShapeError(f"data.patch is {patch}; the images are {tuple(x.shape[-2:])}")
        count = max(1, len(x) // 20)
        self.seen, self.rest = x[:-count], x[-count:]
        self.channels, self.conditions = x.shape[1], 0
        self.card: dict[str, Any] = {"units": {"kind": "relative", "quantile": 0.99, "value": 0.8}}

    def batch(self, step: int, n: int) -> Batch:
        """Training batch number `step`."""
        return self._draw(self.seen, step, n)

    def held_out(self, step: int, n: int) -> Batch:
        """Of draws that are not trained on (draws all the same: the truth is nowhere)."""
        return self._draw(self.rest, (1 << 40) + step, n)

    def _draw(self, images: Tensor, number: int, n: int) -> Batch:
        rng = generator(self.seed, number)
        which = torch.randint(len(images), (n,), generator=rng)
        corners = torch.rand(n, 2, generator=rng).tolist()
        rooms = [size - self.patch + 1 for size in images.shape[-2:]]
        out = torch.empty(n, self.channels, self.patch, self.patch)
        for i, index in enumerate(which.tolist()):
            top, left = (int(u * room) for u, room in zip(corners[i], rooms, strict=True))
            out[i] = images[index, :, top : top + self.patch, left : left + self.patch]
        return Batch(out)


def unit_of(measurements: Sequence[Measurement]) -> float:
    """The number that brings the 99 % magnitude of the measurements' least-squares images to 0.8."""
    size = torch.cat([least_squares(m).abs().flatten().float() for m in measurements])
    return 0.8 / float(torch.quantile(size[:: 1 + len(size) // 2**22], 0.99))


def read_measurements(paths: Sequence[str]) -> list[Measurement]:
    """Read measurement files, in folders too (sorted by name). Raises FileError where there is none."""
    from invdiff.datasets.reading import read

    files: list[Path] = []
    for given in map(Path, paths):
        files += sorted(p for p in given.iterdir() if p.is_file()) if given.is_dir() else [given]
    if not files:
        raise FileError(f"data.paths ({', '.join(paths)}) holds no file; it expects measurements")
    return [read(path) for path in files]


def _check(given: Sequence[Measurement]) -> None:
    if not given:
        raise InputError("no measurement was given; training from measurements needs many, by different operators")
    shapes = {(tuple(m.operator.domain_shape), m.operator.domain) for m in given}
    if len(shapes) > 1:
        raise ShapeError(f"the measurements are of images {sorted(map(str, shapes))}; they must be of one shape")
    bad = next((m for m in given if not isinstance(m.operator, LinearOperator)), None)
    if bad is not None:
        raise InputError(f"{bad!r} is nonlinear; training from measurements takes linear operators")


def _scaled(m: Measurement, factor: float) -> Measurement:
    noise = m.noise.scaled(factor)  # type: ignore[attr-defined]
    return Measurement(m.y * factor, m.operator, noise, m.coords, m.meta, m.batched)


def _posterior_draws(
    given: Sequence[Measurement], prior: Prior, data: MeasurementsConfig, number: int, keep: Path | None, progress: bool
) -> Tensor:
    """One draw (or more) of each image under the prior, ``(draws * problems, *event)``.

    By the stochastic equation: draws must be as varied as images are, or every round takes from the prior. A network
    smooths, and its flow's draws lose a quarter of the energy that was not measured; the stochastic equation's lose 3
    to 10 % at 16 evaluations (a network trained on clean phantoms, 39 % of k-space not measured).

    They end at the prior's sigma_min with the guided mean. That is the noise level of the data: what is finer is
    hardly in them, and a prior that starts with too much of it would take many rounds to lose it.
    """
    if isinstance(prior, GaussianFieldPrior):
        return field_draws(given, prior, number)
    out = []
    for i, m in enumerate(given):
        method = Guided(
            lambda p, y: MMPS(p, y, data.iterations), DPMpp2M(1.0), data.nfe, sigma_max=data.sigma_max, name="mmps"
        )
        seed, event = 1000 * number + i, tuple(m.operator.domain_shape)
        prior.check(event, m.operator.domain)
        keeper = None if keep is None else Checkpoint(keep / f"draws_{i}", {"seed": seed, "data": repr(m)}, True)
        x, _, _ = run(method, prior, m, data.draws, seed, m.y.device, data.chunk, progress, keeper)
        out.append(x.flatten(0, 1))
        if keeper is not None:
            keeper.remove()
    return torch.cat(out)


def _kept(place: Path, make: Callable[[], Tensor]) -> Tensor:
    """Draws from the round's file, or made and written there."""
    from safetensors.torch import load_file, save_file

    path = place / "draws.safetensors"
    if path.is_file():
        ((kind, values),) = load_file(path).items()
        return torch.view_as_complex(values) if kind == "complex" else values
    draws = make()
    named = {"complex": torch.view_as_real(draws).contiguous()} if draws.is_complex() else {"real": draws}
    with replacing(path) as part:
        save_file(named, part)
    return draws


def _same_run(path: Path, config: TrainConfig) -> None:
    now = config.model_dump(mode="json")
    now["data"].pop("rounds")  # more of them may be asked for later
    if path.is_file() and json.loads(path.read_text()) != now:
        raise FileError(f"{path} is of another configuration; take another folder, or delete that one")
    with replacing(path) as part:
        part.write_text(json.dumps(now))
