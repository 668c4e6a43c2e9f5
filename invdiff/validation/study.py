"""Samplers side by side on problems with known posteriors: the table that `invdiff validate` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from invdiff.errors import InputError, InvdiffError
from invdiff.random import generator
from invdiff.samplers.base import Sampler
from invdiff.samplers.named import sampler as named_sampler
from invdiff.sampling import sample
from invdiff.validation.calibration_run import calibrate
from invdiff.validation.case import Case
from invdiff.validation.judge import Judge
from invdiff.validation.sampler_suite import maker
from invdiff.validation.suites import Family
from invdiff.validation.targets import imported
from invdiff.validation.weighted import equal_weights

__all__ = ["Study", "average", "make_cases", "pool", "run_study", "whole_units"]

Tell = Callable[[str, int], None]
MEASURES = (
    "sw1", "sw1_floor", "sw2", "sw2_floor", "mode_tv", "mode_tv_floor", "std_ratio", "std_ratio_seen",
    "coverage50", "coverage90", "chi2_ratio", "c2st", "ksd", "ksd_floor",
)  # fmt: skip


@dataclass
class Study:
    """Rows of figures, one a sampler and family of problems, and what could not be run, with the reason."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


def run_study(
    families: Sequence[Family],
    samplers: Sequence[str],
    *,
    nfe: int | None = None,
    solver: str | None = None,
    draws: int = 1000,
    repeats: int = 4,
    calibration: int = 0,
    seed: int = 0,
    tell: Tell = lambda line, done: None,
) -> Study:
    """Run every sampler on `repeats` problems of every family; all see the same problems.

    Args:
        samplers: registered names, or ``package.module:Object``.
        nfe, solver: None for the method's own.
        draws: of each problem, rounded up to whole units (populations).
        calibration: number of problems for ranks and TARP, 0 to leave them out; see `calibrate`.
        tell: called before each run with a word on it and the number of runs done.

    A sampler that refuses a problem, or fails, is listed in ``skipped``. Raises InputError for counts below 1.
    """
    if draws < 2 or repeats < 1 or calibration < 0:
        raise InputError(f"draws = {draws}, repeats = {repeats}; expected at least 2 draws and 1 repeat")
    study = Study()
    for index, family in enumerate(families):
        cases = make_cases(family, repeats, seed, index)
        judges: dict[tuple[int, int], Judge] = {}
        for number, name in enumerate(samplers):
            tell(f"{cases[0].name}: {name}", index * len(samplers) + number)
            try:
                row = _row(name, cases, judges, nfe, solver, draws, seed, index)
                if calibration:
                    row |= calibrate(_make(name, nfe, solver), cases[0], calibration, stream(index, 0, 3), seed)
            except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; the others still run
                kind = "" if isinstance(error, InvdiffError) else f"{type(error).__name__}: "
                reason = " ".join(f"{kind}{error}".split())
                study.skipped.append({"case": cases[0].name, "sampler": name, "reason": reason})
            else:
                study.rows.append(row)
    return study


def make_cases(family: Family, repeats: int, seed: int, index: int = 0) -> list[Case]:
    """The problems of a study, each from a stream of its own."""
    return [family(generator(seed, stream(index, r, 1))) for r in range(repeats)]


def stream(index: int, repeat: int, purpose: int) -> int:
    """Number of a stream of random numbers; negative, where those of the samplers' draws are not."""
    return -(4 * ((index << 20) + repeat) + purpose)


def whole_units(draws: int, unit: int) -> int:
    """The least multiple of `unit` that is not below `draws`."""
    return -(-draws // unit) * unit


def pool(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over repeats with their standard errors (``*_se``, NaN from one repeat).

    The bias is the root of the mean squared bias, sampling noise removed, 0 where that is all there is.
    """
    out: dict[str, float] = {}
    for key in MEASURES:
        out[key], out[f"{key}_se"] = average([f[key] for f in found])
    for key in ("bias", "bias_seen"):
        value, error = average([f[key.replace("bias", "bias2")] for f in found])
        out[key] = math.sqrt(max(value, 0.0)) if not math.isnan(value) else math.nan
        out[f"{key}_se"] = error / (2 * max(out[key], math.sqrt(error))) if error > 0 else error
    return out


def _row(
    name: str,
    cases: Sequence[Case],
    judges: dict[tuple[int, int], Judge],
    nfe: int | None,
    solver: str | None,
    draws: int,
    seed: int,
    index: int,
) -> dict[str, Any]:
    found, costs = [], []
    method = _make(name, nfe, solver)
    count = whole_units(draws, method.unit)
    for r, case in enumerate(cases):
        method = _make(name, nfe, solver)
        posterior = sample(case.measurement, case.prior, method, count, seed=seed + r, device="cpu", progress=False)
        if (r, count) not in judges:
            judges[r, count] = Judge(case, count, generator(seed, stream(index, r, 2)))
        found.append(judges[r, count](equal_weights(posterior, generator(seed, stream(index, r, 3))), method.unit))
        costs.append(posterior.diagnostics)
    used = getattr(method, "solver", None)
    return {
        "case": cases[0].name,
        "sampler": name,
        "solver": getattr(used, "name", None),
        "draws": count,
        "unit": method.unit,
        "repeats": len(cases),
        **pool(found),
        **{key: average([float(c[key]) for c in costs])[0] for key in ("nfe", "vjp", "seconds")},
    }


def _make(name: str, nfe: int | None, solver: str | None) -> Sampler:
    if ":" not in name:
        return named_sampler(name, nfe, solver)
    return maker(imported(name))(nfe)  # type: ignore[arg-type]


def average(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of the values that are numbers; NaN where there are too few."""
    kept = torch.tensor([v for v in values if not math.isnan(v)], dtype=torch.float64)
    if len(kept) == 0:
        return math.nan, math.nan
    error = float(kept.std()) / math.sqrt(len(kept)) if len(kept) > 1 else math.nan
    return float(kept.mean()), error


def facts(families: Sequence[Family], repeats: int, seed: int) -> Iterator[dict[str, Any]]:
    """What each problem of a study is: noise level, and the effective size of a truth by importance sampling."""
    for index, family in enumerate(families):
        for r, case in enumerate(make_cases(family, repeats, seed, index)):
            yield {"case": case.name, "repeat": r, **case.facts}
