"""The posterior energy: value, gradient and what is refused."""

import math

import pytest
import torch

from invdiff.energies.base import GAS_CONSTANT, Energy, FromPotential
from invdiff.energies.posterior import PosteriorEnergy
from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.molecular import Distance, Karplus

DOUBLE = torch.float64


def spring(k=2000.0, r0=0.3):
    def potential(x):
        return 0.5 * k * (torch.linalg.vector_norm(x[:, 0] - x[:, 1], dim=-1) - r0) ** 2

    return FromPotential(potential, (4, 3), "kJ/mol")


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def test_posterior_energy_is_the_formula_and_its_gradient():
    measurement = Measurement(torch.tensor([7.0, 5.0]), Karplus([[0, 1, 2, 3], [3, 0, 2, 1]], 4), Gaussian(0.8))
    prior = spring()
    energy = PosteriorEnergy(prior, measurement, 300.0)
    assert isinstance(energy, Energy) and energy.units == "kJ/mol" and energy.domain_shape == (4, 3)
    x = 0.3 * randn(3, 4, 3)
    u, force = energy(x)
    assert energy.calls == prior.calls == 3
    energy.calls = 5  # as a run that is resumed does
    assert prior.calls == 5
    j = measurement.operator.forward(x)
    log_p = (-0.5 * ((torch.tensor([7.0, 5.0]) - j) / 0.8) ** 2 - math.log(math.sqrt(2 * math.pi) * 0.8)).sum(1)
    torch.testing.assert_close(u, prior(x)[0] - GAS_CONSTANT * 300 * log_p)
    d, step = randn(3, 4, 3, seed=1), 1e-6
    numeric = (energy(x + step * d)[0] - energy(x - step * d)[0]) / (2 * step)
    torch.testing.assert_close(numeric, -(force * d).sum((1, 2)), rtol=1e-6, atol=1e-6)
    single = energy(x.float())
    assert single[0].dtype == torch.float32
    torch.testing.assert_close(single[0].double(), u, rtol=1e-4, atol=1e-3)


def test_posterior_energy_refuses_what_does_not_fit():
    data = torch.tensor([0.3])
    with pytest.raises(ShapeError, match="4, 3"):
        PosteriorEnergy(spring(), Measurement(data, Distance([0, 1], 5), Gaussian(0.1)), 300.0)
    with pytest.raises(InputError, match="problems"):
        batch = Measurement(data[None].repeat(2, 1), Distance([0, 1], 4), Gaussian(0.1), batched=True)
        PosteriorEnergy(spring(), batch, 300.0)
    with pytest.raises(InputError, match="temperature"):
        PosteriorEnergy(spring(), Measurement(data, Distance([0, 1], 4), Gaussian(0.1)))
