"""The particle filter against the Kalman smoother, whose answer is exact; and chaotic systems."""

import math

import pytest
import torch

from invdiff.datasets.phantoms.dynamics import lorenz63, lorenz96, trajectory, turbulence
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.priors.gaussian import GaussianPrior
from invdiff.validation.linear_gaussian import posterior
from invdiff.validation.particle_filter import particle_filter


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_linear_gaussian_chain() -> None:
    """An autoregression observed at two times: mean, covariance and evidence of the whole path."""
    rho, steps, sigma = 0.8, 6, 0.5
    lag = (torch.arange(steps + 1)[:, None] - torch.arange(steps + 1)).abs().double()
    prior = GaussianPrior(torch.zeros(steps + 1, 1, dtype=torch.float64), rho**lag)
    mask = torch.zeros(steps + 1, 1, dtype=torch.bool)
    mask[[2, 5]] = True
    y = torch.zeros(steps + 1, 1, dtype=torch.float64)
    y[2], y[5] = 1.5, -0.4
    exact = posterior(prior, Measurement(y, Identity((steps + 1, 1))[mask], Gaussian(sigma)))

    def likelihood(value: float):
        return lambda x: -0.5 * ((x[:, 0] - value) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))

    first = torch.randn(100_000, 1, generator=rng(), dtype=torch.float64)

    def move(x, g):
        return rho * x + math.sqrt(1 - rho**2) * torch.randn(x.shape, generator=g, dtype=x.dtype)

    found = particle_filter(first, move, {2: likelihood(1.5), 5: likelihood(-0.4)}, steps, 20_000, rng(1))
    assert found.log_evidence == pytest.approx(exact.log_evidence, abs=0.02)
    assert float((found.paths.mean(0) - exact.mean).abs().max()) < 0.03
    assert float((found.paths[..., 0].T.cov() - exact.covariance).abs().max()) < 0.03
    assert 1000 < found.roots <= 20_000 and 0 < found.ess < 100_000


def test_no_particle_explains_the_data() -> None:
    with pytest.raises(InputError, match="no particle"):
        particle_filter(torch.zeros(10, 1), lambda x, g: x, {1: lambda x: torch.full((10,), -math.inf)}, 2, 5, rng())


def test_systems_are_what_they_are_called() -> None:
    start = torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64)
    coarse, fine = (trajectory(lorenz63(0.05, n), start, 4)[-1] for n in (4, 8))
    finest = trajectory(lorenz63(0.05, 64), start, 4)[-1]
    order = math.log2(float((coarse - finest).norm() / (fine - finest).norm()))
    assert 3.6 < order < 4.6  # of Runge and Kutta
    rest = torch.tensor([[math.sqrt(72), math.sqrt(72), 27.0]], dtype=torch.float64)
    assert torch.allclose(lorenz63()(rest), rest, atol=1e-9)  # a fixed point of the system
    flat = torch.full((1, 8), 8.0, dtype=torch.float64)
    assert torch.allclose(lorenz96()(flat), flat)
    bumped = lorenz96(1e-3)(flat + torch.eye(8, dtype=torch.float64)[:1]) - flat
    # of x_0 = 9 and all others 8: only x_1 and x_7, where it is x_{i-1} and x_{i+1} of a difference, and x_2 move
    expected = torch.tensor([1 - 1e-3, 0, -8e-3, 0, 0, 0, 0, 8e-3], dtype=torch.float64)
    assert torch.allclose(bumped[0], expected, atol=2e-4)


def test_turbulence_keeps_what_it_must() -> None:
    w = _smooth()
    out = trajectory(turbulence(32, 0.02, 0.0, 0.0), w, 10)
    assert torch.isfinite(out).all() and float(out[-1].mean()) == pytest.approx(float(w.mean()), abs=1e-5)
    with pytest.raises(InputError, match="no longer finite"):
        trajectory(turbulence(32, 50.0, substeps=1), 100 * w, 20)


def _smooth() -> torch.Tensor:
    y, x = torch.meshgrid(*[torch.arange(32) * (2 * math.pi / 32)] * 2, indexing="ij")
    return (torch.sin(2 * x) * torch.cos(y) + torch.cos(3 * y))[None]


def test_a_trajectory_needs_a_generator_for_its_noise() -> None:
    with pytest.raises(InputError, match="no rng"):
        trajectory(lorenz96(), torch.ones(1, 8), 2, noise=0.1)
    out = trajectory(lambda x: x, torch.zeros(4000, 1), 3, 0.5, rng(4))
    assert out.shape == (4, 4000, 1) and float(out[3].std()) == pytest.approx(0.5 * math.sqrt(3), rel=0.05)
