"""The posterior mean without the grain of its draws: what algebra says, from one draw or from many."""

import numpy as np
import pytest
import torch

from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.mri.sense import MRI
from invdiff.posterior import Posterior
from invdiff.priors.base import CallablePrior, Units
from invdiff.priors.textured import Textured
from invdiff.random import generator
from invdiff.reconstruction.expectation import attach_expectation, expectation
from invdiff.units import rescale

NOISE, SPREAD, TAU, SIZE = 0.1, 0.4, 0.2, 8  # standard deviations per real component, in the unit of x


@pytest.fixture
def case() -> tuple[Measurement, Textured, torch.Tensor, torch.Tensor]:
    """Two problems under ``u ~ N(m, SPREAD^2)`` and texture, their exact posterior means and a root of the spread."""
    rng = generator(2)
    maps = torch.randn(3, SIZE, SIZE, generator=rng, dtype=torch.complex128)
    mask = torch.rand(SIZE, SIZE, generator=rng) < 0.6
    operator = MRI(maps / maps.abs().square().sum(0).sqrt(), mask)
    mean = torch.randn(1, SIZE, SIZE, generator=rng, dtype=torch.complex128)
    wide = np.hypot(SPREAD, TAU)
    x = mean + wide * 2**0.5 * torch.randn(2, 1, SIZE, SIZE, generator=rng, dtype=torch.complex128)
    y = Gaussian(NOISE).sample(operator.forward(x), rng) * mask
    measurement = Measurement(y, operator, Gaussian(NOISE), batched=True)
    smooth = CallablePrior(lambda z, s: z, domain="complex", sigma_min=1e-3, sigma_max=20.0)
    smooth.units = Units(0.99, 0.8)
    factor = rescale(measurement, smooth)[1]

    def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        v = (SPREAD * factor) ** 2
        return mean * factor + v / (v + sigma.reshape(-1, 1, 1, 1) ** 2) * (z - mean * factor)

    smooth.denoise = denoise  # type: ignore[method-assign]
    eye = torch.eye(SIZE * SIZE, dtype=torch.complex128).reshape(-1, 1, SIZE, SIZE)
    dense = operator.forward(eye).flatten(1).T
    gain = (
        wide**2
        * dense.mH
        @ torch.linalg.inv(wide**2 * dense @ dense.mH + NOISE**2 * torch.eye(len(dense), dtype=torch.complex128))
    )
    exact = mean + ((y - operator.forward(mean.expand(2, -1, -1, -1))).flatten(1) @ gain.T).reshape(2, 1, SIZE, SIZE)
    root = torch.linalg.cholesky(
        wide**2 * (torch.eye(SIZE * SIZE, dtype=torch.complex128) - gain @ dense) + 1e-12 * torch.eye(SIZE * SIZE)
    )
    return measurement, Textured(smooth, TAU * factor), exact, root


def test_of_the_exact_mean_it_is_the_exact_mean(case) -> None:
    measurement, prior, exact, _ = case
    found = expectation(measurement, prior, Posterior.from_draws(exact[None], batched=True))
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_few_draws_are_nearer_than_their_mean(case) -> None:
    measurement, prior, exact, root = case
    rng = generator(3)
    scatter = 2**0.5 * torch.randn(8, 2, SIZE * SIZE, generator=rng, dtype=torch.complex128) @ root.T
    posterior = Posterior.from_draws(exact + scatter.reshape(8, *exact.shape), batched=True)
    of_draws = torch.from_numpy(posterior.mean().values)
    std = posterior.std()
    attach_expectation(measurement, prior, posterior)
    found = torch.from_numpy(posterior.mean().values)
    # Of the scatter SPREAD^2/(SPREAD^2 + TAU^2) = 0.8 of the size stays in u, less in what the data see.
    assert float((found - exact).norm()) < 0.85 * float((of_draws - exact).norm())
    np.testing.assert_array_equal(posterior.std(), std)  # of the draws


def test_it_is_kept_in_the_file(case, tmp_path) -> None:
    measurement, prior, exact, _ = case
    posterior = Posterior.from_draws(exact[None].to(torch.complex64), batched=True)
    attach_expectation(measurement, prior, posterior)
    again = Posterior.load(posterior.save(tmp_path / "a.nc"))
    np.testing.assert_array_equal(again.mean().values, posterior.mean().values)
