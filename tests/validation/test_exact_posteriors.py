import math
from typing import Any

import pytest
import torch

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian, Noise
from invdiff.operators import MRI, Identity, Matrix
from invdiff.operators.base import LinearOperator, Operator
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.validation import mixture
from invdiff.validation.linear_gaussian import components, events, posterior, real_matrix


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, complex_=False):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.complex128 if complex_ else torch.float64)


def spd(size, complex_=False):
    a = randn(size, size, seed=3, complex_=complex_)
    return a @ a.mH / size + 0.2 * torch.eye(size)


def test_one_number_by_hand():
    # x ~ N(1, 4), y = 3 x + n, n ~ N(0, 0.25), y = 5: precision 1/4 + 9/0.25 = 36.25.
    measurement = Measurement(torch.tensor([5.0]), Matrix([[3.0]]), Gaussian(0.5))
    found = posterior(GaussianPrior(torch.tensor([1.0]), torch.tensor([[4.0]])), measurement)
    assert float(found.mean) == pytest.approx((1 / 4 + 3 * 5 / 0.25) / 36.25, rel=1e-12)
    assert float(found.std) == pytest.approx(36.25**-0.5, rel=1e-12)
    variance = 9 * 4 + 0.25
    expected = -0.5 * (5 - 3) ** 2 / variance - 0.5 * math.log(2 * math.pi * variance)
    assert found.log_evidence == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("complex_", [False, True])
def test_against_bayes_rule_by_densities(complex_):
    # log p(x) + log p(y|x) - log p(x|y) is log p(y), whatever x.
    prior = GaussianPrior(randn(5, complex_=complex_), spd(5, complex_), "complex" if complex_ else "real")
    operator, noise = Matrix(randn(3, 5, seed=1, complex_=complex_)), Gaussian(torch.tensor([0.3, 0.5, 0.4]).double())
    measurement = Measurement(randn(3, seed=2, complex_=complex_), operator, noise)
    found = posterior(prior, measurement)
    x = prior.sample(6, rng(4))
    covariance = prior.directions * prior.variances @ prior.directions.mH
    if complex_:  # of the real components (re, im interleaved), from the definition E[(x - m)(x - m)^H] = 2 C
        i = torch.arange(10)
        table = {(0, 0): covariance.real, (1, 1): covariance.real, (1, 0): covariance.imag, (0, 1): -covariance.imag}
        covariance = torch.stack([torch.stack([table[int(a % 2), int(b % 2)][a // 2, b // 2] for b in i]) for a in i])

    def log_normal(r, c):
        quadratic = (r * torch.linalg.solve(c, r.mT).mT).sum(1)
        return -0.5 * (quadratic + torch.linalg.slogdet(2 * math.pi * c)[1])

    log_prior = log_normal(components(x - prior.mean), covariance)
    log_posterior = log_normal(components(x - found.mean), found.covariance)
    evidence = log_prior + measurement.log_likelihood(x) - log_posterior
    torch.testing.assert_close(evidence, torch.full_like(evidence, found.log_evidence), rtol=1e-9, atol=1e-9)


def test_real_x_with_complex_data():
    class Fourier(LinearOperator):
        domain, range = "real", "complex"
        domain_shape = range_shape = (6,)

        def _forward(self, x):
            return torch.fft.fft(x, norm="ortho")

        def _adjoint(self, y):
            return torch.fft.ifft(y, norm="ortho").real

    # Orthonormal: y says twice what x + noise would, once by each half of the spectrum, so it is
    # a direct observation of x with the same sigma.
    prior, x = GaussianPrior(randn(6), spd(6)), randn(6, seed=5)
    one = posterior(prior, Measurement(torch.fft.fft(x, norm="ortho"), Fourier(), Gaussian(0.3)))
    two = posterior(prior, Measurement(x, Identity((6,)), Gaussian(0.3)))
    torch.testing.assert_close(one.mean, two.mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(one.covariance, two.covariance, rtol=1e-10, atol=1e-12)


def test_unmeasured_data_say_nothing():
    operator = Matrix(randn(5, 4))
    keep = torch.tensor([True, False, True, False, False])
    prior, y = GaussianPrior(randn(4), spd(4)), randn(5, seed=6)
    masked = posterior(prior, Measurement(y * keep, operator[keep], Gaussian(0.3)))
    short = posterior(prior, Measurement(y[keep], Matrix(operator.matrix[keep]), Gaussian(0.3)))
    torch.testing.assert_close(masked.mean, short.mean)
    torch.testing.assert_close(masked.covariance, short.covariance)
    assert masked.log_evidence == pytest.approx(short.log_evidence)


def test_images_and_the_dense_matrix():
    operator = MRI.example(rng())
    matrix = real_matrix(operator)
    x = torch.randn(2, *operator.domain_shape, generator=rng(1), dtype=torch.complex128)
    torch.testing.assert_close(components(x) @ matrix.mT, components(operator.to(torch.float64).forward(x)))
    torch.testing.assert_close(events(components(x), operator.domain_shape, True), x)


def test_samples_have_mean_and_covariance():
    prior = GaussianPrior(randn(2, 2, complex_=True), spd(4, True), "complex")
    measurement = Measurement(
        randn(3, seed=2, complex_=True), _Flat(Matrix(randn(3, 4, seed=1, complex_=True))), Gaussian(0.3)
    )
    found, n = posterior(prior, measurement), 20000
    x = components(found.sample(n, rng(9)))
    error = (x.mean(0) - components(found.mean[None])[0]) / found.std
    assert float(error.abs().max()) < 5 / n**0.5
    scatter = (x.mT.cov() - found.covariance) / (found.std[:, None] * found.std)
    assert float(scatter.abs().max()) < 5 * (2 / n) ** 0.5


class _Flat(LinearOperator):
    """A matrix on 2 x 2 events."""

    domain = range = "complex"
    domain_shape, range_shape = (2, 2), (3,)

    def __init__(self, op):
        self.op = op

    def _forward(self, x):
        return self.op._forward(x.flatten(1))

    def _adjoint(self, y):
        return self.op._adjoint(y).reshape(-1, 2, 2)


def test_what_has_no_closed_form_is_refused():
    class Square(Operator):
        domain_shape = range_shape = (2,)

        def _forward(self, x):
            return x**2

    prior, y = GaussianPrior(torch.zeros(2), torch.eye(2)), torch.zeros(2)
    with pytest.raises(DTypeError, match="linear operators"):
        posterior(prior, Measurement(y, Square(), Gaussian(1.0)))
    with pytest.raises(DTypeError, match="Gaussian noise"):
        posterior(prior, Measurement(y, Identity((2,)), Noise()))
    with pytest.raises(DTypeError, match="GaussianPrior"):
        other: Any = mixture.lattice_prior(2, rng())
        posterior(other, Measurement(y, Identity((2,)), Gaussian(1.0)))
    with pytest.raises(InputError, match="take"):
        posterior(prior, Measurement(torch.zeros(3, 2), Identity((2,)), Gaussian(1.0), batched=True))
    with pytest.raises(ShapeError):
        posterior(GaussianPrior(torch.zeros(3), torch.eye(3)), Measurement(y, Identity((2,)), Gaussian(1.0)))
    with pytest.raises(InputError):
        mixture.lattice_prior(1, rng())


def test_mixture_of_one_is_the_gaussian():
    mean, covariance = randn(4), spd(4)
    measurement = Measurement(randn(2, seed=2), Matrix(randn(2, 4, seed=1)), Gaussian(0.3))
    one = posterior(GaussianPrior(mean, covariance), measurement)
    many = mixture.posterior(GaussianMixturePrior(torch.ones(1), mean[None], covariance), measurement)
    torch.testing.assert_close(many.means[0], one.mean)
    torch.testing.assert_close(many.covariances[0], one.covariance)
    assert many.log_evidence == pytest.approx(one.log_evidence)


@pytest.mark.parametrize("shared", [True, False])
def test_mixture_in_one_dimension_by_quadrature(shared):
    covariance = torch.tensor([[0.3]]) if shared else torch.tensor([[[0.3]], [[1.5]]])
    prior = GaussianMixturePrior(torch.tensor([1.0, 3.0]), torch.tensor([[-2.0], [1.0]]), covariance)
    found = mixture.posterior(prior, Measurement(torch.tensor([0.4]), Matrix([[0.7]]), Gaussian(0.8)))
    x = torch.linspace(-12, 12, 40001, dtype=torch.float64)

    def normal(x, m, v):
        return torch.exp(-0.5 * (x - m) ** 2 / v) / math.sqrt(2 * math.pi * v)

    second = 0.3 if shared else 1.5
    parts = [0.25 * normal(x, -2.0, 0.3), 0.75 * normal(x, 1.0, second)]
    joint = torch.stack(parts) * normal(0.4, 0.7 * x, 0.8**2)
    evidence = float(joint.sum() * (x[1] - x[0]))
    assert found.log_evidence == pytest.approx(math.log(evidence), rel=1e-6)
    torch.testing.assert_close(found.weights, joint.sum(1) / joint.sum(), rtol=1e-6, atol=1e-8)
    draws = found.sample(20000, rng(3))[:, 0]
    mean = (x * joint).sum() / joint.sum()
    deviation = float((((x - mean) ** 2 * joint).sum() / joint.sum()) ** 0.5)
    assert abs(float(draws.mean() - mean)) < 5 * deviation / 20000**0.5
    assert float(draws.std()) == pytest.approx(deviation, rel=5 / 20000**0.5)


def test_lattice_problem_is_the_published_one():
    prior, measurement = mixture.lattice_problem(8, 2, rng(11))
    assert prior.means.shape == (25, 8) and len(torch.unique(prior.means, dim=0)) == 25
    assert set(prior.means.unique().tolist()) == {-16.0, -8.0, 0.0, 8.0, 16.0}
    assert torch.equal(prior.means[:, 0::2], prior.means[:, :1].expand(-1, 4))  # (8i, 8j, 8i, ...)
    assert torch.equal(prior.means[:, 1::2], prior.means[:, 1:2].expand(-1, 4))
    assert float(prior.weights.sum()) == pytest.approx(1.0)
    assert isinstance(measurement.operator, Matrix)
    s = torch.linalg.svdvals(measurement.operator.matrix)
    assert bool((s <= 1 + 1e-6).all()) and 0 < level(measurement) <= float(s[0])
    found = mixture.posterior(prior, measurement)
    draws = found.sample(2000, rng(12))
    # chi2 of the data under posterior draws stays near its number, whatever draw of the prior made them.
    assert 0.02 < float(measurement.chi2(draws.float()).mean()) / measurement.count < 6
    assert level(mixture.lattice_problem(80, 4, rng(13), sigma=0.3)[1]) == pytest.approx(0.3)


def level(measurement):
    return float(measurement.noise.whiten(torch.ones(1))) ** -1
