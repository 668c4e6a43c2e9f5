import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.quadrature import QuadraturePrior


def grid(n=401, half=8.0):
    return torch.linspace(-half, half, n, dtype=torch.float64)


def gaussian(size):
    """A Gaussian by quadrature and the closed form."""
    if size == 1:
        x = grid()
        tabulated = QuadraturePrior([x], -0.5 * (x - 0.3) ** 2 / 0.7)
        return tabulated, GaussianPrior(torch.tensor([0.3]).double(), torch.tensor([[0.7]]))
    covariance, mean = torch.tensor([[1.0, 0.4], [0.4, 0.5]]).double(), torch.tensor([0.2, -0.5]).double()
    a, b = grid(), grid(361, 7.0)
    points = torch.stack(torch.meshgrid(a, b, indexing="ij"), -1) - mean
    log = -0.5 * (points @ torch.linalg.inv(covariance) * points).sum(-1)
    return QuadraturePrior([a, b], log), GaussianPrior(mean, covariance)


@pytest.mark.parametrize("size", [1, 2])
def test_moments_are_the_closed_form(size):
    tabulated, exact = gaussian(size)
    x = torch.randn(7, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for level in (tabulated.sigma_min, 0.3, 2.0, 40.0):
        sigma = torch.full((1,), level, dtype=torch.float64)
        torch.testing.assert_close(tabulated.denoise(x, sigma), exact.denoise(x, sigma), rtol=1e-7, atol=1e-7)
        v = torch.ones_like(x)
        ours, known = tabulated.covariance(x, sigma)(v), exact.covariance(x, sigma)(v)
        torch.testing.assert_close(ours, known, rtol=1e-6, atol=1e-9)
    assert tabulated.scale == pytest.approx(exact.scale, rel=1e-6)


@pytest.mark.parametrize("size", [1, 2])
def test_covariance_is_the_jacobian(size):
    # On a density that is not Gaussian: two humps, the second lower.
    x = grid()
    one = torch.logaddexp(-2 * (x + 1.5) ** 2, -2 * (x - 1.5) ** 2 - 1)
    prior = QuadraturePrior([x] * size, one if size == 1 else one[:, None] + one - 0.3 * x[:, None] * x)
    at = torch.tensor([[0.2] * size, [1.1] * size], dtype=torch.float64)
    sigma, v = torch.tensor([0.8, 1.3], dtype=torch.float64), torch.tensor([[1.0, -2.0]]).double()[:, :size]
    slope = torch.func.jvp(lambda a: prior.denoise(a, sigma), (at,), (v.expand(2, -1).contiguous(),))[1]
    torch.testing.assert_close(prior.covariance(at, sigma)(v.expand(2, -1)), sigma[:, None] ** 2 * slope)


def test_draws_follow_the_table():
    prior, exact = gaussian(2)
    draws = prior.sample(20_000, torch.Generator().manual_seed(2)).double()
    deviation = exact.directions * exact.variances.sqrt()
    white = torch.linalg.solve(deviation, (draws - exact.mean).mT)
    assert float(white.mean(1).abs().max()) < 4 / 20_000**0.5
    assert float((white.var(1) - 1).abs().max()) < 4 * (2 / 20_000) ** 0.5 + prior.spacing[0] ** 2


def test_what_it_refuses():
    x = grid(11)
    with pytest.raises(ShapeError):
        QuadraturePrior([x], torch.zeros(10))
    with pytest.raises(InputError, match="uniform"):
        QuadraturePrior([x**3], torch.zeros(11))
    with pytest.raises(InputError, match="zero everywhere"):
        QuadraturePrior([x], torch.full((11,), -float("inf")))
