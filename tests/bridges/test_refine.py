"""Chains: exact laws by MALA, Langevin's, with and without a bias; failures; the same numbers after an interruption."""

import math

import pytest
import torch
from torch import Tensor

from invdiff.bridges.bias import Axis, Bias
from invdiff.bridges.checkpoint import load, restore_walkers, save, walkers_state
from invdiff.bridges.refine import advance, begin, langevin_step, mala_step, walk
from invdiff.bridges.target import Target
from invdiff.energies.analytic import Coordinates, DoubleWell
from invdiff.energies.base import FromPotential
from invdiff.errors import InputError
from invdiff.metrics.free_energy import jackknife, quadrature
from invdiff.metrics.rates import two_state


def harmonic() -> FromPotential:
    return FromPotential(lambda x: 0.5 * (x.square() * torch.tensor([4.0, 0.25])).sum(1), (2,))


def test_mala_has_the_variances_of_a_gaussian_whatever_the_step() -> None:
    rng = torch.Generator().manual_seed(0)
    now = begin(Target(harmonic()), torch.zeros(2000, 2), 0.8, rng)  # acceptance 0.86: the correction is at work
    now = advance(Target(harmonic()), None, now, 60, rng)
    assert 0.5 < now.accepted < 0.95
    variance = now.found.x.var(0)
    assert variance.tolist() == pytest.approx([0.25, 4.0], rel=5 * (2 / 2000) ** 0.5)


def test_bias_and_its_weight_cancel() -> None:
    # A bias that fills the left well: biased chains, weighted by exp(+V), give back the exact difference.
    bias = Bias([Axis(-4.0, 4.0, 161, 0.6)], 5.0, 1.0)
    s = bias.axes[0].grid()
    bias.values = -(5.0 * (s**2 / 4 - 1) ** 2 + 0.75 * s) * 0.9
    energy, rng = DoubleWell(barrier=5.0), torch.Generator().manual_seed(0)
    target = Target(energy, variable=Coordinates((0,)), precision=torch.float32)
    x = torch.tensor([-2.0, 1.0]).repeat(400, 1)
    now = advance(target, bias, begin(target, x, 0.7, rng), 150, rng, adapt=True)
    records = [r for _, r in walk(target, bias, now, 400, rng, every=2)]
    a, b = [(None, 0.0)], [(0.0, None)]
    found, error = jackknife(torch.stack([r.s for r in records], 1), torch.stack([r.v for r in records], 1), a, b)
    exact = quadrature(energy.potential, energy.limits, a, b, variable=Coordinates((0,)).forward)
    assert 0.01 < error < 0.12
    assert found == pytest.approx(exact, abs=4 * error)


@pytest.mark.parametrize("tilt", [0.0, 2.0])
def test_a_wrong_ratio_of_the_wells_is_forgotten(tilt: float) -> None:
    # 90 % of the chains begin in the well that holds 5 %, and the bias may be 2 kT off between the wells as well.
    # Frames counted still remember it by many standard errors; rates of exchange give the truth.
    energy, rng = DoubleWell(), torch.Generator().manual_seed(0)
    bias = Bias([Axis(-4.0, 4.0, 161, 0.6)], 6.0, 1.0)
    s = bias.axes[0].grid()
    bias.values = -0.85 * (10.0 * (s**2 / 4 - 1) ** 2 + 0.75 * s).clamp(max=14) + tilt * torch.sigmoid(4 * s)
    target = Target(energy, variable=Coordinates((0,)), precision=torch.float32)
    right = torch.rand(256, generator=rng) < 0.9
    x = torch.stack([torch.where(right, 2.0, -2.0), torch.ones(256)], 1)
    now = advance(target, bias, begin(target, x, 0.5, rng), 100, rng)
    records = [r for _, r in walk(target, bias, now, 400, rng, every=5)]
    s, v = torch.stack([r.s for r in records], 1), torch.stack([r.v for r in records], 1)
    a, b = [(None, 0.0)], [(0.0, None)]
    exact = quadrature(energy.potential, energy.limits, a, b, variable=Coordinates((0,)).forward)
    value, error = two_state(s, v, a, b)
    assert 0.03 < error < 0.25
    assert value == pytest.approx(exact, abs=3 * error)
    if tilt:
        counted, counted_error = jackknife(s, v, a, b)
        assert abs(counted - exact) > 3 * counted_error


def test_langevin_has_the_right_temperature() -> None:
    # Springs of 400 and 900 kJ/(mol nm^2) at kT 2.5: variances kT/k; BAOAB's error is below 1 % at this step.
    stiff = torch.tensor([[400.0], [900.0]])
    energy = FromPotential(lambda x: 0.5 * (stiff * x.square()).sum((1, 2)), (2, 3), "kJ/mol")
    target, rng = Target(energy, 2.5, precision=torch.float32), torch.Generator().manual_seed(0)
    masses = torch.tensor([12.0, 1.0])
    now = begin(target, torch.zeros(500, 2, 3), 0.01, rng, masses)
    total, count = torch.zeros(2), 0
    for k, (last, record) in enumerate(walk(target, None, now, 400, rng, masses=masses, friction=5.0)):  # noqa: B007
        if k >= 100:
            total, count = total + record.x.square().mean((0, 2)), count + 1
    assert (total / count).tolist() == pytest.approx([2.5 / 400, 2.5 / 900], rel=0.05)
    kinetic = (masses[:, None] * last.velocity.square()).mean((0, 2))
    assert kinetic.tolist() == pytest.approx([2.5, 2.5], rel=5 * (2 / 1500) ** 0.5)


def test_failed_energies_move_no_chain_away_and_rescue_those_that_begin_with_one() -> None:
    def sometimes(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] < 0.5, x.square().sum(1) / 2, torch.full_like(x[:, 0], math.nan))

    target, rng = Target(FromPotential(sometimes, (1,))), torch.Generator().manual_seed(0)
    now = begin(target, torch.tensor([[0.0], [0.6]]).repeat(50, 1), 0.7, rng)
    for _ in range(40):
        now = mala_step(target, None, now, rng)
    assert torch.isfinite(now.found.u).all() and bool((now.found.x < 0.5).all())
    masses = torch.ones(1)
    energy = FromPotential(lambda x: sometimes(x[:, 0]), (1, 3))
    start = begin(Target(energy), torch.zeros(20, 1, 3), 0.2, rng, masses)
    for _ in range(40):
        start = langevin_step(Target(energy), None, start, rng, masses)
    assert torch.isfinite(start.found.u).all() and torch.isfinite(start.velocity).all()


def test_kept_chains_go_on_to_the_bit(tmp_path) -> None:
    target = Target(DoubleWell(), variable=Coordinates((0,)))

    rng = torch.Generator().manual_seed(3)
    half = advance(target, None, begin(target, torch.zeros(4, 2), 0.3, rng), 5, rng)
    save(tmp_path / "w.safetensors", walkers_state(half) | {"rng": rng.get_state()}, {"done": 5})
    whole = advance(target, None, half, 5, rng)
    tensors, counters = load(tmp_path / "w.safetensors")
    again = torch.Generator()
    again.set_state(tensors["rng"])
    assert counters == {"done": 5}
    assert torch.equal(advance(target, None, restore_walkers(tensors), 5, again).found.x, whole.found.x)


def test_step_must_be_positive() -> None:
    with pytest.raises(InputError, match="step"):
        begin(Target(harmonic()), torch.zeros(1, 2), 0.0, torch.Generator())
