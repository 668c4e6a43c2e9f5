"""Guidance by a declared covariance, and the start from an exact draw, against the exact posterior."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.guidance import MMPS
from invdiff.guidance.declared import Declared
from invdiff.instruments import join
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.fields.windows import Snapshot
from invdiff.operators.matrix import Identity
from invdiff.priors.fields_gaussian import LowRankGaussian
from invdiff.priors.gaussian import GaussianPrior
from invdiff.random import Streams
from invdiff.samplers.warm import Warm
from invdiff.solvers import DPMpp2M
from invdiff.validation.linear_gaussian import posterior

SHAPE = (2, 3, 4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prior() -> LowRankGaussian:
    u = torch.linalg.qr(torch.randn(24, 4, generator=rng(1), dtype=torch.float64)).Q
    return LowRankGaussian(u, torch.tensor([6.0, 3.0, 1.0, 0.6], dtype=torch.float64), 0.1, SHAPE)


def dense(g: LowRankGaussian) -> GaussianPrior:
    c = (g.directions * (g.variances - g.tail)) @ g.directions.mT + g.tail * torch.eye(24, dtype=torch.float64)
    return GaussianPrior(torch.zeros(SHAPE, dtype=torch.float64), c)


def measurement() -> Measurement:
    """A whole state with some gaps, and a second look at the other one, with other errors."""
    mask = torch.rand(1, 3, 4, generator=rng(2)) < 0.6
    whole = Identity((1, 3, 4))[mask] @ Snapshot(SHAPE, 0, [2.0])
    other = Snapshot(SHAPE, 1, [1.0])
    x = prior().sample(1, rng(3))
    first = Measurement((whole.to(torch.float64).forward(x) + 0.3)[0] * mask, whole.to(torch.float64), Gaussian(0.5))
    second = Measurement(other.to(torch.float64).forward(x)[0] - 0.1, other.to(torch.float64), Gaussian(1.5))
    return join([first, second])


def test_denoiser_is_the_exact_one() -> None:
    m, x = measurement(), torch.randn(3, *SHAPE, generator=rng(4), dtype=torch.float64)
    for sigma in (0.2, 2.0):
        exact = MMPS(dense(prior()), m, 40)(x, sigma)
        assert torch.allclose(Declared(prior(), m)(x, sigma), exact, atol=1e-6)


def test_draws_of_the_gaussian_posterior() -> None:
    m, count = measurement(), 20000
    exact = posterior(dense(prior()), m)
    guide = Declared(prior(), m)
    g = rng(5)  # one generator: white and noise must not be alike
    white, noise = (torch.randn(count, *s, generator=g, dtype=torch.float64) for s in (SHAPE, m.y.shape))
    draws = guide.posterior_draw(white, noise)
    std = exact.std.reshape(SHAPE)
    assert float(((draws.mean(0) - exact.mean) / std).abs().max()) < 4.5 / count**0.5
    c = draws.flatten(1).T.cov()
    assert float((c - exact.covariance).abs().max()) < 0.04 * float(exact.covariance.diagonal().max())


@pytest.mark.parametrize("start", [1.0, 8.0])
def test_where_it_starts_does_not_matter(start: float) -> None:
    m, count = measurement(), 4000
    exact = posterior(dense(prior()), m)
    like = torch.empty(count, *SHAPE, dtype=torch.float64)
    sampler = Warm(DPMpp2M(1.0), 60, sigma_max=start)
    *_, last = sampler.steps(prior(), m, like, Streams(7, range(count)))
    std = exact.std.reshape(SHAPE)
    assert float(((last.x.mean(0) - exact.mean) / std).abs().max()) < 5 / count**0.5
    assert torch.allclose(last.x.std(0) / std, torch.tensor(1.0, dtype=torch.float64), atol=0.08)
    assert sampler.counts.nfe == 60


def test_refusals() -> None:
    m = measurement()
    with pytest.raises(InputError, match="declares no Gaussian"):
        Declared(dense(prior()), m)
    noise = Gaussian(torch.rand(2, 1, 3, 4) + 1)
    each = Measurement(torch.zeros(2, 1, 3, 4), Snapshot(SHAPE, 0, [1.0]), noise, batched=True)
    with pytest.raises(InputError, match="differs between problems"):
        Declared(prior(), each)
