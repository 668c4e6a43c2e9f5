"""DPS as published: one step by dense algebra."""

import math

import torch
from torch import Tensor

from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.base import Prior
from invdiff.random import Streams, generator
from invdiff.samplers.dps import DPS
from invdiff.schedules import karras
from invdiff.solvers import State


class White(Prior):
    """x ~ N(0, scale^2), real."""

    sigma_min, sigma_max, scale = 0.5, 4.0, 1.5

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x * self.scale**2 / (self.scale**2 + sigma**2)


def test_a_step_is_the_papers() -> None:
    rng = generator(0)
    a = torch.randn(3, 5, dtype=torch.float64, generator=rng)
    y = torch.randn(3, dtype=torch.float64, generator=rng)
    x = torch.randn(2, 5, dtype=torch.float64, generator=rng)
    prior, op = White(), Matrix(a)
    s, t = karras(0.5, 4.0, 3)[1], karras(0.5, 4.0, 3)[0]
    state = next(
        DPS(zeta=0.7, nfe=3, grid=karras).steps(
            prior, Measurement(y, op, Gaussian(0.1)), x, Streams(1, [0, 1]), State(0, 3, t, x)
        )
    )
    v = 1.5**2
    gain = v / (v + t**2)
    residual = y - (gain * x) @ a.T
    gradient = -2 * gain * (residual @ a) / residual.norm(dim=1, keepdim=True)  # of |r|^2, over |r|
    ancestral = (
        gain * x + (s / t) ** 2 * (x - gain * x) + s * math.sqrt(1 - (s / t) ** 2) * Streams(1, [0, 1]).normal(x)
    )
    chain = math.sqrt((1 + s**2 / v) * (1 + t**2 / v))
    expected = ancestral - 0.7 * 1.5 / op.norm() * chain * gradient
    torch.testing.assert_close(state.x, expected, rtol=1e-5, atol=1e-5)
