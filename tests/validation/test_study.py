import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from invdiff.errors import InputError
from invdiff.guidance.base import Counts
from invdiff.posterior import Posterior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.random import generator
from invdiff.solvers.base import State
from invdiff.validation import linear_gaussian, study
from invdiff.validation.calibration_run import calibrate
from invdiff.validation.judge import Judge
from invdiff.validation.suites import SUITES, families
from invdiff.validation.weighted import equal_weights


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("suite", SUITES)
def test_exact_draws_score_what_exact_draws_score(suite):
    n = 300
    for family in families(suite, 12 if suite == "field" else None):
        case = family(rng(1))
        found = Judge(case, n, rng(2))(case.exact.sample(n, rng(3)))
        # Distances between samples of a few far modes scatter by tens of percent: a mode's weight by 5 %.
        assert found["sw1"] < 1.8 * found["sw1_floor"] and found["sw2"] < 1.8 * found["sw2_floor"]
        assert found["ksd"] < 2.5 * found["ksd_floor"]
        assert abs(found["c2st"] - 0.5) < 5 / (2 * (2 * n) ** 0.5)
        assert abs(found["bias2"]) < 5 * 2**0.5 / n
        assert found["coverage90"] == pytest.approx(0.9, abs=5 * 0.3 / n**0.5)
        assert found["coverage50"] == pytest.approx(0.5, abs=5 * 0.5 / n**0.5)
        assert found["std_ratio"] == pytest.approx(1, abs=0.2)
        if not math.isnan(found["mode_tv"]):
            assert found["mode_tv"] < 3 * found["mode_tv_floor"] + 0.02


def test_wrong_draws_score_worse():
    (family,) = families("mixture")
    case, n = family(rng(1)), 500
    judge, exact = Judge(case, n, rng(2)), case.exact.sample(n, rng(3))
    prior = judge(case.prior.sample(n, rng(4)).double())  # type: ignore[attr-defined]
    assert prior["sw1"] > 5 * prior["sw1_floor"] and prior["mode_tv"] > 0.3
    assert prior["chi2_ratio"] > 10 and prior["c2st"] > 0.7 and prior["ksd"] > 3 * prior["ksd_floor"]
    moved = judge(exact + 1.0)
    assert moved["ksd"] > 3 * moved["ksd_floor"] and moved["c2st"] > 0.7


class Exact:
    """Draws from the closed form, times a factor about the mean: 1 is a sampler without error."""

    name, exact_for, unit, uses_vjp = "exact", "any", 1, False

    def __init__(self, factor=1.0):
        self.factor, self.counts = factor, Counts()

    def steps(self, prior, measurement, like, rng, resume=None):
        assert isinstance(prior, GaussianPrior)
        self.counts.nfe += 5
        matrix, _, variance = linear_gaussian.real_problem(
            measurement.take([0]) if measurement.batched else measurement
        )
        prior_precision = torch.linalg.inv(prior.directions * prior.variances @ prior.directions.mT)
        covariance = torch.linalg.inv(prior_precision + matrix.mT / variance @ matrix)
        pull = measurement.data.double() / variance @ matrix + prior.mean.double() @ prior_precision
        spread = self.factor * rng.normal(like).double() @ torch.linalg.cholesky(covariance).mT
        yield State(1, 1, 0.0, (pull @ covariance + spread).to(like))


def exact(nfe=None, solver=None):
    """Exact draws."""
    return Exact()


def broken(nfe=None, solver=None):
    raise ValueError("no such luck")


def run(monkeypatch, names, **options):
    makers = {"exact": exact, "broken": broken, "wide": lambda nfe, solver: Exact(1.5)}
    monkeypatch.setattr(study, "_make", lambda name, nfe, solver: makers[name](nfe=nfe, solver=solver))
    return study.run_study(families("gaussian", 6), names, **options)


def test_rows_and_skipped(monkeypatch):
    said = []
    options = {"draws": 200, "repeats": 3, "calibration": 40, "seed": 5}
    found = run(monkeypatch, ["exact", "broken", "wide"], tell=lambda line, done: said.append((line, done)), **options)
    assert [row["sampler"] for row in found.rows] == ["exact", "wide"]
    assert found.skipped == [{"case": "gaussian", "sampler": "broken", "reason": "ValueError: no such luck"}]
    assert said == [("gaussian: exact", 0), ("gaussian: broken", 1), ("gaussian: wide", 2)]
    good, wide = found.rows
    assert good["nfe"] == 5 and good["vjp"] == 0 and good["repeats"] == 3 and good["solver"] is None
    assert math.isnan(good["mode_tv"]) and good["sw1_se"] > 0
    assert abs(good["std_ratio"] - 1) < 4 / (2 * 200 * 6 * 3) ** 0.5
    assert wide["std_ratio"] == pytest.approx(1.5, rel=0.05) and wide["coverage90"] > 0.95
    assert wide["sw1"] > 1.5 * wide["sw1_floor"] and good["sw1"] < 1.5 * good["sw1_floor"]
    assert good["sw1_floor"] == wide["sw1_floor"]  # the same problems and the same exact draws
    assert good["sbc_p"] > 0.01 and good["tarp_p"] > 0.01
    again = run(monkeypatch, ["exact"], **options).rows[0]
    assert all(again[k] == good[k] or again[k] != again[k] for k in good if k != "seconds")


def test_calibration_finds_wide_draws():
    (case,) = study.make_cases(families("gaussian", 3)[0], 1, 0)
    assert calibrate(Exact(1.0), case, 150, -1, 0)["sbc_p"] > 0.01
    assert calibrate(Exact(2.0), case, 150, -1, 0)["sbc_p"] < 0.01


def test_bias_is_pooled_before_the_root():
    rows = [dict.fromkeys([*study.MEASURES, "bias2", "bias2_seen"], value) for value in (0.09, -0.01)]
    found = study.pool(rows)
    assert found["bias"] == pytest.approx(0.2) and found["bias_se"] == pytest.approx(
        0.05**0.5 / 2
    )  # of a square, where it is small
    assert found["sw1"] == pytest.approx(0.04) and found["sw1_se"] == pytest.approx(0.05)
    none = study.pool([dict.fromkeys([*study.MEASURES, "bias2", "bias2_seen"], -0.01)])
    assert none["bias"] == 0 and math.isnan(none["sw1_se"])


def test_weighted_draws_are_resampled():
    draws = torch.arange(1000.0)[:, None]
    dataset = Posterior.from_draws(draws).dataset.assign(
        log_weight=xr.DataArray(np.where(np.arange(1000) < 500, 0.0, math.log(3.0)), dims="draw")
    )
    found = equal_weights(Posterior(dataset), rng())
    assert found.shape == draws.shape
    assert abs(float((found >= 500).double().mean()) - 0.75) < 2e-3  # systematic: within one draw of each
    assert torch.equal(equal_weights(Posterior.from_draws(draws), rng()), draws)
    even = Posterior.from_draws(draws, log_weight=torch.zeros(1000))
    assert torch.equal(equal_weights(even, rng()), draws)  # each once


def test_weighted_draws_of_several_problems_are_resampled_each():
    draws = torch.arange(1000.0)[:, None, None] + torch.tensor([0.0, 5000.0])[:, None]  # (draw, problem, 1)
    upper = torch.arange(1000)[:, None] >= 500
    log_weight = torch.where(upper, torch.tensor([3.0, 0.25]).log(), 0.0)
    posterior = Posterior.from_draws(draws, batched=True, log_weight=log_weight)
    found = equal_weights(posterior, rng())[..., 0]
    assert found.shape == (1000, 2) and bool((found[:, 1] >= 5000).all()) and bool((found[:, 0] < 1000).all())
    with pytest.raises(InputError, match="nothing to resample"):
        equal_weights(Posterior.from_draws(draws, batched=True, log_weight=log_weight.log() * torch.inf), rng())
    shares = (found - torch.tensor([0.0, 5000.0]) >= 500).double().mean(0)
    assert shares.tolist() == pytest.approx([0.75, 0.2], abs=2e-3)


def test_calibration_counts_weights():
    # Draws of a prior four times as wide, with the weights that make them the posterior's.
    class Weighted:
        name, unit, uses_vjp, exact_for = "weighted", 1, False, "linear-gaussian"

        def __init__(self, weigh):
            self.weigh, self.counts = weigh, Counts()

        def steps(self, prior, measurement, like, rng, resume=None):
            x = 2 * rng.normal(like)
            log_weight = None
            if self.weigh:
                misfit = measurement.residual(x) / measurement.noise.sigma
                log_weight = -(x**2).sum(1) * (1 / 2 - 1 / 8) - misfit.square().flatten(1).sum(1) / 2
            yield State(1, 1, 0.0, x, x, log_weight=log_weight)

    case = families("gaussian", 2, 1, 1.0)[0](generator(0))
    prior = GaussianPrior(torch.zeros(2), torch.eye(2))
    case = replace(case, prior=prior)
    right, wrong = (calibrate(Weighted(weigh), case, 200, 1, 0, draws=255) for weigh in (True, False))
    assert min(right["sbc_p"], right["tarp_p"]) > 0.01 and max(wrong["sbc_p"], wrong["tarp_p"]) < 1e-4


def test_units_stay_whole():
    assert [study.whole_units(n, 64) for n in (1, 64, 65, 1000)] == [64, 64, 128, 1024]
    with pytest.raises(InputError, match="draws"):
        study.run_study(families("gaussian"), ["mmps"], draws=1)


def test_streams_do_not_meet():
    numbers = [study.stream(i, r, p) for i in range(3) for r in range(40) for p in (1, 2, 3)]
    assert len(set(numbers)) == len(numbers) and max(numbers) < 0  # those of draws are not negative
