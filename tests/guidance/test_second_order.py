"""The slope of the moment-matched likelihood, against automatic differentiation."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.guidance import MMPS, SecondOrder
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.gaussian import normal
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.random import generator
from invdiff.validation.sampler_problem import problem

D = 4


def mixture(domain):
    dtype = torch.complex128 if domain == "complex" else torch.float64
    means = 2 * normal((3, D), dtype, generator(0))
    return GaussianMixturePrior(torch.tensor([1.0, 2.0, 3.0]), means, torch.eye(D, dtype=dtype), domain)


def log_likelihood(prior, measurement, x, sigma):
    """``log N(y; A D(x), A V A^T + S)`` by dense algebra on real components, differentiable in x."""
    is_complex = x.is_complex()
    a = measurement.operator.matrix

    def parts(z):
        return torch.view_as_real(z).reshape(-1) if is_complex else z.reshape(-1)

    def data(u):
        z = torch.view_as_complex(u.reshape(1, D, 2)) if is_complex else u[None]
        return parts(prior.denoise(z, torch.tensor([sigma])) @ a.mT)

    def image(u):
        z = torch.view_as_complex(u.reshape(1, D, 2)) if is_complex else u[None]
        return parts(prior.denoise(z, torch.tensor([sigma])))

    eye = torch.eye(parts(x).numel(), dtype=torch.float64)
    z = torch.view_as_complex(eye.reshape(-1, D, 2)) if is_complex else eye
    rows = torch.stack([parts(e @ a.mT) for e in z], 1)

    def value(u):
        v = sigma**2 * torch.func.jacrev(image)(u)
        m = rows @ v @ rows.mT + measurement.noise.sigma**2 * torch.eye(rows.shape[0])
        r = parts(measurement.y) - data(u)
        return -0.5 * r @ torch.linalg.solve(m, r) - 0.5 * torch.logdet(m)

    gradient = torch.func.grad(value)(parts(x))
    return torch.view_as_complex(gradient.reshape(1, D, 2)) if is_complex else gradient[None]


@pytest.mark.parametrize("domain", ["real", "complex"])
def test_it_is_the_gradient_of_the_log_likelihood(domain):
    prior = mixture(domain)
    dtype = prior.means.dtype
    a = normal((2, D), dtype, generator(2))
    measurement = Measurement(normal((2,), dtype, generator(3)), Matrix(a), Gaussian(0.4))
    x, sigma = 1.5 * normal((1, D), dtype, generator(4)), 1.3
    x0 = prior.denoise(x, torch.tensor([sigma]))
    exact = x0 + sigma**2 * log_likelihood(prior, measurement, x, sigma)
    guidance = SecondOrder(prior, measurement, width=1e-4)
    # the mean over all signs is the trace: 2 or 4 real data
    count = 4 if dtype.is_complex else 2
    found = []
    for k in range(2**count):
        bits = torch.tensor([1.0 if k >> i & 1 else -1.0 for i in range(count)], dtype=torch.float64)
        probe = torch.view_as_complex(bits.reshape(2, 2)) if dtype.is_complex else bits
        found.append(guidance.at(x, sigma, probe[None]))
    mean = torch.stack(found).mean(0)
    moved = (exact - MMPS(prior, measurement)(x, sigma)).abs().max()
    assert float(moved) > 0.05  # the parts that moment matching leaves out are not small here
    assert float((mean - exact).abs().max()) < 0.01 * float(moved)


def test_under_a_gaussian_prior_it_is_moment_matching():
    case = problem("real", generator(0))
    x = torch.randn(3, 8, generator=generator(1), dtype=torch.float64)
    probe = torch.randn(3, 3, generator=generator(2), dtype=torch.float64)
    measurement = Measurement(case.y.double(), Matrix(case.matrix.double()), Gaussian(case.sigma))
    for sigma in (0.05, 1.0, 40.0):
        expected = MMPS(case.prior, measurement, 3)(x, sigma)
        torch.testing.assert_close(SecondOrder(case.prior, measurement).at(x, sigma, probe), expected)


def test_options_out_of_range_are_refused():
    case = problem("real", generator(0))
    with pytest.raises(InputError, match="iterations = 0"):
        SecondOrder(case.prior, case.measurement, iterations=0)
