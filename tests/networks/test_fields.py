"""Vector fields: symmetries of the equivariant network, chirality, exchange; the MLP's angles; the control's pace."""

import math

import pytest
import torch
from torch import Tensor, nn

from invdiff.bridges.control import Paced
from invdiff.bridges.sde import Constant
from invdiff.networks.equivariant import EquivariantField
from invdiff.networks.internal import InternalMLP


def awake(net: nn.Module) -> nn.Module:
    """The network in double precision with its zeros replaced, so that its output is of order 1."""
    torch.manual_seed(0)
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    return net.double()


def particles(n: int, dim: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4, n, dim, generator=rng, dtype=torch.float64)
    return torch.rand(4, generator=rng, dtype=torch.float64), x


def turn(dim: int) -> Tensor:
    q = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(5), dtype=torch.float64))[0]
    return q if torch.linalg.det(q) > 0 else q * torch.tensor([-1.0] + [1.0] * (dim - 1), dtype=torch.float64)


@pytest.mark.parametrize("dim", [2, 3])
def test_turns_and_shifts_with_the_particles(dim: int) -> None:
    net = awake(EquivariantField(range(5), dim, features=12, layers=2))
    t, x = particles(5, dim)
    v = net(t, x).detach()
    assert v.shape == x.shape and float(v.abs().max()) > 1e-3
    assert torch.allclose(net(t, x @ turn(dim) + 2.0), v @ turn(dim), atol=1e-10)
    assert float(v.mean(1).abs().max()) < 1e-12


def test_mirror_images_are_told_apart_only_if_wanted() -> None:
    t, x = particles(5, 3)
    mirror = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    chiral = awake(EquivariantField(range(5), 3, features=12, layers=3))
    plain = awake(EquivariantField(range(5), 3, features=12, layers=3, chiral=False))
    assert float((chiral(t, x * mirror) - chiral(t, x) * mirror).abs().max()) > 1e-3
    assert torch.allclose(plain(t, x * mirror), plain(t, x) * mirror, atol=1e-10)


def test_particles_of_one_kind_are_exchangeable() -> None:
    t, x = particles(4, 3)
    order = [2, 1, 0, 3]
    same = awake(EquivariantField([0, 0, 0, 1], 3, features=12, layers=2))
    apart = awake(EquivariantField(range(4), 3, features=12, layers=2))
    assert torch.allclose(same(t, x[:, order]), same(t, x)[:, order], atol=1e-10)
    assert float((apart(t, x[:, order]) - apart(t, x)[:, order]).abs().max()) > 1e-3


def test_derivatives_are_finite_where_particles_meet() -> None:
    net = awake(EquivariantField(range(3), 3, features=8, layers=2))
    x = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(net(torch.zeros(1).double(), x).square().sum(), x)
    assert torch.isfinite(slope).all()


def test_untrained_controls_are_zero() -> None:
    t, x = particles(4, 3)
    assert float(EquivariantField(range(4))(t.float(), x.float()).abs().max()) == 0
    assert float(InternalMLP(3)(t.float(), x[:, 0].float()).abs().max()) == 0


def test_mlp_sees_time_scale_and_angles() -> None:
    net = awake(InternalMLP(3, 16, 2, scale=[1.0, 2.0, 4.0], angles=[2]))
    t, x = torch.tensor([0.1, 0.9]).double(), torch.tensor([[0.1, 0.2, 0.3]] * 2).double()
    assert net(t, x).shape == (2, 3)
    assert float((net(t, x)[0] - net(t, x)[1]).abs().max()) > 1e-3


def test_pace_is_one_over_the_noise_to_come() -> None:
    class One(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return torch.ones_like(x)

    v = Paced(One(), Constant(2.0), 0.1)(torch.tensor([0.0, 0.75, 1.0]), torch.zeros(3, 2))
    assert v[:, 0].tolist() == pytest.approx([1 / math.sqrt(4.01), 1 / math.sqrt(1.01), 10.0], rel=1e-5)
