"""Textured: the prior of u + e, held against the Gaussian for which it is another Gaussian."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.priors.base import CallablePrior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.priors.textured import Textured
from invdiff.random import generator

LEVELS = torch.tensor([0.01, 0.3, 2.0, 30.0])


def test_a_gaussian_with_texture_is_a_wider_gaussian() -> None:
    factor = torch.randn(5, 5, generator=generator(0))
    mean, covariance = torch.arange(5.0), factor @ factor.mT
    textured = Textured(GaussianPrior(mean, covariance), 0.4)
    wider = GaussianPrior(mean, covariance + 0.16 * torch.eye(5))
    x = 3 * torch.randn(4, 5, generator=generator(1))
    torch.testing.assert_close(textured.denoise(x, LEVELS), wider.denoise(x, LEVELS), rtol=2e-4, atol=2e-4)


def test_a_mixture_with_texture_is_a_wider_mixture() -> None:
    means = torch.tensor([[-2.0, 0.0], [2.0, 1.0]])
    narrow, wide = (
        GaussianMixturePrior(torch.tensor([0.3, 0.7]), means, v * torch.eye(2)) for v in (0.25, 0.25 + 0.36)
    )
    x = 2 * torch.randn(4, 2, generator=generator(2))
    textured = Textured(narrow, 0.6)
    torch.testing.assert_close(textured.denoise(x, LEVELS), wide.denoise(x, LEVELS), rtol=2e-4, atol=2e-4)


def test_no_texture_changes_nothing_and_what_a_callable_measures_is_adopted() -> None:
    plain = CallablePrior(lambda x, sigma: x / (1 + sigma**2))
    textured = Textured(plain, 0.0)
    textured.check((3,), "real")
    assert (textured.scale, textured.sigma_max) == (plain.scale, plain.sigma_max)
    x = torch.randn(2, 3, generator=generator(3))
    assert torch.equal(textured.denoise(x, torch.zeros(1)), x)
    assert textured.describe()["prior_texture"] == 0.0


@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf")])
def test_a_texture_that_is_no_size_is_refused(tau: float) -> None:
    with pytest.raises(InputError, match="tau"):
        Textured(CallablePrior(lambda x, sigma: x), tau)
