"""Windows composed into a trajectory, for a process whose exact denoiser is known."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.windows import ComposedWindows

RHO, LENGTH = 0.6, 15


def process(length: int) -> GaussianPrior:
    """A stationary autoregression of first order and variance 1, two independent components."""
    lag = (torch.arange(length)[:, None] - torch.arange(length)).abs().double()
    c = torch.kron(RHO**lag, torch.eye(2, dtype=torch.float64))
    return GaussianPrior(torch.zeros(length, 2, dtype=torch.float64), c)


def test_composition_is_close_and_closer_with_wider_windows() -> None:
    exact = process(LENGTH)
    x = exact.sample(200, torch.Generator().manual_seed(0))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    for sigma in (0.1, 1.0):
        level, noisy = torch.tensor([sigma], dtype=torch.float64), x + sigma * noise
        truth = exact.denoise(noisy, level)
        errors = [
            float((ComposedWindows(process(size), LENGTH).denoise(noisy, level) - truth).square().mean().sqrt())
            for size in (1, 3, 5, 9, LENGTH)
        ]
        assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-9
        assert errors[2] < 0.05 < errors[0] or sigma < 0.5  # in units of the process: five states see nearly all


def test_shapes() -> None:
    long = ComposedWindows(process(3), 7)
    assert long.sample_shape == (7, 2) and long.scale == process(3).scale
    for window, length in ((process(4), 7), (process(9), 7)):
        with pytest.raises(InputError, match="odd number"):
            ComposedWindows(window, length)
