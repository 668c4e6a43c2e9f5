"""The bias: kernels and their sum, smooth reading, growth that does not depend on the batch, well-tempered limit."""

import math

import pytest
import torch

from invdiff.bridges.bias import Axis, Bias
from invdiff.errors import InputError, ShapeError

PI = math.pi


def turn(points: int = 120, width: float = 0.3) -> Axis:
    return Axis(-PI, PI, points, width, periodic=True)


def line(points: int = 101, width: float = 0.3) -> Axis:
    return Axis(-2.0, 3.0, points, width)


@pytest.mark.parametrize("axes", [[line()], [turn()], [turn(), line()], [turn(24), line(21, 0.6), turn(30, 0.6)]])
def test_one_hill_is_a_gaussian_everywhere(axes: list[Axis]) -> None:
    bias = Bias(axes, 8.0, 1.0)
    rng = torch.Generator().manual_seed(0)
    centre = torch.tensor([[3.0, 0.4, -3.0][: len(axes)]], dtype=torch.float64)
    bias.add(centre, torch.tensor([2.0]))
    low, high = (torch.tensor([getattr(a, end) for a in axes], dtype=torch.float64) for end in ("low", "high"))
    s = low + (high - low) * torch.rand(200, len(axes), generator=rng, dtype=torch.float64)
    d = torch.stack([a.difference(s[:, i], centre[:, i]) / a.width for i, a in enumerate(axes)], 1)
    value = 2 * torch.exp(-0.5 * d.square().sum(1))
    slope = -value[:, None] * d / torch.tensor([a.width for a in axes])
    v, g = bias(s)
    coarse = len(axes) == 3  # spacing of a half to a third of the width
    assert torch.allclose(v, value, atol=0.05 if coarse else 2e-3)
    assert torch.allclose(g, slope, atol=0.6 if coarse else 0.06)


def test_gradient_is_that_of_the_interpolated_value() -> None:
    bias = Bias([turn(), line()], 8.0, 1.0)
    bias.values = torch.randn(bias.values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s = torch.tensor([[3.1, 0.21], [-3.1, 2.96], [0.3, -1.98], [0.02, 1.01]], dtype=torch.float64)
    h = 1e-6
    for i in range(2):
        step = torch.zeros_like(s)
        step[:, i] = h
        slope = (bias(s + step)[0] - bias(s - step)[0]) / (2 * h)
        assert torch.allclose(slope, bias(s)[1][:, i], atol=1e-6)


def test_force_is_continuous_between_cells_round_the_turn_and_at_the_ends() -> None:
    bias = Bias([turn(20, 0.5), line(20, 0.5)], 8.0, 1.0)
    bias.values = torch.randn(bias.values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grid = bias.axes[0].grid()[3]
    places = [([grid, 0.3], 0), ([PI, 0.3], 0), ([0.1, -2.0], 1), ([0.1, 3.0], 1)]
    for place, axis in places:
        s = torch.tensor([place, place], dtype=torch.float64)
        s[0, axis] -= 1e-9
        s[1, axis] += 1e-9
        v, g = bias(s)
        assert float((v[0] - v[1]).abs()) < 1e-7 and float((g[0] - g[1]).abs().max()) < 1e-6
    v, g = bias(torch.tensor([[0.1, 5.0], [0.1, 3.0]], dtype=torch.float64))
    assert float(v[0] - v[1]) == 0 and float(g[0, 1]) == 0  # constant beyond the end
    assert bias.outside(torch.tensor([[9.0, 0.0], [0.0, 3.1]])).tolist() == [False, True]


def test_deposit_is_normalised_by_the_batch_and_tempered() -> None:
    s = torch.tensor([[0.5]], dtype=torch.float64)
    one, many = Bias([line()], 5.0, 0.4), Bias([line()], 5.0, 0.4)
    one.deposit(s)
    many.deposit(s.expand(64, 1))
    assert torch.allclose(one.values, many.values)
    before = float(one(s)[0])
    assert before == pytest.approx(0.4, abs=1e-3)
    one.deposit(s)
    assert float(one(s)[0]) - before == pytest.approx(0.4 * math.exp(-before / 4), abs=1e-3)
    one.deposit(s, factor=0.5)
    assert float(one.hills[2][1]) == pytest.approx(0.2 * math.exp(-(0.4 + 0.4 * math.exp(-0.1)) / 4), rel=1e-2)


def test_failed_samples_leave_no_hill_and_do_not_raise_the_others() -> None:
    bias, s = Bias([line()], 5.0, 0.4), torch.tensor([[0.5], [math.nan]])
    bias.deposit(s)
    assert float(bias.values.max()) == pytest.approx(0.2, abs=1e-3)
    bias.deposit(s[1:])
    assert len(bias.hills) == 1


def test_grows_to_minus_the_free_energy_over_gamma() -> None:
    # An ideal sampler: exact draws of exp(-F - V) on a line, F = 3 cos s. Then V -> -(1 - 1/gamma) F.
    axis, gamma = turn(120, 0.25), 6.0
    bias, rng = Bias([axis], gamma, 3.0), torch.Generator().manual_seed(0)
    f = 3 * torch.cos(axis.grid())
    for _ in range(600):
        p = torch.exp(-f - bias.values)
        rows = torch.multinomial(p / p.sum(), 400, replacement=True, generator=rng)
        bias.deposit(axis.grid()[rows][:, None])
    found = bias.free_energy()
    # Kernels of width 0.25 damp cos s by 3 %; the draws' noise adds 0.05.
    assert float((found - found.mean() - f).abs().max()) < 0.25
    assert float((bias.values - bias.values.mean() + (1 - 1 / gamma) * f).abs().max()) < 0.2


def test_state_goes_round() -> None:
    bias = Bias([line()], 5.0, 0.4)
    bias.deposit(torch.tensor([[0.5], [0.7]]))
    bias.deposit(torch.tensor([[0.1]]))
    other = Bias([line()], 5.0, 0.4)
    other.restore(bias.state())
    assert torch.equal(other.values, bias.values) and [len(h) for _, h in other.hills] == [2, 1]
    with pytest.raises(ShapeError, match="points"):
        Bias([line(50)], 5.0, 0.4).restore(bias.state())


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="gamma"):
        Bias([line()], 1.0, 0.4)
    with pytest.raises(InputError, match="axes"):
        Bias([line()] * 4, 2.0, 0.4)
    with pytest.raises(InputError, match="grid spacing"):
        line(10, 0.1)
    with pytest.raises(ShapeError, match="expects"):
        Bias([line()], 2.0, 0.4)(torch.zeros(3, 2))
