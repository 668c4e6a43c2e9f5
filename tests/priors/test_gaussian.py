import math

import pytest
import torch

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.fourier import fft2c
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.priors.mixture import GaussianMixturePrior


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def spd(size, complex_, g, *batch):
    dtype = torch.complex128 if complex_ else torch.float64
    a = torch.randn(*batch, size, size, generator=g, dtype=dtype)
    return a @ a.mH / size + 0.1 * torch.eye(size, dtype=dtype)


def gaussian(domain):
    g, complex_ = rng(), domain == "complex"
    mean = torch.randn(2, 3, generator=g, dtype=torch.complex128 if complex_ else torch.float64)
    return GaussianPrior(mean, spd(6, complex_, g), domain)


def mixture(domain, shared=False):
    g, complex_ = rng(1), domain == "complex"
    means = 2 * torch.randn(3, 2, 2, generator=g, dtype=torch.complex128 if complex_ else torch.float64)
    covariance = spd(4, complex_, g) if shared else spd(4, complex_, g, 3)
    return GaussianMixturePrior(torch.tensor([0.5, 0.2, 0.3]), means, covariance, domain)


def field(domain):
    return GaussianFieldPrior(matern((4, 5), std=0.7, length=2.0), mean=0.3, domain=domain, channels=2)


PRIORS = {
    "gaussian real": lambda: gaussian("real"),
    "gaussian complex": lambda: gaussian("complex"),
    "mixture real": lambda: mixture("real"),
    "mixture complex": lambda: mixture("complex"),
    "mixture shared": lambda: mixture("complex", shared=True),
    "field real": lambda: field("real"),
    "field complex": lambda: field("complex"),
}


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]()


def noisy(prior, n, sigma, seed=5):
    dtype = torch.complex128 if prior.domain == "complex" else torch.float64
    x = prior.sample(n, rng(seed)).to(dtype)
    return x + sigma.reshape(-1, *[1] * (x.ndim - 1)) * torch.randn(x.shape, generator=rng(seed + 1), dtype=dtype)


SIGMA = torch.tensor([0.05, 0.4, 3.0], dtype=torch.float64)


def test_covariance_is_sigma2_times_the_jacobian(prior):
    # The Jacobian by forward differentiation; torch differentiates the same code, so the limit is rounding.
    x = noisy(prior, 3, SIGMA)
    v = torch.randn(x.shape, generator=rng(7), dtype=x.dtype)
    jv = torch.func.jvp(lambda x: prior.denoise(x, SIGMA), (x,), (v,))[1]
    expected = SIGMA.reshape(-1, *[1] * (x.ndim - 1)) ** 2 * jv
    torch.testing.assert_close(prior.covariance(x, SIGMA)(v), expected, rtol=1e-10, atol=1e-12)


def test_denoiser_is_tweedies(prior):
    # E[x0 | x] = x + sigma^2 grad log p_sigma(x), with the density of the noisy x written down anew.
    x = noisy(prior, 3, SIGMA).requires_grad_(True)
    (score,) = torch.autograd.grad(log_density(prior, x, SIGMA).sum(), x)
    expected = x + SIGMA.reshape(-1, *[1] * (x.ndim - 1)) ** 2 * score
    torch.testing.assert_close(prior.denoise(x.detach(), SIGMA), expected.detach(), rtol=1e-9, atol=1e-9)


def log_density(prior, x, sigma):
    """Of x = x0 + sigma n, up to a constant; on real components, where a circular C is [[Re, -Im], [Im, Re]]."""
    if isinstance(prior, GaussianFieldPrior):
        k = fft2c((x - prior.mean).to(torch.complex128))  # centred: the spectrum is applied as it was given
        variance = prior.spectrum + sigma.reshape(-1, 1, 1, 1) ** 2
        return -0.5 * (k.abs() ** 2 / variance).flatten(1).sum(1)
    weights = getattr(prior, "weights", torch.ones(1, dtype=torch.float64))
    means = (prior.means if isinstance(prior, GaussianMixturePrior) else prior.mean[None]).flatten(1)
    covariance = (prior.directions * prior.variances[..., None, :]) @ prior.directions.mH
    covariance = covariance.expand(len(means), *covariance.shape[-2:])
    x, logs = x.flatten(1), []
    for w, m, c in zip(weights, means, covariance, strict=True):
        if x.is_complex():
            c = torch.cat([torch.cat([c.real, -c.imag], 1), torch.cat([c.imag, c.real], 1)], 0)
        r = torch.cat([(x - m).real, (x - m).imag], 1) if x.is_complex() else x - m
        s = c + sigma[:, None, None] ** 2 * torch.eye(len(c))
        quadratic = (r * torch.linalg.solve(s, r)).sum(1)
        logs.append(math.log(w) - 0.5 * quadratic - 0.5 * torch.linalg.slogdet(s)[1])
    return torch.logsumexp(torch.stack(logs), 0)


def test_mixture_in_one_dimension_by_quadrature():
    prior = GaussianMixturePrior(
        torch.tensor([1.0, 3.0]), torch.tensor([[-1.0], [2.0]]), torch.tensor([[[0.25]], [[0.04]]])
    )
    grid = torch.linspace(-8, 8, 20001, dtype=torch.float64)

    def normal(x, m, s):
        return torch.exp(-0.5 * ((x - m) / s) ** 2) / s

    density = 0.25 * normal(grid, -1.0, 0.5) + 0.75 * normal(grid, 2.0, 0.2)
    for x, sigma in ((0.3, 0.7), (-2.0, 0.2), (4.0, 5.0)):
        posterior = density * normal(x, grid, sigma)
        mean = (grid * posterior).sum() / posterior.sum()
        variance = ((grid - mean) ** 2 * posterior).sum() / posterior.sum()
        at, level = torch.tensor([[x]], dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64)
        assert float(prior.denoise(at, level)) == pytest.approx(float(mean), rel=1e-6)
        spread = prior.covariance(at, level)(torch.ones(1, 1, dtype=torch.float64))
        assert float(spread) == pytest.approx(float(variance), rel=1e-6)
        share = prior.responsibilities(at, level)
        assert float(share.sum()) == pytest.approx(1.0)


def test_samples_have_the_declared_moments(prior):
    n = 20000
    x = prior.sample(n, rng(3))
    assert tuple(x.shape[1:]) == tuple(prior.sample_shape) and x.is_complex() == (prior.domain == "complex")
    flat = x.flatten(1).to(torch.complex128 if x.is_complex() else torch.float64)
    # scale: the variance about the mean per real component. At large noise the denoiser's slope is C / sigma^2.
    parts = 2 if x.is_complex() else 1
    variance = float(((flat - flat.mean(0)).abs() ** 2).mean()) / parts
    assert math.sqrt(variance) == pytest.approx(prior.scale, rel=0.03)
    sigma = torch.tensor([1e4 * prior.scale], dtype=torch.float64)
    v = torch.randn(1, *prior.sample_shape, generator=rng(4), dtype=flat.dtype)
    product = prior.covariance(prior.sample(1, rng(4)).to(flat.dtype), sigma)(v).flatten(1)[0]
    centred = flat - flat.mean(0)
    along = (centred.conj() * v.flatten(1)).real.sum(1)
    found = (centred * along[:, None]).mean(0)
    # A product of two normal numbers scatters by less than 2.5 times its scale here; 5 deviations of the mean.
    limit = 5 * 2.5 * prior.scale**2 * float(v.abs().square().sum().sqrt()) / math.sqrt(n)
    assert float((found - product).abs().max()) < limit
    assert float((flat.mean(0) - prior.denoise(x[:1].to(flat.dtype), 100 * sigma).flatten()).abs().max()) < (
        5 * 3 * prior.scale / math.sqrt(n)
    )


def test_complex_samples_are_circular():
    prior = gaussian("complex")
    x = prior.sample(20000, rng()).flatten(1) - prior.mean.flatten()
    pseudo = (x.mT @ x / len(x)).abs().max()
    assert float(pseudo) < 0.02 * float((x.mT @ x.conj() / len(x)).abs().max()) * 3


def test_single_precision_and_one_sigma_for_all(prior):
    dtype = torch.complex64 if prior.domain == "complex" else torch.float32
    x = noisy(prior, 4, torch.full((4,), 0.5, dtype=torch.float64))
    wide = prior.denoise(x, torch.full((4,), 0.5, dtype=torch.float64))
    narrow = prior.denoise(x.to(dtype), torch.tensor([0.5]))
    assert narrow.dtype == dtype
    torch.testing.assert_close(narrow, wide.to(dtype), rtol=1e-4, atol=1e-5)


def test_gradients_work_after_a_call_in_inference_mode(prior):
    x = noisy(prior, 2, SIGMA[:2])
    x = x.to(torch.complex64 if x.is_complex() else torch.float32)  # not the precision the prior is kept in
    with torch.inference_mode():
        prior.denoise(x, SIGMA[:2])
    x.requires_grad_(True)
    torch.autograd.grad(prior.denoise(x, SIGMA[:2]).abs().sum(), x)


def test_no_noise_gives_x_back_where_the_prior_varies():
    prior = GaussianPrior(torch.tensor([1.0, 2.0]), torch.diag(torch.tensor([0.0, 4.0])))
    out = prior.denoise(torch.tensor([[7.0, 7.0]]), torch.tensor([0.0]))
    torch.testing.assert_close(out, torch.tensor([[1.0, 7.0]]))


def test_matern_has_the_declared_deviation_and_correlates_neighbours():
    spectrum = matern((32, 32), std=1.5, length=6.0)
    x = GaussianFieldPrior(spectrum).sample(400, rng())[:, 0]
    assert float(x.std()) == pytest.approx(1.5, rel=0.05)  # neighbours correlate: about 400 x 10 numbers count
    near, far = (float((x * x.roll(shift, -1)).mean()) / 1.5**2 for shift in (1, 16))
    assert near > 0.9 and abs(far) < 0.15
    assert spectrum.argmax() == 16 * 32 + 16  # zero frequency in the middle


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: GaussianPrior(torch.zeros(3), torch.eye(2)), ShapeError),
        (lambda: GaussianPrior(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])), InputError),
        (lambda: GaussianPrior(torch.zeros(2), -torch.eye(2)), InputError),
        (lambda: GaussianPrior(torch.zeros(2), torch.full((2, 2), math.nan)), InputError),
        (lambda: GaussianPrior(torch.zeros(2, dtype=torch.complex64), torch.eye(2)), DTypeError),
        (lambda: GaussianPrior(torch.zeros(2), torch.eye(2), "quaternion"), InputError),
        (lambda: GaussianPrior(torch.zeros(2, dtype=torch.int64), torch.eye(2)), DTypeError),
        (lambda: GaussianMixturePrior(torch.tensor([1.0, -1.0]), torch.zeros(2, 3), torch.eye(3)), InputError),
        (lambda: GaussianMixturePrior(torch.ones(3), torch.zeros(2, 3), torch.eye(3)), ShapeError),
        (lambda: GaussianFieldPrior(torch.tensor([1.0, 2.0, 3.0])), InputError),  # S(k) != S(-k)
        (lambda: GaussianFieldPrior(-torch.ones(4)), InputError),
        (lambda: GaussianFieldPrior(torch.zeros(4)), InputError),
        (lambda: matern((8,), std=0.0, length=1.0), InputError),
    ],
)
def test_what_cannot_be_a_prior_is_refused(build, error):
    with pytest.raises(error):
        build()


def test_a_complex_field_needs_no_symmetric_spectrum():
    assert GaussianFieldPrior(torch.tensor([1.0, 2.0, 3.0]), domain="complex").sample_shape == (1, 3)


@pytest.mark.parametrize("domain", ["real", "complex"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_mixture_of_one_covariance_is_that_of_many_equal_ones(domain, plain) -> None:
    rng = torch.Generator().manual_seed(8)
    dtype = torch.complex128 if domain == "complex" else torch.float64
    means = 6 * torch.randn(5, 4, dtype=dtype, generator=rng)
    root = torch.randn(4, 4, dtype=dtype, generator=rng)
    spread = torch.eye(4, dtype=dtype) if plain else root @ root.mH
    weights = torch.rand(5, generator=rng, dtype=torch.float64) + 0.1
    one = GaussianMixturePrior(weights, means, spread, domain)
    many = GaussianMixturePrior(weights, means, spread.expand(5, 4, 4), domain)
    x = 6 * torch.randn(20, 4, dtype=dtype, generator=rng)
    for sigma in (torch.full((1,), 0.01), torch.full((1,), 3.0), torch.linspace(0.1, 50, 20)):
        torch.testing.assert_close(one.denoise(x, sigma), many.denoise(x, sigma), rtol=1e-6, atol=1e-6)
