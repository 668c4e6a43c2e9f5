"""Schedules, the base bridge and the simulation of the controlled SDE, against closed forms."""

import pytest
import torch
from torch import Tensor

from invdiff.bridges.sde import Constant, Edm, Geometric, Schedule, bridge, centred, simulate
from invdiff.bridges.source import GaussianSource
from invdiff.errors import InputError

SCHEDULES: dict[str, tuple[Schedule, object]] = {
    "constant": (Constant(0.7), lambda t: 0.7 + 0 * t),
    "geometric": (
        Geometric(0.01, 2.0),
        lambda t: 0.01 * 200 ** (1 - t) * (2 * torch.log(torch.tensor(200.0, dtype=torch.float64))) ** 0.5,
    ),
    "edm": (Edm(0.01, 3.0, 3.0), lambda t: ((1 - t) * 3 ** (1 / 3) + t * 0.01 ** (1 / 3)) ** 3),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_kappa_is_the_integral_of_sigma_squared(name: str) -> None:
    schedule, sigma = SCHEDULES[name]
    t = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    assert callable(sigma)
    whole = sigma(t).square().cumsum(0) / 20000
    # Midpoint rule of a smooth function: 1e-6 of the total is a hundredfold margin.
    assert torch.allclose(schedule.kappa(t + 0.5 / 20000), whole, atol=1e-6 * schedule.total)
    assert schedule.total == pytest.approx(float(whole[-1]), rel=1e-6)


def test_edm_total_is_the_published_value() -> None:
    assert Edm(0.001, 6.0, 3.0).total == pytest.approx(5.4, abs=0.05)  # not 36


@pytest.mark.parametrize("wrong", [lambda: Constant(0.0), lambda: Edm(2.0, 1.0), lambda: Geometric(-1.0, 1.0)])
def test_impossible_schedules(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(InputError, match="expects|must be"):
        wrong()


def test_bridge_has_its_moments() -> None:
    schedule, n = Geometric(0.05, 1.5), 40000
    rng = torch.Generator().manual_seed(0)
    x0, x1 = torch.full((n, 1), -1.0, dtype=torch.float64), torch.full((n, 1), 2.0, dtype=torch.float64)
    for time in (0.1, 0.4, 0.8):
        t = torch.full((n,), time, dtype=torch.float64)
        g = float(schedule.kappa(t[:1])) / schedule.total
        x = bridge(x0, x1, t, schedule, rng)
        spread = (schedule.total * g * (1 - g)) ** 0.5
        assert float(x.mean()) == pytest.approx(-1 + 3 * g, abs=5 * spread / n**0.5)
        assert float(x.std()) == pytest.approx(spread, rel=5 / (2 * n) ** 0.5)


def test_simulation_without_control_is_brownian() -> None:
    schedule, n = Edm(0.01, 2.0), 40000
    rng = torch.Generator().manual_seed(0)
    x = simulate(lambda t, x: torch.zeros_like(x), torch.zeros(n, 1), schedule, 5, rng)
    assert float(x.var()) == pytest.approx(schedule.total, rel=5 * (2 / n) ** 0.5)


def test_simulation_of_a_known_control() -> None:
    # From a point, v = grad log E[exp(-(U - log base))] takes it to N(m, s^2): linear in x, in closed form.
    schedule, m, s2, n = Constant(1.0), 1.5, 0.3, 40000

    def control(t: Tensor, x: Tensor) -> Tensor:
        left = (1 - t)[:, None]  # h(t, x) = integral of N(y; x, left) N(y; m, s2) / N(y; 0, 1)
        precision = 1 / left + 1 / s2 - 1
        return ((x / left + m / s2) / precision - x) / left

    rng = torch.Generator().manual_seed(0)
    x = simulate(control, torch.zeros(n, 1), schedule, 200, rng)
    # Euler's error of first order, 1/200, besides five standard errors.
    assert float(x.mean()) == pytest.approx(m, abs=0.01 + 5 * (s2 / n) ** 0.5)
    assert float(x.var()) == pytest.approx(s2, rel=0.02 + 5 * (2 / n) ** 0.5)


def test_mean_free_stays_mean_free() -> None:
    rng = torch.Generator().manual_seed(0)
    x0 = GaussianSource((4, 3), 1.0, mean_free=True).draw(5, rng)
    x = simulate(lambda t, x: x, x0, Constant(1.0), 4, rng, centred)
    assert float(x0.mean(1).abs().max()) < 1e-6 and float(x.mean(1).abs().max()) < 1e-5
    assert GaussianSource((2,), 0.0).draw(3, rng).abs().max() == 0
