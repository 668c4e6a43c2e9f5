"""noise_of_draws: a wrong level finds its way to the true one, and a level of another kind is refused."""

from pathlib import Path

import pytest
import torch

from invdiff.empirical_noise import noise_of_draws
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.gaussian import GaussianPrior
from invdiff.random import generator

TRUE = 0.2


def measured(sigma: float) -> tuple[GaussianPrior, Measurement]:
    """400 data of 20 unknowns with noise of 0.2, and the prior that x was drawn from; `sigma` is what is believed."""
    rng = generator(5)
    prior = GaussianPrior(torch.zeros(20), torch.eye(20))
    operator = Matrix(torch.randn(400, 20, generator=rng) / 20)
    x = prior.sample(1, rng)
    y = Gaussian(TRUE).sample(operator.forward(x), rng)[0]
    return prior, Measurement(y, operator, Gaussian(sigma), meta={"sigma": sigma})


@pytest.mark.parametrize("believed", [0.1, 0.2, 0.4])
def test_a_wrong_level_becomes_the_true_one(believed: float) -> None:
    prior, measurement = measured(believed)
    refined = noise_of_draws(measurement, prior, progress=False)
    # 400 data tell a standard deviation to 1/sqrt(800) = 3.5 %, two draws' share of it adds little: three errors.
    assert refined.meta["sigma"] == pytest.approx(TRUE, rel=0.11)
    assert refined.noise.sigma == refined.meta["sigma"]  # type: ignore[attr-defined]
    assert refined.meta["sigma_first"] == believed
    assert measurement.meta["sigma"] == believed  # what was given stays as it was


def test_rounds_are_kept_and_found_again(tmp_path: Path) -> None:
    prior, measurement = measured(0.1)
    first = noise_of_draws(measurement, prior, progress=False, checkpoint=tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"noise-1", "noise-2"}
    again = noise_of_draws(measurement, prior, progress=False, checkpoint=tmp_path / "run", resume=True)
    assert again.meta == first.meta


def test_levels_that_differ_between_data_are_refused() -> None:
    prior, measurement = measured(0.1)
    uneven = Measurement(measurement.y, measurement.operator, Gaussian(torch.linspace(0.1, 0.2, 400)))
    with pytest.raises(InputError, match="one level"):
        noise_of_draws(uneven, prior, progress=False)
