"""Targets in kT, restraints, the buffer: gradients, failures, the bias of the moment."""

import math

import pytest
import torch
from torch import Tensor

from invdiff.bridges.adjoint import clip
from invdiff.bridges.bias import Axis, Bias
from invdiff.bridges.buffer import Buffer
from invdiff.bridges.restraints import FlatBottom
from invdiff.bridges.target import Target
from invdiff.energies.analytic import Coordinates, DoubleWell, LennardJones
from invdiff.energies.base import FromPotential
from invdiff.errors import InputError


class Turn:
    """The polar angle of a point in the plane."""

    period = (2 * math.pi,)
    units = ("rad",)

    def forward(self, x: Tensor) -> Tensor:
        return torch.atan2(x[:, 1:], x[:, :1])


def points(n: int = 6) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_everything_together_has_the_right_slope() -> None:
    bias = Bias([Axis(-math.pi, math.pi, 100, 0.4, True)], 5.0, 1.0)
    bias.add(torch.tensor([[1.0], [-2.0]]), torch.tensor([3.0, 2.0]))
    wall = FlatBottom(Coordinates((0,)), None, -0.2, 50.0)
    sector = FlatBottom(Turn(), 2.5, 4.5, 20.0)
    target = Target(DoubleWell(), 1.0, Turn(), [wall, sector])
    x = points()
    direction, h = points(12)[6:], 1e-6
    u = [target.evaluate(x + sign * h * direction).biased(bias)[0] for sign in (1, -1)]
    found = target.evaluate(x).biased(bias)[1]
    assert torch.allclose((u[0] - u[1]) / (2 * h), (found * direction).sum(1), rtol=1e-4, atol=1e-4)


def test_kt_and_zero_scale_and_shift() -> None:
    x = points()
    plain = Target(DoubleWell(), 1.0).evaluate(x)
    other = Target(DoubleWell(), 2.5, zero=7.0).evaluate(x)
    assert torch.allclose(other.u, (plain.u - 7) / 2.5) and torch.allclose(other.gradient, plain.gradient / 2.5)


def test_flat_bottom_is_flat_and_goes_the_short_way_round() -> None:
    wall = FlatBottom(Coordinates((0,)), -1.0, 2.0, 10.0)
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [-1.5, 0.0]])
    assert wall.potential(x).tolist() == pytest.approx([0.0, 5.0, 1.25])
    around = FlatBottom(Turn(), 3.0, 3.6, 10.0)  # 3.6 is -2.683
    angle = torch.tensor([3.1, -2.8, 2.9, -2.5])
    found = around.potential(torch.stack([angle.cos(), angle.sin()], 1))
    expected = [0.0, 0.0, 5 * 0.1**2, 5 * (2 * math.pi - 2.5 - 3.6) ** 2]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="periodic"):
        FlatBottom(Turn(), None, 1.0, 1.0)
    with pytest.raises(InputError, match="neither"):
        FlatBottom(Coordinates((0,)), None, None, 1.0)


def test_failures_are_counted_and_kept_out() -> None:
    def sometimes(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, x.square().sum(1), torch.full_like(x[:, 0], math.nan))

    target = Target(FromPotential(sometimes, (2,)), variable=Coordinates((0,)))
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 1.0]])
    found = target.evaluate(x)
    assert target.failed == 1 and target.calls == 3
    buffer = Buffer(10)
    assert buffer.add(x, found) == 2 and len(buffer) == 2
    rng = torch.Generator().manual_seed(0)
    assert set(buffer.draw(50, rng)[1].x[:, 0].tolist()) == {1.0, 2.0}
    with pytest.raises(InputError, match="empty"):
        Buffer(3).draw(1, rng)


def test_buffer_is_first_in_first_out() -> None:
    target, buffer = Target(DoubleWell(), variable=Coordinates((0,))), Buffer(4)
    for k in range(3):
        x = torch.full((2, 2), float(k))
        buffer.add(x, target.evaluate(x))
    assert buffer.content["x"][:, 0].tolist() == [1, 1, 2, 2] == buffer.content["s"][:, 0].tolist()


def test_buffered_samples_feel_the_bias_of_now() -> None:
    bias = Bias([Axis(-3.0, 3.0, 121, 0.4)], 5.0, 1.0)
    target = Target(DoubleWell(), variable=Coordinates((0,)))
    found = target.evaluate(torch.tensor([[0.3, 0.0]]))
    before = found.biased(bias)[1]
    bias.add(torch.tensor([[0.0]]), torch.tensor([2.0]))
    pull = found.biased(bias)[1] - before
    assert float(pull[0, 0]) == pytest.approx(-2 * math.exp(-0.5 * (0.3 / 0.4) ** 2) * 0.3 / 0.4**2, rel=0.02)
    assert float(pull[0, 1]) == 0


def test_clip_is_per_particle_and_keeps_direction() -> None:
    g = torch.tensor([[[30.0, 40.0, 0.0], [0.0, 0.0, 1.0]]])
    assert clip(g, 5.0, particles=True)[0].tolist() == [pytest.approx([3.0, 4.0, 0.0]), [0.0, 0.0, 1.0]]
    assert float(clip(g, 5.0, particles=False).norm()) == pytest.approx(5.0)


def test_mean_free_gradients() -> None:
    target = Target(LennardJones(4), mean_free=True)
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    assert float(target.evaluate(x).gradient.mean(1).abs().max()) < 1e-3
