"""Exact posteriors that are not a plain linear-Gaussian solve, each against another way to the same numbers."""

import math

import pytest
import torch

from invdiff.errors import DTypeError, InputError, UnknownNameError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators import Matrix, PhaseRetrieval
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.priors.quadrature import QuadraturePrior
from invdiff.validation import density, field, importance, linear_gaussian, mixture, nonlinear
from invdiff.validation.linear_gaussian import components
from invdiff.validation.suites import SUITES, families, operator_family


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("domain", ["real", "complex"])
@pytest.mark.parametrize("shape", [(6, 4), (5, 3)])
def test_field_posterior_is_the_dense_one(domain, shape):
    prior = GaussianFieldPrior(matern(shape, 1.3, 2.0), 0.7, domain)
    operator, noise = field.FourierFilter(field.gaussian_lowpass(shape, 0.8), domain), Gaussian(0.2)
    wide = torch.complex128 if domain == "complex" else torch.float64
    y = noise.sample(operator.forward(prior.sample(1, rng()).to(wide)), rng(1))[0]
    measurement = Measurement(y, operator, noise)
    found = field.posterior(prior, measurement)
    size = math.prod(shape)
    unit = torch.eye(size, dtype=wide).reshape(size, 1, *shape)
    covariance = prior._filter(unit, prior._plain).reshape(size, size).mT
    dense = linear_gaussian.posterior(GaussianPrior(prior.mean.to(wide), covariance, domain), measurement)
    torch.testing.assert_close(found.mean, dense.mean, rtol=1e-9, atol=1e-9)
    n = 4000
    draws = found.sample(n, rng(2))
    chol = torch.linalg.cholesky(dense.covariance)
    white = torch.linalg.solve_triangular(chol, components(draws - dense.mean).mT, upper=False)
    gram = white @ white.mT / n - torch.eye(len(chol))
    assert float(gram.abs().max()) < 5 * (2 / n) ** 0.5
    modes = found.modes(draws)  # independent and standard normal, as the directions of a case must be
    assert modes.shape == (n, len(chol))
    assert float((modes.mT @ modes / n - torch.eye(len(chol))).abs().max()) < 5 * (2 / n) ** 0.5


def test_field_posterior_refuses():
    prior = GaussianFieldPrior(matern((4, 4), 1.0, 2.0))
    with pytest.raises(DTypeError, match="FourierFilter"):
        field.posterior(prior, Measurement(torch.zeros(2), Matrix(torch.ones(2, 2)), Gaussian(1.0)))


def small_mixture():
    means = torch.tensor([[-2.0, 0.0], [1.0, 1.5], [2.0, -1.0]])
    return GaussianMixturePrior(torch.tensor([1.0, 2.0, 0.5]), means, 0.3 * torch.eye(2))


@pytest.mark.parametrize("rows", [1, 2])
def test_phase_retrieval_by_signs_and_by_brute_force(rows):
    # A datum as small as the noise, so that both signs overlap and the weights matter.
    matrix = torch.tensor([[1.0, 0.4], [-0.3, 0.8]])[:rows]
    measurement = Measurement(torch.tensor([0.3, 0.9])[:rows], PhaseRetrieval(Matrix(matrix)), Gaussian(0.4))
    prior = small_mixture()
    found = nonlinear.posterior(prior, measurement, rng(1))
    other = importance.from_prior(prior, measurement, rng(2), 300_000)
    assert found.ess > 0.5 * len(found.points) and other.ess > 10_000
    # 4 standard errors of a log-mean of weights: 4 / sqrt(ess).
    assert found.log_evidence == pytest.approx(other.log_evidence, abs=4 * (1 / other.ess + 1 / found.ess) ** 0.5)
    for power in (1, 2):
        a = (found.weights[:, None] * found.points.double() ** power).sum(0)
        b = (other.weights[:, None] * other.points.double() ** power).sum(0)
        spread = (other.weights[:, None] * (other.points.double() ** power - b) ** 2).sum(0).sqrt()
        assert float(((a - b).abs() / spread).max()) < 4 * (1 / other.ess + 1 / found.ess) ** 0.5


def test_importance_sampling_of_a_gaussian():
    prior, measurement = linear_problem()
    exact = linear_gaussian.posterior(prior, measurement)
    found = importance.from_prior(prior, measurement, rng(3), 200_000)
    assert found.log_evidence == pytest.approx(exact.log_evidence, abs=4 / found.ess**0.5)
    mean = (found.weights[:, None] * components(found.points)).sum(0)
    assert float(((mean - exact.mean) / exact.std).abs().max()) < 4.5 / found.ess**0.5
    with pytest.raises(InputError, match="effective size"):
        sharp = Measurement(measurement.y, measurement.operator, Gaussian(1e-4))
        importance.from_prior(prior, sharp, rng(3), 20_000)


def linear_problem():
    prior = GaussianPrior(torch.tensor([0.5, -0.2]).double(), torch.tensor([[1.0, 0.3], [0.3, 0.6]]).double())
    return prior, Measurement(torch.tensor([0.7]).double(), Matrix([[0.8, -0.5]]), Gaussian(0.3))


def test_density_posterior_of_a_gaussian():
    prior, measurement = linear_problem()
    axis = torch.linspace(-7, 7, 281, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1) - prior.mean
    precision = torch.linalg.inv(prior.directions * prior.variances @ prior.directions.mT)
    table = QuadraturePrior([axis, axis], -0.5 * (points @ precision * points).sum(-1))
    found = density.posterior(table, measurement)
    exact = linear_gaussian.posterior(prior, measurement)
    assert found.log_evidence == pytest.approx(exact.log_evidence, abs=1e-6)
    mean = found.table.flatten() @ found.points
    torch.testing.assert_close(mean, exact.mean, rtol=0, atol=1e-6)
    centred = found.points - mean
    torch.testing.assert_close((found.table.flatten() * centred.mT) @ centred, exact.covariance, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="finer grid"):
        density.posterior(table, Measurement(torch.zeros(2).double(), Matrix(torch.eye(2).double()), Gaussian(0.02)))


def test_complex_lattice():
    prior, measurement = mixture.lattice_problem(8, 1, rng(5), domain="complex")
    assert prior.means.is_complex() and len(torch.unique(torch.view_as_real(prior.means).flatten(1), dim=0)) == 25
    assert isinstance(measurement.operator, Matrix) and measurement.operator.matrix.is_complex()
    found = mixture.posterior(prior, measurement)
    # p(k | y) is the mean over exact draws of p(k | x), because y depends on k through x only.
    shares = prior.responsibilities(found.sample(4000, rng(6)), torch.zeros(1).double()).double()
    assert float((shares.mean(0) - found.weights).abs().max()) < 4 * 0.5 / 4000**0.5


@pytest.mark.parametrize("suite", SUITES)
def test_families_are_fresh_and_reproducible(suite):
    for family in families(suite, 12 if suite == "field" else None):
        one, same, other = family(rng(7)), family(rng(7)), family(rng(8))
        assert torch.equal(one.measurement.y, same.measurement.y) and one.facts == same.facts
        assert not torch.equal(one.measurement.y, other.measurement.y)
        assert one.facts["sigma"] != other.facts["sigma"]


@pytest.mark.parametrize("suite", SUITES)
def test_directions_have_the_law_that_is_claimed(suite):
    for family in families(suite, 8 if suite == "field" else None):
        case, n = family(rng(9)), 4000
        values = case.directions(case.exact.sample(n, rng(10)))
        law = case.marginals
        z = (values.mean(0) - law.mean) / law.std * n**0.5
        assert float(z.abs().max()) < 4.5  # at most 64 directions
        middle = law.below(values.median(0).values)
        assert float((middle - 0.5).abs().max()) < 4.5 * 0.5 / n**0.5 + 1e-3
        wide = case.measurement.to(torch.float64)
        chi2 = wide.chi2(case.exact.sample(n, rng(11)))
        assert case.chi2 is not None
        assert abs(float(chi2.mean()) - case.chi2) < 4.5 * float(chi2.std()) / n**0.5


def test_a_user_s_operator():
    def skewed(g):
        return Matrix(normal((3, 5), torch.float32, g))

    case = operator_family(skewed)(rng(3))
    assert case.name == "Matrix" and case.directions(case.exact.sample(2, rng(1))).shape == (2, 5)
    assert int(case.seen.sum()) == 3
    with pytest.raises(DTypeError, match="nonlinear"):
        operator_family(PhaseRetrieval)(rng())
    with pytest.raises(InputError, match="4096"):
        operator_family(lambda: Matrix(torch.ones(1, 5000)))(rng())


def test_what_is_no_suite():
    with pytest.raises(UnknownNameError, match="mixture"):
        families("nothing")
    with pytest.raises(InputError, match="observed"):
        families("field", observed=3)
    with pytest.raises(InputError, match="at least 1"):
        families("mixture", dim=0)
    with pytest.raises(InputError, match="1 to 8"):
        families("mixture", observed=9)[0](rng())
    with pytest.raises(InputError, match="1 to 8"):
        families("nonlinear", 20, observed=9)[0](rng())
