"""TMPD and DDNM by dense algebra, and the length of PiGDM's step."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.guidance import DDNM, MMPS, TMPD, PiGDM
from invdiff.guidance.pseudo_inverse import PseudoInverse
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import Operator
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.operators.matrix import Matrix
from invdiff.operators.mri.sense import MRI
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.random import generator
from invdiff.validation.linear_gaussian import real_matrix

D, M, SIGMA = 6, 4, 0.7


@pytest.fixture(params=[torch.float64, torch.complex128], ids=["real", "complex"])
def case(request):
    rng, dtype = generator(5), request.param
    root, matrix = normal((D, D), dtype, rng), normal((M, D), dtype, rng)
    prior = GaussianPrior(normal((D,), dtype, rng), root @ root.mH / D, "complex" if dtype.is_complex else "real")
    return prior, Measurement(normal((M,), dtype, rng), Matrix(matrix), Gaussian(0.3)), normal((3, D), dtype, rng)


def real(x):
    return torch.view_as_real(x).flatten(1) if x.is_complex() else x


def test_tmpd_divides_by_the_row_sums(case):
    prior, measurement, x = case
    sigma = torch.tensor([SIGMA])
    x0, cov = prior.denoise(x, sigma), prior.covariance(x[:1], sigma)
    a = real_matrix(measurement.operator)
    size = a.shape[1]
    basis = torch.eye(size, dtype=torch.float64)
    basis = torch.view_as_complex(basis.reshape(size, D, 2)) if x.is_complex() else basis
    v = real(cov(basis)).mT  # (size, size): columns are V e_i
    sums = (a @ v @ a.mT).sum(1).abs()
    exact = real(x0) + (real(measurement.residual(x0)) / (sums + 0.09)) @ a @ v.mT
    torch.testing.assert_close(real(TMPD(prior, measurement)(x, SIGMA)), exact, rtol=1e-5, atol=1e-5)


def test_tmpd_is_exact_where_the_data_do_not_correlate():
    # Independent entries, each measured on its own: A V A^T is diagonal.
    prior = GaussianPrior(torch.zeros(D), torch.diag(torch.linspace(0.2, 2.0, D)))
    measurement = Measurement(torch.randn(M, generator=generator(0)), Matrix(2.0 * torch.eye(D)[:M]), Gaussian(0.3))
    x = torch.randn(2, D, generator=generator(1))
    v = torch.linspace(0.2, 2.0, D)
    v = v * SIGMA**2 / (v + SIGMA**2)
    exact = prior.denoise(x, torch.tensor([SIGMA]))
    exact[:, :M] += v[:M] * 2 / (4 * v[:M] + 0.09) * (measurement.y - 2 * exact[:, :M])
    torch.testing.assert_close(TMPD(prior, measurement)(x, SIGMA), exact, rtol=1e-5, atol=1e-5)


def test_ddnm_meets_the_data_and_keeps_the_null_space(case):
    prior, measurement, x = case
    a = measurement.operator.matrix
    x0 = prior.denoise(x, torch.tensor([SIGMA]))
    inverse = torch.linalg.pinv(a)
    exact = x0 + (measurement.y - x0 @ a.mT) @ inverse.mT
    torch.testing.assert_close(DDNM(prior, measurement)(x, SIGMA), exact, rtol=1e-4, atol=1e-4)


def test_the_pseudo_inverse_of_a_singular_matrix_is_not_blown_up():
    # Rank one: ten iterations go far past convergence.
    a = torch.outer(torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0, 3.0]))
    measurement = Measurement(torch.tensor([1.0, -2.0]), Matrix(a), Gaussian(1.0))
    v = torch.randn(4, 2, generator=generator(0))
    found = PseudoInverse(measurement, "test", iterations=10)(v)
    torch.testing.assert_close(found, v @ torch.linalg.pinv(a).mT, rtol=1e-4, atol=1e-5)


def test_noise_of_a_nearly_singular_matrix_is_amplified_within_bounds():
    op = Matrix(torch.diag(torch.tensor([3.0, 0.3, 3e-5])))
    found = PseudoInverse(Measurement(torch.ones(3), op, Gaussian(1.0)), "test")(torch.ones(1, 3))[0]
    torch.testing.assert_close(3 * found, torch.tensor([1.0, 10.0, 10.0]), rtol=2e-2, atol=0)  # s / (s^2 + 9e-6)


def test_the_pseudo_inverse_in_closed_form():
    mask = torch.tensor([[True, False, True], [False, True, True]])
    op = Inpainting(mask, (1, 2, 3))
    y = torch.randn(1, *op.range_shape, generator=generator(0))
    y = op.forward(op.adjoint(y))
    inverse = PseudoInverse(Measurement(y[0], op, Gaussian(1.0)), "test")
    assert inverse.shift is not None
    torch.testing.assert_close(op.forward(inverse(y)), y, rtol=1e-5, atol=1e-5)


def test_these_run_on_mri():
    op = MRI.example(generator(2))
    x = normal((2, *op.domain_shape), torch.complex64, generator(3))
    measurement = Measurement(op.forward(x[:1])[0], op, Gaussian(0.1))
    size = 2 * 5 * 6
    prior = GaussianPrior(torch.zeros(op.domain_shape, dtype=torch.complex64), torch.eye(size), "complex")
    for method in (TMPD, DDNM):
        out = method(prior, measurement)(x, SIGMA)
        assert out.shape == x.shape and bool(torch.isfinite(torch.view_as_real(out)).all())
    before = measurement.residual(prior.denoise(x, torch.tensor([SIGMA]))).abs().square().sum()
    after = measurement.residual(DDNM(prior, measurement, iterations=40)(x, SIGMA)).abs().square().sum()
    assert after < 1e-4 * before


@pytest.mark.parametrize("method", [TMPD, DDNM])
def test_nonlinear_operators_are_refused_by_name(method):
    class Square(Operator):
        domain_shape = range_shape = (D,)

        def _forward(self, x):
            return x**2

    measurement = Measurement(torch.ones(D), Square(), Gaussian(1.0))
    with pytest.raises(InputError, match=f"{method.__name__} needs a linear operator"):
        method(GaussianPrior(torch.zeros(D), torch.eye(D)), measurement)


# ---- PiGDM's step length ---------------------------------------------------------------------------------------------
def test_pigdm_never_makes_the_misfit_larger():
    # One direction varies far more than the mean over all: r^2 is far too small there.
    prior = GaussianPrior(torch.zeros(D), torch.diag(torch.tensor([400.0, *[0.1] * (D - 1)])))
    measurement = Measurement(torch.tensor([3.0, 1.0]), Matrix(torch.eye(D)[:2]), Gaussian(0.01))
    x = 30.0 * torch.randn(5, D, generator=generator(0))
    for sigma in (1.0, 30.0):
        before = measurement.chi2(prior.denoise(x, torch.tensor([sigma])))
        assert bool((measurement.chi2(PiGDM(prior, measurement)(x, sigma)) <= before * (1 + 1e-3)).all())


def test_pigdm_is_the_published_step_where_all_directions_vary_alike(case):
    _, measurement, x = case
    prior = GaussianPrior(torch.zeros_like(x[0]), 0.8 * torch.eye(D), "complex" if x.is_complex() else "real")
    a = measurement.operator.matrix
    for sigma in (0.05, 0.7, 20.0):
        level = torch.tensor([sigma])
        r2, x0 = 0.8 * sigma**2 / (0.8 + sigma**2), prior.denoise(x, level)
        u = torch.linalg.solve(r2 * a @ a.mH + 0.09 * torch.eye(M), measurement.residual(x0).mT).mT
        published = x0 + prior.covariance(x, level)(u @ a.conj())
        torch.testing.assert_close(PiGDM(prior, measurement)(x, sigma), published, rtol=1e-5, atol=1e-5)


def test_pigdm_with_one_datum_is_moment_matching(case):
    prior, measurement, x = case
    one = Measurement(measurement.y[:1], Matrix(measurement.operator.matrix[:1]), Gaussian(0.3))
    torch.testing.assert_close(PiGDM(prior, one)(x, SIGMA), MMPS(prior, one, 1)(x, SIGMA), rtol=1e-6, atol=1e-6)
