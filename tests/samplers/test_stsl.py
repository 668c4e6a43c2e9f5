"""STSL: its surrogate's gradient, its identities, its counts; and the findings about its second-order term."""

import math

import pytest
import torch

from invdiff.errors import InputError
from invdiff.guidance import MMPS
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import Operator
from invdiff.operators.matrix import Matrix
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.random import Streams, generator
from invdiff.samplers.guided import Guided
from invdiff.samplers.stsl import STSL
from invdiff.samplers.stsl_full import STSLFull
from invdiff.schedules import karras
from invdiff.solvers import DPMpp2M
from invdiff.validation.mixture import lattice_problem, posterior
from invdiff.validation.sampler_problem import problem

D = 4


def mixture():
    means = 2 * torch.randn(3, D, generator=generator(0), dtype=torch.float64)
    return GaussianMixturePrior(torch.ones(3), means, 0.5 * torch.eye(D, dtype=torch.float64))


def vp_score(prior, z, a):
    """The score of the variance-preserving variable ``z = a x / s``, by definition from its density."""
    s, sigma = prior.scale, prior.scale * math.sqrt(1 / a**2 - 1)
    return (a * prior.denoise(z * s / a, torch.tensor([sigma], dtype=z.dtype)) / s - z) / (1 - a**2)


def test_an_inner_step_is_the_gradient_of_the_papers_loss():
    prior = mixture()
    a = torch.randn(2, D, generator=generator(1), dtype=torch.float64)
    measurement = Measurement(torch.randn(2, generator=generator(2), dtype=torch.float64), Matrix(a), Gaussian(0.1))
    sigma, size = 0.8 * prior.scale, prior.scale * float(torch.linalg.svdvals(a)[0])
    share = 1 / math.sqrt(1 + 0.8**2)
    x = torch.randn(2, D, generator=generator(3), dtype=torch.float64)
    z = (share * x / prior.scale).requires_grad_(True)
    e = Streams(4, range(2)).normal(x)
    r = measurement.residual(prior.denoise(z * prior.scale / share, torch.tensor([sigma])))
    lam = torch.tensor([0.02, 0.05], dtype=torch.float64)
    trace = (e * (vp_score(prior, z + e, share) - vp_score(prior, z, share))).sum()
    loss = (lam * r.square().sum(1) / size**2).sum() + 0.3 / D * trace
    (gradient,) = torch.autograd.grad(loss, z)
    expected = (z - gradient).detach() * prior.scale / share
    found, _ = STSL(eta=0.3)._inner_step(prior, measurement, x, sigma, size, lam, Streams(4, range(2)))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_surrogate_is_the_smoothed_trace():
    # Stein: E e^T (score(z + e) - score(z)) = E tr Hess log p(z + e).
    prior, share, n = mixture(), 0.7, 200_000
    z = torch.randn(1, D, generator=generator(5), dtype=torch.float64)
    e = torch.randn(n, D, generator=generator(6), dtype=torch.float64)
    draws = (e * (vp_score(prior, z + e, share) - vp_score(prior, z, share))).sum(1)
    sigma = prior.scale * math.sqrt(1 / share**2 - 1)
    points = (z + e[:20_000]) * prior.scale / share
    covariance = prior.covariance(points, torch.tensor([sigma], dtype=torch.float64))
    trace = sum(covariance(torch.eye(D, dtype=torch.float64)[i].expand_as(points))[:, i] for i in range(D))
    hessian = (trace / sigma**2 - D) / (1 - share**2)  # tr (J - I)/(1 - a^2)
    error = math.sqrt(float(draws.var()) / n + float(hessian.var()) / len(points))
    assert abs(float(draws.mean() - hessian.mean())) < 4 * error
    assert abs(float(hessian.mean())) > 20 * error


@pytest.mark.parametrize("domain", ["real", "complex"])
def test_under_a_gaussian_prior_the_second_order_term_does_nothing(domain):
    # The score's Jacobian is constant: the finding that the term cannot repair the first order's covariance.
    case = problem(domain, generator(0))
    like = torch.empty(3, 8, dtype=case.mean.dtype)
    with_term, without = (
        list(STSL(eta=eta, nfe=nfe).steps(case.prior, case.measurement, like, Streams(0, range(3))))[-1]
        for eta, nfe in ((0.02, 36), (0.0, 21))
    )
    assert with_term.total == without.total == 3
    torch.testing.assert_close(with_term.x, without.x, rtol=1e-4, atol=1e-4)


def test_the_misfit_falls_in_every_level_even_where_one_direction_varies_most():
    # A fixed lambda would overshoot fiftyfold here.
    prior = GaussianPrior(torch.zeros(8), torch.diag(torch.tensor([400.0, *[0.1] * 7])))
    measurement = Measurement(torch.tensor([60.0]), Matrix(torch.eye(8)[:1]), Gaussian(0.1))
    sampler, x = STSL(), 20.0 * torch.randn(3, 8, generator=generator(0))
    size, sigma, strength = prior.scale, 20.0, None
    misfits = []
    for _ in range(5):
        misfits.append(measurement.chi2(prior.denoise(x, torch.tensor([sigma]))))
        x, strength = sampler._inner_step(prior, measurement, x, sigma, size, strength, Streams(0, range(3)))
    assert all(bool((b < a).all()) for a, b in zip(misfits[:-1], misfits[1:], strict=True))


def test_the_inverted_start_leads_back_to_the_image():
    # DDIM up from A^+ y and down again without data: at many levels nothing is lost of what the prior can make.
    prior = GaussianPrior(torch.ones(4), torch.diag(torch.linspace(0.3, 1.5, 4)))
    measurement = Measurement(torch.tensor([0.4, 2.0, -0.5, 1.1]), Matrix(torch.eye(4)), Gaussian(0.1))
    sampler = STSL(nfe=2400)
    sigmas = karras(2e-3, 40.0, sampler.levels)
    x = sampler._inverted(prior, measurement, torch.empty(1, 4), sigmas)
    for t, s in zip(sigmas[:-1], sigmas[1:], strict=True):
        x0 = prior.denoise(x, torch.tensor([t]))
        x = x0 + s / t * (x - x0)
    assert float((x - measurement.y).abs().max()) < 0.1


def test_the_published_run_costs_this():
    case = problem("real", generator(0))
    sampler = STSL(nfe=600)
    assert sampler.levels == 50 and sampler.inner_steps == 5
    small = STSL(nfe=24)
    *_, last = small.steps(case.prior, case.measurement, torch.empty(2, 8), Streams(0, range(2)))
    probes = 5  # at the first of the two levels; the second, sigma_min, is below those of the paper
    assert last.total == 2
    assert small.counts.nfe == 2 * (2 + 5) + probes  # inversion, DDIM, inner steps; and the probes' evaluations
    assert small.counts.vjp == 2 * (2 + 5) + probes  # the bound on lambda, inner steps; and the probes'
    assert STSL(nfe=4).inner_steps == 1
    with pytest.raises(InputError, match="at least 4"):
        STSL(nfe=3)


def test_a_nonlinear_operator_needs_a_start_from_noise():
    class Square(Operator):
        domain_shape = range_shape = (8,)

        def _forward(self, x):
            return x**2

    case = problem("real", generator(0))
    measurement = Measurement(torch.ones(8), Square(), Gaussian(0.3))
    with pytest.raises(InputError, match="stsl needs a linear operator"):
        next(STSL(nfe=24).steps(case.prior, measurement, torch.empty(2, 8), Streams(0, range(2))))
    *_, last = STSL(nfe=110, inverted=False).steps(case.prior, measurement, torch.empty(4, 8), Streams(0, range(4)))
    assert bool(torch.isfinite(last.x).all())
    prior = case.prior.sample(64, generator(2))
    assert float(measurement.chi2(last.x).mean()) < 0.5 * float(measurement.chi2(prior).mean())


def test_complex_data_and_ranges_far_from_one():
    # 1e4 times the unit: nothing is clipped, nothing assumes a range.
    case = problem("complex", generator(0)).scaled(x=1e4, y=1e4)
    for sampler in (STSL(nfe=60), STSLFull(nfe=30)):
        *_, last = sampler.steps(
            case.prior, case.measurement, torch.empty(2, 8, dtype=torch.complex64), Streams(0, range(2))
        )
        assert float(last.x.abs().max()) > 1e3
        assert bool(torch.isfinite(torch.view_as_real(last.x)).all())


def test_stsl_full_draws_the_mixtures_posterior_better_than_moment_matching():
    # The finding that stsl-full is there for; at m = 4 of 8 its distance is about half of MMPS's.
    prior, measurement = lattice_problem(8, 4, generator(101), 0.3)
    n = 200
    exact = posterior(prior, measurement).sample(n, generator(7))
    lines = normal((8, 50), torch.float64, generator(8))
    lines = lines / lines.norm(dim=0)

    def distance(sampler):
        *_, last = sampler.steps(prior, measurement, torch.empty(n, 8), Streams(0, range(n)))
        ours = (last.x.double() @ lines).sort(0).values
        return float((ours - (exact @ lines).sort(0).values).abs().mean())

    full, matching = distance(STSLFull(nfe=150)), distance(Guided(MMPS, DPMpp2M(1.0), 50))
    assert full < 0.6 * matching, (full, matching)
