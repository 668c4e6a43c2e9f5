"""Objectives, noise levels and the balance of losses between them."""

import math

import pytest
import torch
from torch import nn

from invdiff.networks.precondition import FlowMatched, Preconditioned
from invdiff.training.config import TrainConfig
from invdiff.training.losses import by_interval, intervals, noise_levels, project_conflicts


class Fixed(nn.Module):
    """A network with a known answer, whatever it is given."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return self.answer


@pytest.mark.parametrize("sigma", [0.01, 0.5, 7.0])
@pytest.mark.parametrize("objective", ["edm", "flow"])
def test_the_right_answer_gives_the_clean_image_and_its_error_the_weight(sigma: float, objective: str) -> None:
    s, clean, noise = 0.4, torch.randn(2, 1, 4, 4).double(), torch.randn(2, 1, 4, 4).double()
    x, level, r = clean + sigma * noise, torch.full((2,), sigma).double(), sigma / s
    wrap: type[FlowMatched] | type[Preconditioned]
    if objective == "flow":
        time = r / (1 + r)
        answer, wrap = noise - clean / s, FlowMatched
        seen = (1 - time) * clean / s + time * noise
    else:  # minus the velocity of x0 cos/s + n sin
        angle = math.atan(r)
        answer, wrap = clean / s * math.sin(angle) - noise * math.cos(angle), Preconditioned
        seen = clean / s * math.cos(angle) + noise * math.sin(angle)
    inner = Fixed(answer)
    net = wrap(inner, s)
    torch.testing.assert_close(net(x, level), clean)
    torch.testing.assert_close(inner.seen[-1], seen)
    wrong = wrap(Fixed(answer + 1), s)
    error = net.weight(level) * (wrong(x, level) - clean).square().mean((1, 2, 3))
    torch.testing.assert_close(error, torch.ones(2).double())  # the weighted error is that of the network's output


def test_uniform_times_are_uniform_in_the_interpolant() -> None:
    config = TrainConfig(name="a", noise_levels="uniform-time", sigma_min=1e-6, sigma_max=1e6)
    rng = torch.Generator().manual_seed(0)
    for net, time in (
        (FlowMatched(nn.Identity(), 0.4), lambda r: r / (1 + r)),
        (Preconditioned(nn.Identity(), 0.4), lambda r: 2 / math.pi * torch.atan(r)),
    ):
        t = time(noise_levels(rng, 4000, config, net) / 0.4)
        assert float(t.mean()) == pytest.approx(0.5, abs=0.03) and float(t.std()) == pytest.approx(0.2887, abs=0.02)
    levels = noise_levels(rng, 4000, TrainConfig(name="a", log_sigma_mean=-1.0, log_sigma_std=0.5), net)
    assert float(levels.log().mean()) == pytest.approx(-1, abs=0.05)


def test_intervals_find_clusters_of_signal_to_noise() -> None:
    levels = torch.cat([torch.tensor([0.9, 1.0, 1.1]) * c for c in (0.01, 0.1, 3.0)])
    edges = intervals(levels[torch.randperm(9)], 3)
    assert edges.tolist() == pytest.approx([math.sqrt(0.011 * 0.09), math.sqrt(0.11 * 2.7)], rel=1e-5)
    uniform = torch.linspace(0, 1, 100).exp()  # uniform in log SNR: intervals of one size
    assert intervals(uniform, 4).log().tolist() == pytest.approx([0.25, 0.5, 0.75], abs=0.02)
    mean, share = by_interval(torch.tensor([1.0, 3.0, 10.0]), torch.tensor([0.01, 0.02, 5.0]), edges)
    assert mean.tolist() == [2, 0, 10] and share.tolist() == pytest.approx([2 / 3, 0, 1 / 3])


def test_projected_gradients_do_not_conflict() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    # g_a less its part along b: a + b/2; g_b less its part along a: (0, 1)
    torch.testing.assert_close(project_conflicts([a, b], [[1], [0]]), torch.tensor([0.5, 1.5]))
    torch.testing.assert_close(project_conflicts([a, a], [[1], [0]]), 2 * a)
