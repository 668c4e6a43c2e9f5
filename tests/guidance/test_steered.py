"""Steering: a linear penalty under a Gaussian prior is exact."""

from functools import partial

import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.guidance import MMPS, Steered
from invdiff.guidance.base import spread2
from invdiff.priors.gaussian import normal
from invdiff.random import Streams, generator
from invdiff.samplers.guided import Guided
from invdiff.solvers import DDIM, DPMpp2M
from invdiff.validation.linear_gaussian import components
from invdiff.validation.sampler_problem import exact_posterior, problem


@pytest.mark.parametrize("domain", ["real", "complex"])
def test_a_linear_penalty_shifts_the_prior_by_minus_c_b(domain):
    # p(x) exp(-Re<b, x>) is N(m - C b, C).
    case = problem(domain, generator(0))
    b = 0.5 * normal((8,), case.mean.dtype, generator(1))

    def penalty(x):
        return (b.conj() * x).real.sum(1)

    n = 400
    sampler = Guided(partial(Steered, penalty=penalty), DPMpp2M(1.0), 60)
    *_, last = sampler.steps(
        case.prior, case.measurement, torch.empty(n, 8, dtype=case.mean.dtype), Streams(0, range(n))
    )
    exact = case.mean - case.spread.to(b) @ b
    error = components((last.x.mean(0) - exact)[None])[0]
    # deviations up to 1.2, so the mean of 400 draws is known to 0.06; four of them
    assert float(error.abs().max()) < 0.25
    assert sampler.counts.nfe == sampler.counts.vjp == 60


def test_a_base_keeps_what_it_carries_and_the_budget_holds():
    case = problem("real", generator(0))
    base = partial(MMPS, iterations=2, tolerance=1e-6)

    def sampler():
        return Guided(partial(Steered, penalty=lambda x: 0.1 * x.square().sum(1), base=base), DDIM(1.0), 40)

    like, whole = torch.empty(3, 8), sampler()
    states = list(whole.steps(case.prior, case.measurement, like, Streams(0, range(3))))
    assert whole.counts.nfe == 40 and len(states) == 20  # two evaluations a step
    rng = Streams(0, range(3))
    first = []
    for state in sampler().steps(case.prior, case.measurement, like, rng):
        first.append(state)
        if state.step == 10:
            break
    *_, last = sampler().steps(case.prior, case.measurement, like, rng, resume=first[-1])
    assert torch.equal(last.x, states[-1].x)


def test_on_top_of_a_posterior():
    # A linear penalty on the posterior N(m, P) moves it to N(m - P b, P); with r^2 for P only in part.
    case = problem("real", generator(0))
    exact, _ = exact_posterior(case)
    direction = torch.randn(8, generator=generator(3))
    n = 200
    base = Guided(MMPS, DDIM(1.0), 40)
    steered = Guided(
        partial(Steered, penalty=lambda x: 0.3 * x @ direction, base=MMPS, network_gradient=False), DDIM(1.0), 40
    )
    like = torch.empty(n, 8)
    *_, plain = base.steps(case.prior, case.measurement, like, Streams(0, range(n)))
    *_, moved = steered.steps(case.prior, case.measurement, like, Streams(0, range(n)))
    assert base.counts == steered.counts  # the base's evaluations are counted, and there are no others
    assert float(((moved.x - plain.x) @ direction).mean()) < -0.05
    assert float((plain.x.mean(0) - exact.mean).abs().max()) < 0.4


def test_without_the_network_the_step_is_r2_times_the_slope():
    case = problem("real", generator(0))
    x = torch.randn(3, 8, generator=generator(4))
    guidance = Steered(case.prior, case.measurement, penalty=lambda x: x.pow(4).sum(1), network_gradient=False)
    x0 = case.prior.denoise(x, torch.tensor([0.8]))
    torch.testing.assert_close(guidance(x, 0.8), x0 - spread2(case.prior, 0.8) * 4 * x0**3, rtol=1e-5, atol=1e-5)


def test_a_penalty_of_the_wrong_shape_is_named():
    case = problem("real", generator(0))
    with pytest.raises(ShapeError, match="one number each"):
        Steered(case.prior, case.measurement, penalty=lambda x: x.sum())(torch.zeros(2, 8), 1.0)
