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
from invdiff.sampling import sample
from invdiff.trust.expectation import expectation

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

    def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return mean.to(z) + SPREAD**2 / (SPREAD**2 + sigma.reshape(-1, 1, 1, 1) ** 2) * (z - mean.to(z))

    smooth = CallablePrior(denoise, domain="complex", sigma_min=1e-3, sigma_max=20.0)
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
    return measurement, Textured(smooth, TAU), exact, root


def test_of_the_exact_mean_it_is_the_exact_mean(case) -> None:
    measurement, prior, exact, _ = case
    found = expectation(measurement, prior, exact[None])
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)
    assert expectation(measurement, prior.smooth, exact[None]) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_few_draws_are_nearer_than_their_mean(case, weighted: bool) -> None:
    measurement, prior, exact, root = case
    rng = generator(3)
    scatter = 2**0.5 * torch.randn(8, 2, SIZE * SIZE, generator=rng, dtype=torch.complex128) @ root.T
    x = exact + scatter.reshape(8, *exact.shape)
    log_weight = torch.randn(8, 2, dtype=torch.float64, generator=rng) if weighted else None
    share = torch.full((8, 2), 1 / 8, dtype=torch.float64) if log_weight is None else log_weight.softmax(0)
    of_draws = (x * share[..., None, None, None]).sum(0)
    found = expectation(measurement, prior, x, log_weight)
    # Of the scatter SPREAD^2/(SPREAD^2 + TAU^2) = 0.8 of the size stays in u, less in what the data see.
    assert float((found - exact).norm()) < 0.85 * float((of_draws - exact).norm())


def test_weights_are_those_of_each_problem(case) -> None:
    measurement, prior, exact, _ = case
    x = torch.stack([exact, 2 * exact])
    only = torch.tensor([[0.0, -1e9], [-1e9, 0.0]], dtype=torch.float64)
    found = expectation(measurement, prior, x, only)
    alone = [expectation(measurement, prior, draw[None]) for draw in x]
    assert alone[0] is not None and alone[1] is not None
    torch.testing.assert_close(found, torch.stack([alone[0][0], alone[1][1]]), rtol=1e-5, atol=1e-5)


def test_it_has_the_unit_of_the_data_and_ends_where_the_coils_do(case) -> None:
    measurement, prior, _, _ = case
    maps = measurement.operator.coil_maps.clone()
    maps[..., :2, :] = 0
    operator = MRI(maps[0], measurement.operator.mask.reshape(SIZE, SIZE))
    prior.smooth.units = Units(0.99, 0.8)
    means = []
    for scale in (1.0, 10.0):
        told = Measurement(scale * measurement.y, operator, Gaussian(scale * NOISE), batched=True).to(torch.float32)
        posterior = sample(told, Textured(prior.smooth, TAU), "mmps", 2, nfe=8, seed=0, progress=False)
        means.append(posterior.mean().values)
    np.testing.assert_allclose(means[1], 10 * means[0], rtol=1e-3, atol=1e-3)
    assert (means[0][..., :2, :] == 0).all() and (means[0][..., 2:, :] != 0).all()


def test_a_posterior_has_it_and_its_file(case, tmp_path) -> None:
    measurement, prior, exact, _ = case
    single = measurement.to(torch.float32)
    posterior = sample(single, prior, "mmps", 6, nfe=40, seed=0, progress=False)
    of_draws = posterior.draws.mean("draw").values
    error = {name: np.linalg.norm(x - exact.numpy()) for name, x in (("ours", posterior.mean()), ("draws", of_draws))}
    assert error["ours"] < 0.85 * error["draws"]
    again = Posterior.load(posterior.save(tmp_path / "a.nc"))
    np.testing.assert_array_equal(again.mean().values, posterior.mean().values)
    np.testing.assert_allclose(posterior.std(), posterior.draws.std("draw", ddof=1), rtol=1e-4)
