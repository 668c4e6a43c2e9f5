"""Does a sampler keep the contract? The same checks for our samplers and for a plug-in author's.

All runs go through `invdiff.sample` on a Gaussian prior with eight components and three data, real and complex, whose
posterior is known exactly. What a sampler declares (`exact_for`, `unit`, `uses_vjp`, its counts) is held against what
is seen. Statistical limits are four standard errors of the number of independent draws; a sampler that does not claim
to be exact has its errors recorded, not judged.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError
from invdiff.measurement import Measurement
from invdiff.operators.matrix import Matrix
from invdiff.priors.base import Prior
from invdiff.random import generator
from invdiff.samplers.base import Sampler
from invdiff.samplers.named import sampler as named_sampler
from invdiff.validation.conformance import Report, Row, at_most, guarded
from invdiff.validation.operator_probe import apart
from invdiff.validation.sampler_problem import Counting, Problem, agreement, exact_posterior, problem

__all__ = ["check_sampler"]

FEW = 24  # network evaluations where only the bookkeeping is checked
SOME = 100  # where draws are compared with the exact posterior and the errors recorded
MANY = 400  # and where they are judged, so that the steps' own error is small beside the statistical one
DRAWS = 512


def check_sampler(target: Any, *, seed: int = 0) -> Report:
    """Run all checks on a sampler's name, a Sampler object or class, or a factory ``(nfe, solver) -> Sampler``.

    A name or a factory is run with few evaluations where bookkeeping is checked, and against the exact posterior with
    400 if it claims to be exact, 100 if not; an object runs as it is.

    Raises:
        UnknownNameError: no such name. DTypeError: the target is none of these.
    """
    make = maker(target)
    made = make(FEW)
    report = Report(f"{made.name} (exact for {made.exact_for}, unit {made.unit})")
    with _one_thread():
        for index, domain in enumerate(("real", "complex")):
            case = problem(domain, generator(seed, index))
            bench = _Bench(make, case, seed)
            for name, check in _CHECKS.items():
                rows = guarded(name, lambda check=check, bench=bench: check(bench))  # type: ignore[misc]
                report.rows += [Row(f"{r.name}, {domain}", r.passed, r.value, r.limit, r.detail) for r in rows]
    return report


def maker(target: Any) -> Callable[[int], Sampler]:
    """Return ``nfe -> Sampler`` for whatever stands for a sampler; an object is returned whatever nfe is.

    So is what a class makes that takes no ``nfe``. Raises DTypeError for what stands for no sampler.
    """
    if isinstance(target, str):
        return lambda nfe: named_sampler(target, nfe)
    if isinstance(target, type):
        takes = "nfe" in inspect.signature(target).parameters
        return lambda nfe: _checked(target(nfe=nfe) if takes else target(), target)
    if hasattr(target, "steps"):
        return lambda nfe: _checked(target, target)
    if not callable(target):
        raise DTypeError(f"{target!r} is no sampler's name, no Sampler and no factory (nfe, solver) -> Sampler")
    return lambda nfe: _checked(target(nfe=nfe, solver=None), target)


def _checked(made: Any, target: Any) -> Sampler:
    missing = [a for a in ("steps", "name", "exact_for", "unit", "uses_vjp", "counts") if not hasattr(made, a)]
    if missing:
        raise DTypeError(
            f"{target!r} gives a {type(made).__name__} without {', '.join(missing)}; see the Sampler protocol"
        )
    sampler: Sampler = made
    return sampler


@contextmanager
def _one_thread() -> Iterator[None]:
    # Problems this small run on one thread; more only wait for each other, long where the machine is busy.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Bench:
    """Runs one sampler on one problem; counts of draws are in units, so that populations stay whole."""

    def __init__(self, make: Callable[[int], Sampler], case: Problem, seed: int) -> None:
        self.make, self.case, self.seed = make, case, seed
        self.unit = make(FEW).unit

    def run(
        self,
        units: int,
        nfe: int = FEW,
        seed: int | None = None,
        batch: int | str = "auto",
        case: Problem | None = None,
        prior: Prior | None = None,
        measurement: Measurement | None = None,
    ) -> Tensor:
        return self.result(units, nfe, seed, batch, case, prior, measurement)[0]

    def result(
        self,
        units: int,
        nfe: int = FEW,
        seed: int | None = None,
        batch: int | str = "auto",
        case: Problem | None = None,
        prior: Prior | None = None,
        measurement: Measurement | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        from invdiff.sampling import sample

        case = self.case if case is None else case
        found = sample(
            case.measurement if measurement is None else measurement,
            case.prior if prior is None else prior,
            self.make(nfe),
            units * self.unit,
            seed=self.seed if seed is None else seed,
            batch=batch if isinstance(batch, str) else batch * self.unit,
            device="cpu",
            progress=False,
        )
        return torch.from_numpy(found.draws.to_numpy().copy()), found.diagnostics


# ---- bookkeeping ------------------------------------------------------------------------------------------------
def _seeds(bench: _Bench) -> Iterator[Row]:
    outside = torch.random.get_rng_state()
    first = bench.run(3, seed=0)
    kept = torch.equal(outside, torch.random.get_rng_state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # a sampler that draws from the global generator would follow this
        again = bench.run(3, seed=0)
    other, large = bench.run(3, seed=1), bench.run(3, seed=2**40 + 1)
    yield Row("same seed, same bits", torch.equal(first, again), detail="seed 0, whatever the global generator")
    differ = not (torch.equal(first, other) or torch.equal(first, large) or torch.equal(other, large))
    yield Row("other seeds, other draws", differ, detail="seeds 0, 1 and 2^40 + 1")
    gaps = [apart(first[i : i + 1], first[j : j + 1]) for i in range(len(first)) for j in range(i)]
    if gaps:
        yield Row("draws differ from each other", min(gaps) > 1e-4, min(gaps), detail="least relative difference")
    yield Row("global generator untouched", kept)


def _shape(bench: _Bench) -> Iterator[Row]:
    case = bench.case
    prior, measurement = case.prior, case.measurement
    before = [t.clone() for t in (measurement.y, case.matrix, prior.mean)]
    draws = bench.run(2, prior=prior, measurement=measurement)
    yield Row("finite", bool(torch.isfinite(torch.view_as_real(draws) if draws.is_complex() else draws).all()))
    fits = draws.shape == (2 * bench.unit, *case.mean.shape) and draws.dtype == case.mean.dtype
    yield Row("shape and dtype", fits, detail=f"{tuple(draws.shape)} {draws.dtype}")
    after = (measurement.y, case.matrix, prior.mean)
    yield Row("y, operator and prior untouched", all(map(torch.equal, before, after)))


def _chunks(bench: _Bench) -> Iterator[Row]:
    whole = bench.run(8)
    worst = max(apart(bench.run(8, batch=size), whole) for size in (1, 4))
    yield at_most("chunks", worst, 1e-5, "chunks of 1 and 4 units against all 8 at once")


def _independence(bench: _Bench) -> Iterator[Row]:
    many, few = bench.run(8), bench.run(3)
    yield at_most("units are independent", apart(many[: len(few)], few), 1e-5, "the first 3 of 8 against 3 alone")


def _problems(bench: _Bench) -> Iterator[Row]:
    case = bench.case

    def joint(first: Tensor, second: Tensor, units: int) -> Tensor:
        y = torch.stack([first, second])
        measurement = Measurement(y, Matrix(case.matrix), case.measurement.noise, batched=True)
        return bench.run(units, measurement=measurement)

    both, other = joint(case.y, -0.5 * case.y, 2), joint(3 * case.y, -0.5 * case.y, 4)
    worst = max(apart(both[:, 0], bench.run(2)), apart(both[:, 1], other[: len(both), 1]))
    yield at_most(
        "several problems at once", worst, 1e-5, "the first alone; the second beside another, with more draws"
    )


def _units(bench: _Bench) -> Iterator[Row]:
    reference = bench.run(4)
    for name, axis in (("A, y and sigma", "y"), ("prior, y and sigma", "x")):
        worst = 0.0
        for c in (1e-3, 1e3):
            case = bench.case.scaled(y=c) if axis == "y" else bench.case.scaled(x=c, y=c)
            factor = 1.0 if axis == "y" else c
            worst = max(worst, apart(bench.run(4, case=case) / factor, reference))
        yield at_most(f"invariant when {name} are scaled", worst, 1e-3, "by 1e-3 and 1e3, relative change of a draw")


def _cost(bench: _Bench) -> Iterator[Row]:
    prior, made = Counting(bench.case.prior), bench.make(FEW)
    _, diagnostics = bench.result(6, batch=3, prior=prior)
    draws = 6 * bench.unit
    nfe, vjp = prior.evaluations / draws, prior.gradients / draws
    yield Row("NFE as reported", nfe == diagnostics["nfe"], nfe, diagnostics["nfe"], "network evaluations per draw")
    yield Row("VJP as reported", vjp == diagnostics["vjp"], vjp, diagnostics["vjp"], "gradients per draw")
    yield Row("uses_vjp as declared", (vjp > 0) == made.uses_vjp, detail=f"declares {made.uses_vjp}")
    asked = getattr(made, "nfe", None)
    if asked is not None:
        yield at_most("NFE within what was asked for", nfe, asked)


# ---- the posterior ----------------------------------------------------------------------------------------------
def _posterior(bench: _Bench) -> Iterator[Row]:
    units = max(64, DRAWS // bench.unit)
    exact, spread = exact_posterior(bench.case)
    judged = bench.make(FEW).exact_for in ("gaussian", "any")
    draws, cost = bench.result(units, nfe=MANY if judged else SOME)
    found = agreement(draws, exact, spread)
    best = f"best known direction: bias {found.bias[0]:+.3f}, std ratio {found.ratio[0]:.3f}"
    size = len(found.bias)
    measured = {
        "bias": (float(found.bias.abs().max()), 4 / math.sqrt(units), f"worst, in posterior deviations; {best}"),
        "std": (float((found.ratio - 1).abs().max()), 4 / math.sqrt(2 * (units - 1)), "worst |std / exact - 1|"),
        "variance": (
            abs(float((found.ratio**2).mean()) - 1),
            4 * math.sqrt(2 / (units * size)),
            f"|mean over directions of variance / exact - 1|; it is {float((found.ratio**2).mean()):.3f}",
        ),
        # The arcsine makes a proportion's error normal; the coverage itself has a long tail downwards.
        "coverage": (
            float((2 * (found.coverage.sqrt().asin() - math.asin(math.sqrt(0.9)))).abs().max()) * math.sqrt(units + 2),
            4.0,
            "of the 90 % interval, worst direction, in standard errors; coverage is"
            f" {float(found.coverage.min()):.3f} to {float(found.coverage.max()):.3f}",
        ),
    }
    for name, (value, limit, detail) in measured.items():
        note = f"{detail}; {units * bench.unit} draws at {cost['nfe']} NFE"
        yield Row(f"posterior {name}", value <= limit if judged else None, value, limit if judged else None, note)


_CHECKS: dict[str, Callable[[_Bench], Iterator[Row]]] = {
    "seeds": _seeds,
    "shape": _shape,
    "chunks": _chunks,
    "units are independent": _independence,
    "several problems at once": _problems,
    "invariant in unit": _units,
    "cost": _cost,
    "posterior": _posterior,
}
