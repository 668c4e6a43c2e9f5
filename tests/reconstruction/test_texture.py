"""The texture that data ask for: none where the prior holds their truth, some where it is too narrow for it."""

import pytest
import torch

from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.mri.sense import MRI
from invdiff.priors.base import CallablePrior, Units
from invdiff.priors.textured import Textured
from invdiff.random import generator
from invdiff.reconstruction import HeldOut, Settings, reconstruct
from invdiff.reconstruction.texture import broadened
from invdiff.samplers.named import sampler

NOISE, SPREAD = 0.05, 0.3


def prior_of(mean: torch.Tensor, spread: float) -> CallablePrior:
    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        gain = spread**2 / (spread**2 + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2)
        return mean + gain * (x - mean)

    prior = CallablePrior(denoise, domain="complex", sigma_min=1e-3, sigma_max=20.0)
    prior.units, prior.is_network = Units(0.99, 0.8), True
    return prior


@pytest.fixture
def acquired() -> tuple[Measurement, torch.Tensor]:
    """Two slices about one mean, the second brighter and further from it; maps of unit norm and the noise small."""
    rng = generator(5)
    maps = torch.randn(4, 24, 24, generator=rng, dtype=torch.complex64)
    maps = maps / maps.abs().square().sum(0).sqrt()
    mask = torch.rand(24, 24, generator=rng) < 0.6
    mean = 0.5 * torch.randn(1, 24, 24, generator=rng, dtype=torch.complex64)
    x = mean + SPREAD / 2**0.5 * torch.randn(2, 1, 24, 24, generator=rng, dtype=torch.complex64)
    x[0] = 0.9 * mean  # nothing in it that a narrow prior lacks
    operator = MRI(maps, mask)
    y = Gaussian(NOISE).sample(operator.forward(x), rng) * mask
    return Measurement(y, operator, Gaussian(NOISE), batched=True), mean


@pytest.mark.parametrize(("spread", "expected"), [(1.0, 0.0), (0.07, 1.0), (0.05, 2.0)])
def test_texture_is_what_the_fit_asks_for(acquired, spread: float, expected: float) -> None:
    measurement, mean = acquired
    said: list[str] = []
    prior, texture = broadened(measurement, prior_of(mean, spread), sampler("dds", 12), Settings(report=said.append))
    assert texture == expected and f"{expected:g} noise levels" in said[0]
    assert isinstance(prior, Textured) and (prior.tau > 0) == (expected > 0)


def test_held_out_data_are_predicted_by_the_posterior_mean(acquired) -> None:
    measurement, mean = acquired
    made = Settings(
        method="dds", prior=prior_of(mean, 0.05), draws=2, nfe=12, texture=2.0, holdout=0.2, alone=True, progress=False
    )
    done = reconstruct(measurement, made)
    held = HeldOut(measurement, 0.2)
    assert "expectation" in done.posterior.dataset
    assert done.figures["holdout_nrmse"]["posterior_mean"] == pytest.approx(held.nrmse(done.mean()))
    assert done.figures["holdout_nrmse"]["posterior_mean"] < 0.98 * held.nrmse(done.draws().mean(0))


def test_what_is_asked_for_is_not_tried(acquired) -> None:
    measurement, mean = acquired
    said: list[str] = []
    made = Settings(texture=0.7, report=said.append)
    prior, texture = broadened(measurement, prior_of(mean, 1.0), sampler("dds", 12), made)
    assert texture == 0.7 and isinstance(prior, Textured) and said == []
    plain = CallablePrior(lambda x, sigma: x, domain="complex")  # knows what it is for
    for asked in (None, 2.0):
        found = broadened(measurement, plain, sampler("dds", 12), Settings(texture=asked, report=said.append))
        assert found == (plain, 0.0) and said == []
