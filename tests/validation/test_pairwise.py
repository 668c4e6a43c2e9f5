"""Every guidance of denoiser form, under every solver, on every operator: each pair of the three meets in some run.

For solver i and operator j the guidance is the (i + j)-th of those that take the operator, so that going through
solvers and operators covers the pairs of each with guidance too.
"""

import importlib
import pkgutil
from functools import cache, partial
from importlib.metadata import entry_points

import pytest
import torch

import invdiff.guidance
from invdiff.errors import InvdiffError
from invdiff.guidance.base import Guidance
from invdiff.guidance.declared import Declared
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams, generator
from invdiff.samplers.guided import Guided
from invdiff.solvers import named_solver, solver_names

NFE = 16
DRAWS = 2


class White(Prior):
    """x ~ N(0, 1) for each real component."""

    sigma_min, sigma_max, scale = 0.05, 10.0, 1.0

    def __init__(self, domain: str) -> None:
        self.domain = domain

    def denoise(self, x, sigma):
        return x / (1 + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2)


class Unguided(Guidance):
    """The prior alone: what guidance is measured against."""

    def __call__(self, x, sigma):
        return self.denoise(x, sigma)


def smooth(x):
    """A penalty for steering."""
    return x.abs().square().flatten(1).sum(1)


# What guidance needs beside a prior and a measurement.
EXTRA = {
    "DEFT": lambda kind, prior, measurement: kind(prior, measurement, downhill(measurement)),
    "Steered": lambda kind, prior, measurement: kind(prior, measurement, smooth),
    "WeightedH": lambda kind, prior, measurement: kind(prior, measurement, back_projection(measurement)),
}
# It does not look at the data through the operator, or not at all, so that nothing is promised of the residual.
BLIND = {"Steered", "WeightedH"}


def downhill(measurement):
    """In place of a trained correction: a stable step down the misfit of a prior of variance 1."""
    op, noise = measurement.operator, measurement.noise
    curvature = op.norm() ** 2 / noise.sigma**2 if isinstance(op, LinearOperator) else 1.0

    def correction(x, x0, gradient, sigma, scale):
        r2 = float(sigma) ** 2 / (1 + float(sigma) ** 2)
        return r2 / (1 + r2 * curvature) * gradient

    return correction


@cache
def overshoots(operator):
    """Whether TMPD's update makes residuals grow: by more than twice what they are, ``|A A^H D^-1| > 2``.

    D are the row sums of A A^H, plus the noise. They bound the eigenvalues where all entries are positive, and where
    entries of both signs cancel they do not: the published method diverges there, under any solver.
    """
    measurement = problem(operator)[1]
    op, noise = measurement.operator, measurement.noise
    ones = torch.ones_like(measurement.data)
    sums = torch.view_as_real(op.forward(op.adjoint(ones + 1j * ones if ones.is_complex() else ones)).to(torch.cfloat))
    scale = sums.abs() + noise.sigma**2
    v = Streams(5, [0]).normal(measurement.data)
    for _ in range(40):
        v = v / v.abs().square().sum().sqrt()
        parts = torch.view_as_real(v.to(torch.cfloat)) / scale
        w = torch.view_as_complex(parts) if v.is_complex() else parts[..., 0]
        v = op.forward(op.adjoint(w))
    return float(v.abs().square().sum().sqrt()) > 2


def back_projection(measurement):
    """An image to pull towards."""
    op = measurement.operator
    x = torch.zeros(1, *op.domain_shape, dtype=torch.complex64 if op.domain == "complex" else torch.float32)
    return op.adjoint(measurement.data) / op.norm() ** 2 if isinstance(op, LinearOperator) else x


@cache
def guidances():
    """All guidance of denoiser form in the package, by name."""
    for module in pkgutil.iter_modules(invdiff.guidance.__path__):
        importlib.import_module(f"invdiff.guidance.{module.name}")
    found, waiting = {}, list(Guidance.__subclasses__())
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        # One without a call of its own is no denoiser: it is called by a sampler that has a step of its own. `Declared`
        # asks for priors with a covariance of their own (tests/guidance/test_declared.py).
        if kind.__module__.startswith("invdiff.") and kind.__call__ is not Guidance.__call__ and kind is not Declared:
            found[kind.__name__] = kind
    return dict(sorted(found.items()))


def make(name, prior, measurement):
    kind = guidances()[name]
    return EXTRA[name](kind, prior, measurement) if name in EXTRA else kind(prior, measurement)


@cache
def problem(name):
    """A measurement of a draw of the prior through an operator's example, a tenth of the data's size in noise."""
    (point,) = (p for p in entry_points(group="invdiff.operators") if p.name == name)
    op = point.load().example(generator(0))
    prior = White(op.domain)
    dtype = torch.complex64 if op.domain == "complex" else torch.float32
    truth = Streams(3, [0]).normal(torch.empty(1, *op.domain_shape, dtype=dtype))
    op = op.to(torch.float32)
    clean = op.forward(truth)
    noise = Gaussian(0.1 * float(clean.abs().square().mean().sqrt()) + 1e-3)
    y = noise.sample(clean, generator(1))
    mask = 1 if op.range_mask is None else op.range_mask
    return prior, Measurement((y * mask)[0], op, noise), torch.zeros(DRAWS, *op.domain_shape, dtype=dtype)


@cache
def takers(operator):
    """The guidance that takes the operator; the others must say why not, by an error of ours."""
    prior, measurement, _ = problem(operator)
    found = []
    for name in guidances():
        try:
            make(name, prior, measurement)
        except InvdiffError:
            continue
        found.append(name)
    return found


def operators():
    return sorted(p.name for p in entry_points(group="invdiff.operators") if p.value.startswith("invdiff."))


def plan():
    """(solver, operator, guidance) of all runs."""
    for i, solver in enumerate(solver_names()):
        for j, operator in enumerate(operators()):
            if names := takers(operator):
                yield solver, operator, names[(i + j) % len(names)]


def misfit(measurement, draws):
    return float(measurement.residual(draws).abs().square().mean())


@pytest.mark.parametrize("solver", solver_names())
def test_guidance_runs_under_every_solver_on_every_operator(solver):
    failures = []
    for name, operator, guidance in plan():
        if name != solver:
            continue
        prior, measurement, like = problem(operator)
        sampler = Guided(partial(make, guidance), named_solver(solver), NFE)
        free = Guided(Unguided, named_solver(solver), NFE)
        with torch.no_grad():
            *_, last = sampler.steps(prior, measurement, like, Streams(7, range(DRAWS)))
            *_, prior_only = free.steps(prior, measurement, like, Streams(7, range(DRAWS)))
        what = f"{guidance} on {operator}"
        if last.x.shape != like.shape or last.x.dtype != like.dtype:
            failures.append(f"{what}: {tuple(last.x.shape)} {last.x.dtype}")
        if not 0 < sampler.counts.nfe <= NFE:
            failures.append(f"{what}: {sampler.counts.nfe} evaluations of {NFE}")
        judged = guidance not in BLIND and not (guidance == "TMPD" and overshoots(operator))
        if judged and not misfit(measurement, last.x) < misfit(measurement, prior_only.x):
            failures.append(
                f"{what}: misfit {misfit(measurement, last.x)}, without {misfit(measurement, prior_only.x)}"
            )
    assert not failures, "\n".join(failures)


def test_all_pairs_are_covered():
    runs = set(plan())
    assert {(s, g) for s, _, g in runs} == {(s, g) for s in solver_names() for g in guidances()}
    assert {(o, g) for _, o, g in runs} == {(o, g) for o in operators() for g in takers(o)}
    assert {(s, o) for s, o, _ in runs} >= {(s, o) for s in solver_names() for o in operators() if takers(o)}


def test_linear_operators_are_taken_by_all():
    linear = [o for o in operators() if isinstance(problem(o)[1].operator, LinearOperator)]
    assert len(linear) >= 3
    for name in linear:
        assert takers(name) == list(guidances()), name
