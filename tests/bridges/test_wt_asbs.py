"""One call from an energy to weighted draws."""

import math
from typing import Any

import torch

from invdiff.bridges.asbs import Stage, Training
from invdiff.bridges.bias import Axis, Bias
from invdiff.bridges.target import Target
from invdiff.bridges.wt_asbs import wt_asbs
from invdiff.energies.analytic import Coordinates, DoubleWell, LennardJones
from invdiff.metrics.free_energy import quadrature

SMALL = Training((Stage(6, 2), Stage(3, deposit=False)), fresh=64, first=128, buffer=256, batch=64, updates=4, steps=15)


def test_weighted_draws_of_a_double_well() -> None:
    energy, s = DoubleWell(barrier=1.0, tilt=0.3), Coordinates((0,))
    target = Target(energy, variable=s, precision=torch.float32)
    bias = Bias([Axis(-4.0, 4.0, 81, 0.3)], 4.0, 1.0)
    found = wt_asbs(target, bias, training=SMALL, draws=200, burn=400, steps=200, every=20, step=0.6)
    assert found.draws.shape == (2000, 2) and found.diagnostics["energies"] == energy.calls
    right = float((found.weights * (found.draws[:, 0] > 0)).sum())
    exact = quadrature(energy.potential, energy.limits, [(None, 0.0)], [(0.0, None)], variable=s)
    # 200 chains with some correlation: a standard error near 0.1.
    assert abs(-math.log(right / (1 - right)) - exact) < 0.4
    values, _ = bias(torch.tensor(found.dataset["cv"].values))
    assert torch.allclose(values, torch.tensor(found.dataset["log_weight"].values), atol=1e-5)


def test_plain_sampler_of_particles_from_a_point() -> None:
    target = Target(LennardJones(3), mean_free=True, precision=torch.float32)
    options: dict[str, Any] = {"draws": 8, "burn": 5, "steps": 10, "every": 5, "step": 0.02}
    found = wt_asbs(target, source=0.0, training=Training((Stage(2),), 0, 8, 16, 32, 8, 1, 10), **options)
    assert found.draws.dims == ("draw", "atom", "xyz") and found.draws.shape == (16, 3, 3)
    assert float(abs(found.dataset["log_weight"]).max()) == 0 and found.dataset.attrs["sampler"] == "asbs"
    again = wt_asbs(target, source=0.0, training=Training((Stage(2),), 0, 8, 16, 32, 8, 1, 10), **options)
    assert bool((again.draws == found.draws).all())
