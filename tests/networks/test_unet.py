"""The backbone takes any image size, and preconditioning is the paper's."""

import pytest
import torch

from invdiff.networks.precondition import Preconditioned
from invdiff.networks.unet import UNet


def small(**options: object) -> UNet:
    torch.manual_seed(0)
    net = UNet(2, 2, (16, 24), blocks=1, embedding=16, **options)  # type: ignore[arg-type]
    torch.nn.init.normal_(net.leave.weight, std=0.1)
    return net


@pytest.mark.parametrize("shape", [(8, 8), (9, 13), (1, 1), (3, 32)])
def test_any_size(shape: tuple[int, int]) -> None:
    x = torch.randn(2, 2, *shape)
    assert small()(x, torch.zeros(2)).shape == x.shape


def test_sigma_matters_and_examples_are_independent() -> None:
    net, x = small(), torch.randn(3, 2, 8, 8)
    for name, weight in net.named_parameters():
        if name.endswith("film.weight"):
            torch.nn.init.normal_(weight, std=0.1)
    out = net(x, torch.tensor([0.0, 1.0, 2.0]))
    assert not torch.allclose(out, net(x, torch.zeros(3)))
    torch.testing.assert_close(net(x[1:2], torch.tensor([1.0])), out[1:2])


def test_shifting_a_large_image_shifts_the_output() -> None:
    net, x = small(), torch.randn(1, 2, 64, 64)
    step = 4  # pixels the coarsest level stands for
    a = net(x, torch.zeros(1))
    b = net(torch.roll(x, step, -1), torch.zeros(1))
    inside = (..., slice(28, 36), slice(28, 36))
    torch.testing.assert_close(torch.roll(a, step, -1)[inside], b[inside], rtol=1e-4, atol=1e-5)


def test_preconditioning() -> None:
    seen = {}

    class Backbone(torch.nn.Module):
        def forward(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
            seen["x"], seen["c"] = x, c_noise
            return torch.ones_like(x)

    s, sigma = 0.5, torch.tensor([0.3, 2.0])
    x = torch.randn(2, 1, 3, 3)
    out = Preconditioned(Backbone(), s)(x, sigma)
    for i, t in enumerate(sigma.tolist()):
        total = t * t + s * s
        torch.testing.assert_close(out[i], s * s / total * x[i] + t * s / total**0.5)
        torch.testing.assert_close(seen["x"][i], x[i] / total**0.5)
        torch.testing.assert_close(seen["c"][i], torch.tensor(t).log() / 4)
