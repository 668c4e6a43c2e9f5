from importlib.metadata import entry_points

import pytest
import torch

from invdiff.errors import DTypeError, UnknownNameError
from invdiff.guidance import MMPS
from invdiff.guidance.base import Counts
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.random import Streams
from invdiff.samplers.dps import DPS
from invdiff.samplers.guided import Guided
from invdiff.solvers import Heun
from invdiff.solvers.base import State
from invdiff.validation.linear_gaussian import posterior
from invdiff.validation.sampler_problem import Counting, agreement, exact_posterior, problem
from invdiff.validation.sampler_suite import check_sampler, maker

REGISTERED = sorted(entry_points(group="invdiff.samplers"), key=lambda p: p.name)


@pytest.mark.parametrize("point", REGISTERED, ids=lambda p: p.name)
def test_registered_samplers_conform(point):
    report = check_sampler(point.name)
    assert report.ok, str(report)


def test_something_is_registered():
    assert {"dds", "diffpir", "dps", "mmps", "pigdm"} <= {p.name for p in REGISTERED}


class Exact:
    """Draws from the closed form: what a sampler without any error would return."""

    name, exact_for, unit, uses_vjp = "exact", "any", 1, False

    def __init__(self):
        self.counts = Counts()

    def steps(self, prior, measurement, like, rng, resume=None):
        yield State(1, 1, 0.0, self.draw(prior, measurement, rng.normal(like)))

    def draw(self, prior, measurement, z):
        prior = prior.inner if isinstance(prior, Counting) else prior
        out = []
        for y, row in zip(measurement.data.expand(len(z), *measurement.data.shape[1:]), z, strict=True):
            exact = posterior(prior, Measurement(y, measurement.operator, measurement.noise))
            chol = torch.linalg.cholesky(exact.covariance)
            mean = torch.view_as_real(exact.mean) if row.is_complex() else exact.mean
            row = torch.view_as_real(row) if row.is_complex() else row
            value = (mean.flatten() + chol @ row.flatten().double()).reshape(mean.shape)
            out.append(torch.view_as_complex(value) if z.is_complex() else value)
        return torch.stack(out).to(z.dtype)


def test_exact_draws_pass():
    report = check_sampler(Exact)
    assert report.ok, str(report)


class Population(Exact):
    """Draws that depend on each other within fours: the mean of each four is exact, so no moment is harmed."""

    unit, exact_for = 4, "none"

    def draw(self, prior, measurement, z):
        fours = z.reshape(-1, 4, *z.shape[1:])
        mixed = fours + fours.roll(1, 1)
        return super().draw(prior, measurement, mixed.reshape(z.shape) / 2**0.5)


def test_populations_are_one_unit():
    report = check_sampler(Population)
    assert report.ok, str(report)


class PopulationCalledDraws(Population):
    unit = 1

    def draw(self, prior, measurement, z):
        mixed = z + z.roll(1, 0)
        return Exact.draw(self, prior, measurement, mixed / 2**0.5)


# ---- samplers with one fault each, and the check that must find it ---------------------------------------------------
class IgnoresSeed(Exact):
    def steps(self, prior, measurement, like, rng, resume=None):
        return super().steps(prior, measurement, like, Streams(7, range(len(like))))


class IgnoresSeedZero(Exact):
    """The common slip: `seed or 1`."""

    def steps(self, prior, measurement, like, rng, resume=None):
        if rng.generators[0].initial_seed() == Streams(0, [0]).generators[0].initial_seed():
            rng = Streams(1, range(len(like)))
        return super().steps(prior, measurement, like, rng)


class GlobalGenerator(Exact):
    def steps(self, prior, measurement, like, rng, resume=None):
        yield State(1, 1, 0.0, self.draw(prior, measurement, torch.randn_like(like)))


class OneNoiseForAll(Exact):
    def draw(self, prior, measurement, z):
        return super().draw(prior, measurement, z[:1].expand_as(z).contiguous())


class CouplesDraws(Exact):
    def draw(self, prior, measurement, z):
        return super().draw(prior, measurement, z) + 1e-3 * z.mean(0)


class WrongSigma(Exact):
    def draw(self, prior, measurement, z):
        wrong = Measurement(
            measurement.y, measurement.operator, Gaussian(1.6 * measurement.noise.sigma), batched=measurement.batched
        )
        return super().draw(prior, wrong, z)


class Overconfident(Exact):
    def draw(self, prior, measurement, z):
        return super().draw(prior, measurement, 0.85 * z)


class Biased(Exact):
    def draw(self, prior, measurement, z):
        return super().draw(prior, measurement, z + 0.3)


class ForgetsOddPart(Exact):
    """Right for real x; for complex x the imaginary part is too narrow."""

    def draw(self, prior, measurement, z):
        return super().draw(prior, measurement, torch.complex(z.real, 0.7 * z.imag) if z.is_complex() else z)


class AbsoluteStep(Exact):
    """A constant that should have been in units of the prior."""

    def draw(self, prior, measurement, z):
        return super().draw(prior, measurement, z) + 0.01


class AbsoluteLevel(Exact):
    """A constant that should have been in units of the data."""

    def draw(self, prior, measurement, z):
        low = Gaussian((measurement.noise.sigma**2 + 0.01) ** 0.5)
        return super().draw(
            prior, Measurement(measurement.y, measurement.operator, low, batched=measurement.batched), z
        )


class SpoilsData(Exact):
    def draw(self, prior, measurement, z):
        out = super().draw(prior, measurement, z)
        measurement.y.mul_(1.01)
        return out


class FirstProblemOnly(Exact):
    def draw(self, prior, measurement, z):
        return super().draw(prior, Measurement(measurement.data[0], measurement.operator, measurement.noise), z)


class Diverges(Exact):
    def draw(self, prior, measurement, z):
        return super().draw(prior, measurement, z) / 0.0


class HidesEvaluations(Exact):
    def draw(self, prior, measurement, z):
        prior.denoise(z, torch.ones(1))
        return super().draw(prior, measurement, z)


class DeclaresGradients(Exact):
    uses_vjp = True


BROKEN = {
    PopulationCalledDraws: "units are independent, real",
    IgnoresSeed: "other seeds, other draws, real",
    IgnoresSeedZero: "other seeds, other draws, real",
    GlobalGenerator: "same seed, same bits, real",
    OneNoiseForAll: "draws differ from each other, complex",
    CouplesDraws: "units are independent, complex",
    WrongSigma: "posterior std, real",
    Overconfident: "posterior variance, complex",
    Biased: "posterior bias, real",
    ForgetsOddPart: "posterior std, complex",
    AbsoluteStep: "invariant when prior, y and sigma are scaled, real",
    AbsoluteLevel: "invariant when A, y and sigma are scaled, complex",
    SpoilsData: "y, operator and prior untouched, real",
    FirstProblemOnly: "several problems at once, real",
    Diverges: "shape, real",
    HidesEvaluations: "NFE as reported, real",
    DeclaresGradients: "uses_vjp as declared, real",
}


@pytest.mark.parametrize(("broken", "check"), BROKEN.items(), ids=lambda v: getattr(v, "__name__", None))
def test_broken_samplers_fail(broken, check):
    report = check_sampler(broken)
    assert not report.ok
    assert check in report.failed, str(report)


def test_what_is_right_for_real_x_only_fails_for_complex_x_only():
    assert {name.rpartition(", ")[2] for name in check_sampler(ForgetsOddPart).failed} == {"complex"}


def test_an_approximate_method_that_claims_to_be_exact_fails():
    # Moment matching with one conjugate-gradient step where three are needed.
    def hasty(nfe=None, solver=None):
        return Guided(
            lambda prior, y: MMPS(prior, y, iterations=1), solver or Heun(), min(nfe, 40), exact_for="gaussian"
        )

    failed = check_sampler(hasty).failed
    assert failed and all(name.startswith("posterior") for name in failed)


def test_what_does_not_claim_to_be_exact_is_recorded_and_not_judged():
    class Modest(Biased):
        exact_for = "none"

    report = check_sampler(Modest())
    row = report["posterior bias, real"]
    assert report.ok and row.passed is None and row.value is not None and row.value > 0.2


def test_directions_go_from_the_best_known_to_the_least():
    case = problem("complex", torch.Generator().manual_seed(0))
    exact, spread = exact_posterior(case)
    found = agreement(exact.sample(4000, torch.Generator().manual_seed(1)), exact, spread)
    assert torch.equal(found.known, found.known.sort(descending=True).values)
    # Three complex data tell of six real directions; of the other ten the posterior is the prior.
    assert bool((found.known[:6] > 0.3).all()) and float(found.known[6:].abs().max()) < 1e-9
    assert float(found.bias.abs().max()) < 5 / 4000**0.5 and float((found.ratio - 1).abs().max()) < 5 / 8000**0.5
    assert float((found.coverage - 0.9).abs().max()) < 5 * (0.09 / 4000) ** 0.5


def test_targets_that_are_no_samplers():
    with pytest.raises(UnknownNameError):
        check_sampler("no-such-sampler")
    with pytest.raises(DTypeError, match="no sampler"):
        check_sampler(3)
    with pytest.raises(DTypeError, match="without steps, name, exact_for, unit, uses_vjp, counts"):
        check_sampler(Counts)  # a class that has nothing of a sampler


def test_a_factory_is_asked_for_few_evaluations_and_an_object_runs_as_it_is():
    asked = []

    def factory(nfe=None, solver=None):
        asked.append(nfe)
        return Exact()

    assert check_sampler(factory).ok and check_sampler(Exact()).ok
    assert min(asked) < 50 and max(asked) >= 400


def test_a_class_is_given_its_budget() -> None:
    assert maker(DPS)(30).nfe == 30  # type: ignore[attr-defined]
