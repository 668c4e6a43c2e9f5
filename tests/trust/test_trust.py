"""Trust tools: against hand-made trajectories, exact draws, priors of known dimension, and faults to be named."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import invdiff
from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity, Matrix
from invdiff.posterior import Posterior
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.random import generator
from invdiff.solvers import State
from invdiff.trust import (
    DataFit,
    TrajectoryVariance,
    attach_predictive_chi2,
    data_fit,
    held_out_warning,
    local_dimension,
    predictive_chi2,
    warnings_of,
)
from invdiff.validation.linear_gaussian import posterior


def problem(dtype: torch.dtype = torch.float32, data: int = 40, size: int = 6) -> tuple[GaussianPrior, Measurement]:
    rng = generator(0)
    prior = GaussianPrior(torch.zeros(size, dtype=dtype), torch.eye(size), "complex" if dtype.is_complex else "real")
    op = Matrix(normal((data, size), dtype, rng))
    y = Gaussian(0.5).sample(op(prior.sample(1, rng)), rng)[0]
    return prior, Measurement(y, op, Gaussian(0.5))


DATA = problem()[1]  # a collector does not look at it


# ---- trajectory variance ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_variance_is_over_the_last_steps_of_each_draw(dtype: torch.dtype) -> None:
    path = normal((7, 4, 3), dtype, generator(1))
    score = TrajectoryVariance(last=5)
    for rows in (slice(0, 3), slice(3, 4)):  # two chunks
        for k in range(7):
            score(State(k + 1, 7, 0.1, path[k, rows], path[k, rows]), DATA)
    made = Posterior.from_draws(path[-1], attrs={"scale_to_prior_unit": 2.0})
    score.attach(made)
    expected = (path[2:] - path[2:].mean(0)).abs().square().mean(0) / 4  # the prior's unit is half the user's
    torch.testing.assert_close(torch.from_numpy(made.dataset["trajectory_variance"].values), expected)
    assert made.diagnostics["hallucination"] == pytest.approx(expected.mean(1).tolist())


def test_variance_of_a_real_run_is_kept_in_the_file(tmp_path: Path) -> None:
    prior, measurement = problem()
    two = Measurement(measurement.y.repeat(2, 1), measurement.operator, measurement.noise, batched=True)
    score = TrajectoryVariance()
    made = score.attach(invdiff.sample(two, prior, "dds", 3, watch=score, batch=2, progress=False))
    assert made.dataset["trajectory_variance"].dims == ("draw", "problem", "component")
    back = Posterior.load(made.save(tmp_path / "p.nc"))
    assert (back.dataset["trajectory_variance"] == made.dataset["trajectory_variance"]).all()
    assert back.diagnostics == made.diagnostics and torch.tensor(back.diagnostics["hallucination"]).shape == (3, 2)


def test_a_draw_between_the_modes_scores_higher() -> None:
    """Images that the prior has not decided on: a mixture's denoiser near the middle goes on changing."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(x / sigma**2)  # points at -1 and 1

    score, far = TrajectoryVariance(), []
    for place in (0.02, 1.0):
        for k, sigma in enumerate(torch.linspace(0.6, 0.1, 12)):
            x = torch.full((1, 1), place)
            score(State(k + 1, 12, float(sigma), x, denoise(x, sigma[None])), DATA)
        far.append(float(score.maps[-1]))
    assert far[0] > 10 * far[1]


def test_a_run_that_was_not_watched_whole_is_refused() -> None:
    score = TrajectoryVariance(last=2)
    x = torch.zeros(2, 3)
    score(State(1, 2, 1.0, x, x), DATA)
    score(State(2, 2, 0.0, x, x), DATA)
    with pytest.raises(InputError, match="2 draws of shape"):
        score.attach(Posterior.from_draws(torch.zeros(5, 3)))
    resumed = TrajectoryVariance(last=2)
    resumed(State(2, 2, 0.0, x, x), DATA)  # the run itself must not fail for that
    with pytest.raises(InputError, match="of some draws only one"):
        resumed.attach(Posterior.from_draws(x))
    with pytest.raises(InputError):
        TrajectoryVariance(last=1)


# ---- posterior-predictive chi2 ------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_exact_draws_have_chi2_one_and_a_bad_datum_stands_out(dtype: torch.dtype, tmp_path: Path) -> None:
    prior, measurement = problem(dtype)
    draws = posterior(prior, measurement).sample(200, generator(1)).to(dtype)
    values = predictive_chi2(measurement, draws)
    parts = 80 if dtype.is_complex else 40
    assert values.shape == (1, 40) and abs(float(values.mean()) - 1) < 4 * math.sqrt(2 / parts)
    assert float(values.sum()) * parts / 40 == pytest.approx(data_fit(measurement, draws[:, None]).chi2, rel=1e-4)
    y = measurement.y.clone()
    y[7] += 8
    bad = Measurement(y, measurement.operator, measurement.noise)
    made = Posterior.from_draws(draws)
    shown = attach_predictive_chi2(made, bad)
    assert int(shown.values.argmax()) == 7 and float(shown[7]) > 50
    back = Posterior.load(made.save(tmp_path / "p.nc"))
    assert back.dataset["predictive_chi2"].dims == ("datum_0",) and bool(
        (back.dataset["predictive_chi2"] == shown).all()
    )


def test_unmeasured_data_have_no_chi2() -> None:
    op = Identity((4,))
    op.range_mask = torch.tensor([True, False, True, True])
    y = torch.tensor([1.0, 0, 1, 1])
    measurement = Measurement(y, op, Gaussian(0.5))
    values = predictive_chi2(measurement, torch.zeros(3, 4))
    assert values[0, 1].isnan() and values[0, 0] == 4
    with pytest.raises(ShapeError):
        predictive_chi2(measurement, torch.zeros(3, 5))


# ---- local dimension ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("domain", ["real", "complex"])
def test_dimension_of_a_gaussian_is_the_number_of_wide_directions(domain: str) -> None:
    dtype = torch.complex64 if domain == "complex" else torch.float32
    turn = torch.linalg.qr(normal((20, 20), dtype, generator(0)))[0]
    variances = torch.tensor([1.0] * 5 + [1e-6] * 15)
    prior = GaussianPrior(torch.zeros(20, dtype=dtype), (turn * variances) @ turn.mH, domain)
    x = normal((2, 20), dtype, generator(1))
    found = local_dimension(prior, x, 0.05, generator(2), most=16)
    expected = 10 if domain == "complex" else 5
    assert found.dimension.tolist() == [expected] * 2 and not bool(found.at_least.any())
    assert float(found.eigenvalues[:, 0].max()) == pytest.approx(1 / (1 + 0.05**2), abs=1e-3)
    few = local_dimension(prior, x, 0.05, generator(2), most=3)
    assert few.dimension.tolist() == [3, 3] and bool(few.at_least.all())
    assert local_dimension(prior, x, 1e-4, generator(2), most=40).dimension.tolist() == [expected * 4] * 2


def test_dimension_changes_along_a_curved_prior() -> None:
    """Radial denoiser: on a circle in the plane there is one direction to vary in."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True)

    found = local_dimension(invdiff.priors.base.CallablePrior(denoise), torch.tensor([[0.9, 0.4]]), 0.01, generator(0))
    assert found.dimension.tolist() == [1]
    with pytest.raises(InputError):
        local_dimension(denoise, torch.zeros(1, 2), 0.0, generator(0))


# ---- words --------------------------------------------------------------------------------------------------------
def said(measurement: Measurement, draws: Tensor) -> list[str]:
    return warnings_of(data_fit(measurement, draws[:, None]), draws[:, None], scale=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_exact_draws_get_no_warning_and_faults_are_named(dtype: torch.dtype) -> None:
    prior, measurement = problem(dtype)
    draws = posterior(prior, measurement).sample(50, generator(1)).to(dtype)
    assert said(measurement, draws) == []
    (one,) = said(measurement, draws + 1)
    assert one.startswith("the draws miss the data: chi2 is") and "times its expectation" in one
    loud = said(measurement, 100 * draws)
    assert loud[0].startswith("the draws miss") and "times as much as the prior's: noise was amplified" in loud[1]
    (one,) = said(measurement, draws[:1].expand(50, -1) + 1e-4 * draws)
    assert one.startswith("the draws are nearly identical")


def test_draws_narrow_for_good_reason_are_not_called_identical() -> None:
    y = torch.randn(30, generator=generator(0))
    sure = Measurement(y, Identity((30,)), Gaussian(1e-3))
    draws = y + 1e-3 * torch.randn(40, 30, generator=generator(1))
    assert not any("identical" in w for w in said(sure, draws))
    vague = Measurement(y, 1e-4 * Identity((30,)), Gaussian(1.0))
    assert not any("identical" in w for w in said(vague, torch.randn(40, 30, generator=generator(1))))


def test_draws_that_follow_the_noise() -> None:
    y = torch.randn(200, generator=generator(0))
    measurement = Measurement(y, Identity((200,)), Gaussian(1.0))
    found = said(measurement, y + 0.3 * torch.randn(40, 200, generator=generator(1)))
    assert len(found) == 1 and found[0].startswith("the draws follow the noise: chi2 is 0.09")


@pytest.mark.parametrize(
    ("ratio", "count", "word"),
    [(1.3, 200, ""), (1.5, 200, "miss"), (1.15, 10**6, ""), (1.25, 10**6, "miss"), (0.7, 200, ""), (0.5, 200, "noise")],
)
def test_a_ratio_is_named_where_it_is_significant_and_matters(ratio: float, count: int, word: str) -> None:
    """Four standard errors of chi2 over 200 data are 0.4."""
    x = torch.randn(9, 1, 5, generator=generator(0))
    found = warnings_of(DataFit(ratio * count, count, ratio, 1.0), x, 1.0)
    assert len(found) == bool(word) and all(word in w for w in found)


def test_spread_of_several_problems_is_their_mean() -> None:
    y = torch.zeros(2, 50)
    measurement = Measurement(y, Identity((50,)), Gaussian(0.5), batched=True)
    x = torch.randn(400, 2, 50, generator=generator(0)) * torch.tensor([1.0, 2.0])[:, None]
    fit = data_fit(measurement, x)
    assert fit.spread == pytest.approx(math.sqrt((4 + 16) / 2), rel=0.03)
    assert fit.ratio == pytest.approx(10, rel=0.03) and fit.chi2 == pytest.approx(500, rel=0.03)


def test_a_run_carries_its_warnings_into_the_file(tmp_path: Path) -> None:
    prior, measurement = problem()
    wrong = Measurement(measurement.y, measurement.operator, Gaussian(0.05))  # the noise is ten times what is said
    made = invdiff.sample(wrong, prior, "mmps", 4, progress=False)
    assert any(w.startswith("the draws miss the data") for w in made.diagnostics["warnings"])
    assert Posterior.load(made.save(tmp_path / "p.nc")).diagnostics["warnings"] == made.diagnostics["warnings"]
    good = invdiff.sample(measurement, prior, "mmps", 4, progress=False)
    assert good.diagnostics["warnings"] == []


def test_held_out_error_and_few_effective_draws() -> None:
    assert held_out_warning({"holdout_calibration": 1.1}, 10_000) == []
    assert held_out_warning({"holdout_calibration": 1.5}, 20) == []
    (one,) = held_out_warning({"holdout_calibration": 1.5}, 10_000)
    assert one.startswith("the held-out error is larger than the draws admit: 1.5 times")
    prior, measurement = problem()
    draws = posterior(prior, measurement).sample(50, generator(1)).float()[:, None]
    (one,) = warnings_of(data_fit(measurement, draws), draws, 1.0, ess=1.3)
    assert one == "few draws carry the weight: 1.3 effective draws of 50"
