"""Structures inferred from data: a diatomic molecule's posterior is known by quadrature."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.bridges.inference import infer, reweight
from invdiff.energies.base import GAS_CONSTANT, FromPotential
from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.molecular import Distance

STIFFNESS, LENGTH, TEMPERATURE, SIGMA, DATUM = 2000.0, 0.3, 300.0, 0.03, 0.36


def spring():
    def potential(x):
        return 0.5 * STIFFNESS * (torch.linalg.vector_norm(x[:, 0] - x[:, 1], dim=-1) - LENGTH) ** 2

    return FromPotential(potential, (2, 3), "kJ/mol")


def measurement():
    return Measurement(torch.tensor([DATUM]), Distance([0, 1], 2), Gaussian(SIGMA))


def exact(data=True):
    """Mean and standard deviation of the distance; its prior has the factor r^2 of three dimensions."""
    r = np.linspace(0.1, 0.7, 20001)
    log_p = 2 * np.log(r) - 0.5 * STIFFNESS * (r - LENGTH) ** 2 / (GAS_CONSTANT * TEMPERATURE)
    log_p -= 0.5 * ((r - DATUM) / SIGMA) ** 2 if data else 0
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = (p * r).sum()
    return mean, math.sqrt((p * (r - mean) ** 2).sum())


def starts(count=32):
    g = torch.Generator().manual_seed(0)
    x = torch.tensor([[0.0, 0, 0], [0, 0, LENGTH]]).repeat(count, 1, 1)
    return x + 0.02 * torch.randn(x.shape, generator=g)


def test_posterior_of_a_bond_against_quadrature():
    energy = spring()
    options: dict[str, Any] = {"draws_per_chain": 60, "warm_up": 60, "thin": 2, "leapfrog": 8, "step": 0.01, "seed": 3}
    found = infer(measurement(), energy, starts(), temperature=TEMPERATURE, masses=torch.tensor([1.0, 2.0]), **options)
    mean, std = exact()
    r = found.dataset["prediction"].values[:, 0]
    error = std / math.sqrt(found.diagnostics["ess"])
    assert abs(r.mean() - mean) < 4 * error and error < 0.1 * abs(mean - exact(False)[0])
    assert r.std() == pytest.approx(std, rel=0.08)
    assert found.draws.dims == ("draw", "atom", "axis") and found.draws.attrs["units"] == "nm"
    notes = found.diagnostics
    assert notes["rhat"] < 1.05 and 0.6 < notes["acceptance"] < 0.98 and not notes["warnings"]
    assert notes["energy_calls"] == energy.calls
    again = infer(
        measurement(), spring(), starts(), temperature=TEMPERATURE, masses=torch.tensor([1.0, 2.0]), **options
    )
    assert np.array_equal(again.draws.values, found.draws.values)  # one seed, the same bits
    d = np.linalg.norm(found.draws.values[:, 0] - found.draws.values[:, 1], axis=-1)
    np.testing.assert_allclose(found.dataset["energy"].values, 0.5 * STIFFNESS * (d - LENGTH) ** 2, atol=2e-3)


def test_chains_that_disagree_are_told():
    wells = FromPotential(lambda x: 40 * ((x**2).sum((1, 2)) - 1) ** 2 + 0 * x.sum((1, 2)), (1, 1))
    apart = torch.tensor([-1.0, 1.0]).repeat(4)[:, None, None]
    op = Distance([0, 1], 2)

    class Place(Distance):
        def _forward(self, x):
            return x[:, 0]

    place = Place([0, 1], 2)
    place.domain_shape = (1, 1)
    data = Measurement(torch.tensor([0.0]), place, Gaussian(5.0))
    options: dict[str, Any] = {"draws_per_chain": 20, "warm_up": 20, "thin": 1, "leapfrog": 5, "step": 0.02}
    found = infer(data, wells, apart, **options)
    assert op.range_shape == (1,) and found.diagnostics["rhat"] > 1.5 and "disagree" in found.diagnostics["warnings"][0]


def test_what_the_data_do_not_tell_can_be_watched():
    # the datum |x| is the same in both wells, so that only the watched x itself shows that chains never cross
    def potential(x):
        return 40 * (x[:, 0, 0] ** 2 - 1) ** 2 + (x[:, 0, 1:] ** 2).sum(1) + (x[:, 1] ** 2).sum(1)

    wells = FromPotential(potential, (2, 3))

    class Side(Distance):
        def _forward(self, x):
            return x[:, :1, 0]

    class Size(Distance):
        def _forward(self, x):
            return x[:, :1, 0] ** 2

    start = torch.zeros(8, 2, 3)
    start[:, 0, 0] = torch.tensor([-1.0, 1.0]).repeat(4)
    data = Measurement(torch.tensor([1.0]), Size([0, 1], 2), Gaussian(0.5))
    options: dict[str, Any] = {"draws_per_chain": 60, "warm_up": 40, "thin": 2, "leapfrog": 8, "step": 0.05}
    blind = infer(data, wells, start, **options).diagnostics["rhat"]
    seen = infer(data, wells, start, watch=Side([0, 1], 2), **options).diagnostics["rhat"]
    assert blind < 1.3 and seen > 2


def test_reweighting_draws_of_the_energy():
    g = torch.Generator().manual_seed(1)
    r = np.linspace(0.1, 0.7, 4001)
    log_p = 2 * np.log(r) - 0.5 * STIFFNESS * (r - LENGTH) ** 2 / (GAS_CONSTANT * TEMPERATURE)
    chosen = torch.multinomial(torch.as_tensor(np.exp(log_p - log_p.max())), 20000, replacement=True, generator=g)
    x = torch.zeros(20000, 2, 3)
    x[:, 1, 0] = torch.as_tensor(r)[chosen]
    found = reweight(measurement(), spring(), x)
    mean, std = exact()
    weights = found.weights.values
    average = float((weights * x[:, 1, 0].numpy()).sum())
    assert abs(average - mean) < 5 * std / math.sqrt(found.diagnostics["ess"])
    assert not found.diagnostics["warnings"]
    # the weights of a biased run multiply in: undoing the likelihood gives the prior's mean back
    undone = reweight(measurement(), spring(), x, log_weight=-torch.as_tensor(found.dataset["log_weight"].values))
    assert float((undone.weights.values * x[:, 1, 0].numpy()).sum()) == pytest.approx(
        float(x[:, 1, 0].mean()), abs=1e-6
    )
    far = Measurement(torch.tensor([0.69]), Distance([0, 1], 2), Gaussian(0.001))
    assert "effective sample size" in reweight(far, spring(), x).diagnostics["warnings"][0]


def test_inference_refuses_what_does_not_fit():
    with pytest.raises(ShapeError, match="chains"):
        infer(measurement(), spring(), torch.zeros(4, 3, 3), temperature=TEMPERATURE)
    with pytest.raises(InputError, match="2 chains"):
        infer(measurement(), spring(), starts(1), temperature=TEMPERATURE)
    with pytest.raises(InputError, match="finite"):
        infer(measurement(), spring(), starts() * math.nan, temperature=TEMPERATURE)
