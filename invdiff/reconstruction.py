"""From a file to a reconstruction, and its judgement by data that were held out: what ``invdiff reconstruct`` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.baselines.cg_sense import cg_sense
from invdiff.baselines.tune import Tuned, tune
from invdiff.baselines.tv import tv
from invdiff.baselines.wavelet import wavelet
from invdiff.baselines.zero_filled import zero_filled
from invdiff.engine.run import Watch
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.posterior import Posterior
from invdiff.priors.base import Prior, as_prior
from invdiff.priors.loading import load_prior
from invdiff.samplers.base import Sampler
from invdiff.samplers.named import sampler as named_sampler
from invdiff.sampling import DEFAULT_MEMORY, sample
from invdiff.trust.words import held_out_warning
from invdiff.units import with_texture
from invdiff.validation.holdout import held_out, nrmse, predict, score, split

__all__ = ["BASELINES", "HeldOut", "Reconstruction", "reconstruct"]

Penalised = Callable[[Measurement, float], Tensor]

BASELINES = {"zero_filled": "zero_filled", "cg": "cg_sense", "tv": "tv_sense", "wavelet": "wavelet_sense"}
_PENALISED: dict[str, Penalised] = {"cg_sense": cg_sense, "tv_sense": tv, "wavelet_sense": wavelet}
TEXTURE = 2.0  # chosen among 0, 1 and 2 on one split of one acquisition (benchmarks/results/README.md)
_TUNING = 0.1  # of the positions choose the strength of a baseline where nobody else judges


@dataclass
class Reconstruction:
    """What `reconstruct` made.

    Attributes:
        posterior: the draws; a single one, without a spread, of a baseline.
        measurement: what they were made from: everything, or what was not held out.
        baselines: classical reconstructions ``(problems, *event)`` by name.
        figures: numbers to report, nested as in the JSON file.
    """

    posterior: Posterior
    measurement: Measurement
    baselines: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def draws(self) -> Tensor:
        """The draws ``(draws, problems, *event)``."""
        x = torch.from_numpy(self.posterior.draws.values)
        return x if self.measurement.batched else x[:, None]

    def residual(self) -> NDArray[np.float32]:
        """Root mean square of ``(y - A x) / sigma`` over draws and coils, per real component, NaN where not measured.

        It is about 1 where the draws explain the data to the noise. Of several problems, of the middle one.
        """
        middle = self.measurement.n_problems // 2
        one = self.measurement.take([middle])
        with torch.inference_mode():
            square = torch.stack(
                [
                    one.noise.whiten(one.residual(x[None].to(one.y.device)))[0].abs().square()
                    for x in self.draws()[:, middle]
                ]
            ).mean((0, 1))
        mask = torch.ones_like(square, dtype=torch.bool)
        if one.operator.range_mask is not None:
            mask = one.operator.range_mask.expand(one.data.shape)[0, 0]
        shown = (square / (2 if one.y.is_complex() else 1)).sqrt().masked_fill(~mask.to(square.device), torch.nan)
        return shown.float().cpu().numpy()


class HeldOut:
    """Data left out of a measurement, and predictions of them; problems follow each other in one vector.

    Attributes:
        train: the measurement of the rest.
        y: the data that were left out, ``(count,)``.
        sigma: their noise level per real component, a number or ``(count,)``.

    Raises:
        InputError: the noise is not Gaussian, or see `split`.
    """

    def __init__(self, full: Measurement, fraction: float, seed: int = 0) -> None:
        self.train, held = split(full, fraction, seed)
        self._parts = []
        for p in range(full.n_problems):
            one = full.take([p])
            self._parts.append((one, held[p : p + 1] if held.shape[0] > 1 else held))
        self.y = torch.cat([held_out(one.data, held)[0] for one, held in self._parts])
        if not isinstance(full.noise, Gaussian):
            raise InputError(f"--holdout needs Gaussian noise, not {type(full.noise).__name__}")
        self.sigma: float | Tensor = full.noise.sigma
        if isinstance(self.sigma, Tensor):
            each = self.sigma.to(full.y.device).expand(full.data.shape)
            parts = [held_out(each[p : p + 1], held)[0] for p, (_, held) in enumerate(self._parts)]
            self.sigma = torch.cat(parts)

    def predictions(self, x: Tensor) -> Tensor:
        """Noise-free predictions ``(draws, count)`` by x ``(draws, problems, *event)``."""
        with torch.inference_mode():
            parts = [
                predict(one.operator, x[:, p].to(one.y.device), held)  # type: ignore[arg-type]
                for p, (one, held) in enumerate(self._parts)
            ]
        return torch.cat(parts, 1)

    def nrmse(self, x: Tensor) -> float:
        """Relative error of the prediction by one reconstruction ``(problems, *event)``."""
        return nrmse(self.y, self.predictions(x[None])[0])


def reconstruct(
    measurement: Measurement,
    prior: Prior | str | Path,
    method: str = "auto",
    *,
    draws: int = 8,
    nfe: int | None = None,
    solver: str | None = None,
    seed: int = 0,
    texture: float = TEXTURE,
    holdout: float | None = None,
    memory: int = DEFAULT_MEMORY,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    watch: Watch | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Reconstruction:
    """Reconstruct, with the classical methods beside it.

    Args:
        measurement: all data, on the device to work on.
        prior: as `invdiff.sample` takes it; not used by a baseline.
        method: a sampler, "auto", or a baseline: one of `BASELINES`. A baseline's strength is the one that predicts
            best a tenth of the positions, left out for this only.
        draws, nfe, solver, seed, memory, checkpoint, resume, progress, watch: as in `invdiff.sample`.
        texture: fine detail that the prior does not know (`invdiff.priors.textured.Textured`), as a multiple of the
            noise that a fully sampled image would have; for network priors of relative unit alone.
        holdout: leave out this fraction of the measured positions (split seed 0) and report how well they are
            predicted by the draws and by each classical method at the best of its strengths, chosen on these very data.
            The draws are then those of the posterior given the rest.
        report: told what is being done.

    Raises:
        InvdiffError: see the message; nothing is kept then.
    """
    began = time.monotonic()
    chosen: tuple[Sampler, Prior] | None = None
    if method not in BASELINES:  # mistakes first: what follows takes minutes
        chosen = (
            named_sampler(method, nfe, solver, measurement),
            as_prior(load_prior(prior) if isinstance(prior, (str, Path)) else prior),
        )
        chosen[1].check(tuple(measurement.operator.domain_shape), measurement.operator.domain)
    elif nfe is not None or solver is not None:
        raise InputError(f"{method} takes neither nfe nor solver: they are for samplers")
    held = HeldOut(measurement, holdout) if holdout is not None else None
    used = held.train if held else measurement
    classical = _classical(used, held, method, report)
    if chosen is None:
        name = BASELINES[method]
        posterior = _single(used, classical[name].x)
        posterior.dataset.attrs |= {"sampler": "none", "strength": classical[name].strength}
    else:
        sampler, model = chosen
        model = with_texture(model, used, texture)
        posterior = sample(
            used, model, sampler, draws, seed=seed, device=used.y.device, memory=memory,
            checkpoint=checkpoint, resume=resume, keep=True, progress=progress, watch=watch,
        )  # fmt: skip
    done = Reconstruction(posterior, used, {name: tuned.x for name, tuned in classical.items()})
    kept: dict[str, float] = {k: posterior.diagnostics[k] for k in ("chi2_ratio", "nfe")}
    if held:
        errors = {name: held.nrmse(tuned.x) for name, tuned in classical.items()}
        if chosen is not None:
            scores = score(held.y, held.predictions(done.draws()), held.sigma)
            errors["posterior_mean"] = scores.pop("holdout_nrmse")
            kept |= scores
            components = held.y.numel() * (2 if held.y.is_complex() else 1)
            posterior.diagnostics["warnings"] += held_out_warning(scores, components)
        done.figures = {"holdout": holdout, "holdout_nrmse": errors, "held_out_data": held.y.numel()}
        done.figures["strength"] = {name: tuned.strength for name, tuned in classical.items()}
        posterior.dataset.attrs |= {
            "holdout_fraction": holdout,
            "comment": "made from the data that were not held out (split seed 0)",
        }
    done.figures |= kept
    done.figures |= {"method": method, "draws": int(posterior.draws.sizes["draw"]), "seed": seed}
    done.figures |= {key: used.meta[key] for key in ("sigma", "acceleration") if key in used.meta}
    posterior.dataset.attrs |= {"method": method, **_versions()}
    done.figures["seconds"] = round(time.monotonic() - began, 2)
    return done


def _classical(used: Measurement, held: HeldOut | None, method: str, report: Callable[[str], None]) -> dict[str, Tuned]:
    """Zero-filled and CG for comparison; all four, tuned, where data were held out; the one that was asked for."""
    done = {"zero_filled": Tuned(zero_filled(used), 0.0, 0.0, {}, True)}
    wanted = list(_PENALISED) if held else ["cg_sense"]
    if method in BASELINES and BASELINES[method] not in (*done, *wanted):
        wanted.append(BASELINES[method])
    for name in wanted:
        if held:
            report(f"{name}: choosing the strength that predicts the held-out data best")
            done[name] = tune(_PENALISED[name], used, held.nrmse)
        elif BASELINES.get(method) == name:
            report(f"{name}: choosing the strength that predicts {_TUNING:.0%} of the data best")
            judge = HeldOut(used, _TUNING)
            best = tune(_PENALISED[name], judge.train, judge.nrmse)
            done[name] = Tuned(
                _PENALISED[name](used, best.strength), best.strength, best.score, best.tried, best.interior
            )
        else:
            done[name] = Tuned(_PENALISED[name](used, 1.0), 1.0, 0.0, {}, True)
    return done


def _single(measurement: Measurement, x: Tensor) -> Posterior:
    """One image per problem as a Posterior: its mean is the image, and of the spread it says nothing."""
    problems = range(measurement.n_problems)
    with torch.inference_mode():
        chi2 = [float(measurement.take([p]).chi2(x[p : p + 1])) for p in problems]
    kept = {k: v for k, v in measurement.meta.items() if isinstance(v, (str, int, float))}
    mean = sum(chi2) / len(chi2)
    return Posterior.from_draws(
        x[None] if measurement.batched else x,
        coords=measurement.coords,
        attrs={"operator": repr(measurement.operator), **kept},
        diagnostics={"nfe": 0, "chi2": mean, "chi2_ratio": mean / measurement.count},
        batched=measurement.batched,
    )


def _versions() -> dict[str, str]:
    import platform

    from invdiff import __version__

    return {
        "source": f"invdiff {__version__}",
        "torch_version": torch.__version__,
        "numpy_version": np.__version__,
        "python_version": platform.python_version(),
    }
