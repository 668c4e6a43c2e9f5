"""DEFT recovers the closed-form h-transform of a Gaussian prior, and never differentiates the prior."""

import pytest
import torch
from torch import nn

from invdiff.errors import ShapeError
from invdiff.guidance import DEFT, MMPS
from invdiff.guidance.deft import Correction, LinearBank
from invdiff.guidance.deft_fit import fit_deft
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.mri.sense import MRI
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.random import generator
from invdiff.validation.sampler_problem import problem


def test_the_closed_form_is_recovered_within_5_percent():
    # 20 000 images: the statistical error of the regression is about sqrt(12 numbers a knot / images) = 2.4 %.
    case = problem("real", generator(0), size=4, data=2)
    prior, measurement = case.prior, case.measurement
    correction = fit_deft(
        prior, measurement, prior.sample(20_000, generator(1)), network=LinearBank(4, knots=8),
        rng=generator(2), steps=400, batch=2048, rate=2e-2,
    )  # fmt: skip
    x = prior.sample(1000, generator(5))
    y = measurement.noise.sample(measurement.operator.forward(x), generator(6))
    fresh = Measurement(y, measurement.operator, measurement.noise, batched=True)
    deft, exact = DEFT(prior, fresh, correction), MMPS(prior, fresh, 2)
    error = size = 0.0
    for sigma in (0.05, 0.2, 0.5, 1.0, 2.0, 5.0):
        noisy = x + sigma * torch.randn(x.shape, generator=generator(7))
        x0 = prior.denoise(noisy, torch.tensor([sigma]))
        h = (exact(noisy, sigma) - x0) / sigma**2  # grad log p(y | x)
        learned = (deft(noisy, sigma) - x0) / sigma**2
        error += float((sigma**2 * (learned - h)).square().sum())
        size += float((sigma**2 * h).square().sum())
    assert (error / size) ** 0.5 < 0.05
    assert deft.counts.vjp == 0 and deft.counts.nfe == 6


def test_the_prior_is_frozen_and_not_differentiated():
    case = problem("complex", generator(0), size=4, data=2)
    seen = []

    class Watched(GaussianPrior):
        def denoise(self, x, sigma):
            out = super().denoise(x, sigma)
            seen.append(torch.is_grad_enabled())
            return out

    prior = Watched(case.mean, case.spread, "complex")
    fit_deft(prior, case.measurement, prior.sample(8, generator(1)), rng=generator(2), steps=3, batch=4)
    assert seen == [False] * 3


def test_it_starts_from_a_small_data_gradient():
    case = problem("real", generator(0), size=4, data=2)
    correction = Correction(LinearBank(4), curvature=10.0)
    x = torch.randn(2, 4, generator=generator(1))
    deft = DEFT(case.prior, case.measurement, correction)
    x0 = case.prior.denoise(x, torch.tensor([0.5]))
    v = case.prior.scale**2
    r2 = v * 0.25 / (v + 0.25)
    gradient = deft.equations.information - deft.equations.precision(x0)
    torch.testing.assert_close(deft(x, 0.5), x0 + 0.01 * r2 / (1 + 10 * r2) * gradient, rtol=1e-4, atol=1e-6)


def test_complex_images_and_given_pairs():
    op = MRI.example(generator(0))
    shape = op.domain_shape
    prior = GaussianPrior(torch.zeros(shape, dtype=torch.complex64), torch.eye(60), "complex")
    images = normal((6, *shape), torch.complex64, generator(1))
    measurement = Measurement(op.forward(images[:1])[0], op, Gaussian(0.1))
    data = measurement.noise.sample(op.forward(images), generator(2))
    assert op.range_mask is not None
    data = data * op.range_mask
    correction = fit_deft(prior, measurement, images, data, rng=generator(3), steps=2, batch=3)
    out = DEFT(prior, measurement, correction)(images, 0.5)
    assert out.shape == images.shape and out.is_complex()
    with pytest.raises(ShapeError, match="data has shape"):
        fit_deft(prior, measurement, images, data[:2], rng=generator(3), steps=2, batch=3)


def test_a_fit_follows_its_generator_only():
    case = problem("real", generator(0), size=4, data=2)
    images = case.prior.sample(16, generator(1))
    before = torch.get_rng_state()
    first, second = (
        fit_deft(case.prior, case.measurement, images, rng=generator(3), steps=3, batch=4).state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_of_ones_own():
    case = problem("real", generator(0), size=4, data=2)

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(13, 4)

        def forward(self, features, noise):
            return self.inner(torch.cat([features, noise[:, None]], 1))

    images = case.prior.sample(16, generator(1))
    correction = fit_deft(case.prior, case.measurement, images, network=Mine(), rng=generator(3), steps=2, batch=3)
    assert DEFT(case.prior, case.measurement, correction)(images, 1.0).shape == images.shape
