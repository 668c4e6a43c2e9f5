"""The unit of a prior, estimated or known; and what a network's prior takes from the noise of a measurement."""

import numpy as np
import pytest
import torch

import invdiff
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity, Matrix
from invdiff.operators.mri.nufft import NonCartesianMRI
from invdiff.operators.mri.sense import MRI
from invdiff.operators.transforms import Fourier
from invdiff.posterior import Posterior
from invdiff.priors.base import CallablePrior, Hounsfield, Units
from invdiff.priors.textured import Textured
from invdiff.simulation.file_unit import file_unit, in_file_unit
from invdiff.units import held_beside, rescale, with_texture


def measured(sigma: float | torch.Tensor) -> Measurement:
    return Measurement(5 * torch.rand(1, 16, 16), Identity((1, 16, 16)), Gaussian(sigma))


def test_answers_in_the_unit_of_a_file() -> None:
    draws = torch.rand(4, 1, 2, 3)
    inner = Posterior.from_draws(draws, expectation=draws.mean(0), diagnostics={"hallucination": [2.0], "chi2": 1.0})
    inner.dataset["trajectory_variance"] = inner.draws[0] * 0 + 3.0
    found = in_file_unit(inner, file_unit(-2.0, 7.0, "HU"))
    np.testing.assert_allclose(found.draws.values, 7 - 2 * draws.numpy(), rtol=1e-6)
    np.testing.assert_allclose(found.mean().values, 7 - 2 * inner.mean().values, rtol=1e-6)
    np.testing.assert_allclose(found.std().values, 2 * inner.std().values, rtol=1e-5)
    np.testing.assert_allclose(found.dataset["trajectory_variance"].values, 12.0)
    assert found.draws.attrs["units"] == "HU" and found.diagnostics == {"hallucination": [8.0], "chi2": 1.0}
    assert in_file_unit(inner, {}) is inner


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


def test_hounsfield_units_are_known_not_estimated() -> None:
    prior = CallablePrior(lambda x, sigma: x)
    prior.units = Hounsfield(0.4)
    given = measured(0.3)
    with pytest.raises(InputError, match="attenuation of water"):
        rescale(given, prior)
    named = Measurement(given.y, given.operator, given.noise, meta={"mu_water_per_mm": 0.02})
    scaled, factor = rescale(named, prior)
    assert factor == pytest.approx(20)  # water, 0.02 in 1/mm, becomes 0.4
    assert torch.allclose(scaled.y, 20 * given.y)
    assert scaled.noise.sigma == pytest.approx(6.0)  # type: ignore[attr-defined]


def test_data_and_draws_are_counted_beside_an_image_in_the_making() -> None:
    maps = torch.ones(2, 3, 4, 5, dtype=torch.complex64)
    op = MRI(maps[:, None], torch.ones(4, 5, dtype=torch.bool))
    y = torch.zeros(2, 3, 4, 5, dtype=torch.complex64)
    counted = held_beside(Measurement(y, op, Gaussian(1.0), batched=True), 7)
    assert counted == 16 * 2 * 3 * 20 * 8 + 12 * 7 * 2 * 20 * 8
    real = held_beside(Measurement(torch.zeros(3), Matrix(torch.ones(3, 6)), Gaussian(1.0)), 7)
    assert real == 3 * 4 + 12 * 7 * 6 * 4
    bare = Measurement(torch.zeros(1, 4, 5, dtype=torch.complex64), Fourier((1, 4, 5)), Gaussian(1.0))
    assert held_beside(bare, 1) == 16 * 20 * 8 + 12 * 20 * 8  # an operator that holds nothing
    few = NonCartesianMRI(torch.ones(3, 8, 8, dtype=torch.complex64), torch.rand(5, 2) - 0.5)
    assert held_beside(Measurement(torch.zeros(3, 5) + 0j, few, Gaussian(1.0)), 0) == 16 * 3 * 64 * 8  # coil maps
