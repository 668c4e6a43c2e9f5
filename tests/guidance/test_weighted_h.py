"""The weighted h-transform: its two limits are exact, and the forward operator is not used."""

from functools import partial

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.guidance import WeightedH
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity, Matrix
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.random import Streams, generator
from invdiff.samplers.guided import Guided
from invdiff.solvers import DDIM

D = 5


@pytest.fixture(params=[torch.float32, torch.complex64], ids=["real", "complex"])
def case(request):
    dtype = request.param
    domain = "complex" if dtype.is_complex else "real"
    prior = GaussianPrior(torch.zeros(D, dtype=dtype), torch.diag(torch.linspace(0.5, 2, D)).to(dtype), domain)
    y = normal((D,), dtype, generator(0))
    return prior, Measurement(y, Identity((D,), domain), Gaussian(0.1)), normal((3, D), dtype, generator(1))


def test_alpha_0_returns_the_reference(case):
    prior, measurement, x = case
    for sigma in (1e-3, 1.0, 50.0):
        assert torch.equal(WeightedH(prior, measurement, alpha=0.0)(x, sigma), measurement.y.expand_as(x))
    *_, last = Guided(partial(WeightedH, alpha=0.0), DDIM(1.0), 10).steps(prior, measurement, x, Streams(0, range(3)))
    assert torch.equal(last.x, measurement.y.expand_as(x))


def test_alpha_infinite_draws_from_the_prior(case):
    prior, measurement, x = case
    for sigma in (1e-3, 1.0, 50.0):
        assert torch.equal(
            WeightedH(prior, measurement, alpha=float("inf"))(x, sigma), prior.denoise(x, torch.tensor([sigma]))
        )


def test_in_between_it_is_the_score_with_the_h_transform(case):
    # score' = score + s^alpha grad log h, grad log h = -(x - y)/sigma^2 - score, and x0 = x + sigma^2 score
    prior, measurement, x = case
    sigma = 1.3
    share = sigma / (prior.scale**2 + sigma**2) ** 0.5
    score = (prior.denoise(x, torch.tensor([sigma])) - x) / sigma**2
    tilted = score + share**3 * (-(x - measurement.y) / sigma**2 - score)
    found = WeightedH(prior, measurement, alpha=3.0)(x, sigma)
    torch.testing.assert_close(found, x + sigma**2 * tilted, rtol=1e-5, atol=1e-5)


def test_the_operator_is_not_used(case):
    prior, measurement, x = case
    other = Measurement(2 * torch.ones(2, dtype=x.dtype), Matrix(torch.ones(2, D, dtype=x.dtype)), Gaussian(3.0))
    same = WeightedH(prior, other, reference=measurement.y)(x, 0.9)
    assert torch.equal(same, WeightedH(prior, measurement)(x, 0.9))


def test_a_function_of_the_measurement_as_reference(case):
    prior, measurement, x = case
    found = WeightedH(prior, measurement, reference=lambda m: 2 * m.data)(x, 0.9)
    assert torch.equal(found, WeightedH(prior, measurement, reference=2 * measurement.y)(x, 0.9))


def test_a_map_of_exponents(case):
    prior, measurement, x = case
    alpha = torch.tensor([0.0, 0.0, 5.0, 5.0, float("inf")])
    found = WeightedH(prior, measurement, alpha=alpha)(x, 0.9)
    each = [WeightedH(prior, measurement, alpha=float(a))(x, 0.9)[:, i] for i, a in enumerate(alpha)]
    torch.testing.assert_close(found, torch.stack(each, 1), rtol=1e-5, atol=1e-6)


def test_unusable_references_and_exponents_are_named(case):
    prior, measurement, _ = case
    with pytest.raises(InputError, match="alpha = -1"):
        WeightedH(prior, measurement, alpha=-1.0)
    with pytest.raises(ShapeError, match="reference of shape"):
        WeightedH(prior, measurement, reference=torch.zeros(3))
