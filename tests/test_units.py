"""with_texture: what a network's prior takes from the noise of a measurement, and what leaves a prior as it is."""

import torch

import invdiff
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.priors.base import CallablePrior, Units
from invdiff.priors.textured import Textured
from invdiff.units import rescale, with_texture


def measured(sigma: float | torch.Tensor) -> Measurement:
    return Measurement(5 * torch.rand(1, 16, 16), Identity((1, 16, 16)), Gaussian(sigma))


def test_texture_is_a_multiple_of_the_noise_in_the_priors_unit() -> None:
    prior, measurement = invdiff.load_prior("generic"), measured(0.3)
    textured = with_texture(prior, measurement, 2.0)
    assert isinstance(textured, Textured)
    scaled, factor = rescale(measurement, prior)
    assert textured.tau == 2 * 0.3 * factor == 2 * scaled.noise.sigma  # type: ignore[attr-defined]


def test_other_priors_and_noise_of_several_levels_are_left_alone() -> None:
    plain = CallablePrior(lambda x, sigma: x)
    assert with_texture(plain, measured(0.3), 2.0) is plain
    plain.units = Units(0.99, 0.8)
    assert with_texture(plain, measured(0.3), 2.0) is plain
    network = invdiff.load_prior("generic")
    assert with_texture(network, measured(torch.rand(1, 16, 16) + 0.1), 2.0) is network
