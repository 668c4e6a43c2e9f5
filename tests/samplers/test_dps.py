"""DPS as published: one step by dense algebra."""

import math

import pytest
import torch
from torch import Tensor

from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import Operator
from invdiff.operators.imaging.phase_retrieval import PhaseRetrieval
from invdiff.operators.matrix import Matrix
from invdiff.operators.mri.sense import MRI
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


def coils() -> MRI:
    maps = torch.randn(2, 3, 4, dtype=torch.complex64, generator=generator(3))
    maps[:, 0, 1:3] = 0  # no coil sees these
    return MRI(maps, torch.rand(3, 4, generator=generator(4)) < 0.7)


OPERATORS = {
    "phase retrieval": lambda: PhaseRetrieval(Matrix(torch.randn(9, 5, dtype=torch.complex64, generator=generator(3)))),
    "coils with a support": coils,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_step_follows_the_gradient_of_the_misfit(name: str) -> None:
    op: Operator = OPERATORS[name]()
    x = torch.randn(2, *op.domain_shape, dtype=torch.complex64, generator=generator(0))
    y = op.forward(torch.randn(1, *op.domain_shape, dtype=torch.complex64, generator=generator(1)))[0]
    prior, measurement = White(), Measurement(y, op, Gaussian(0.1))
    t, s = karras(0.5, 4.0, 3)[:2]

    def step(zeta: float) -> Tensor:
        made = DPS(zeta=zeta, nfe=3, grid=karras).steps(prior, measurement, x, Streams(1, [0, 1]), State(0, 3, t, x))
        return next(made).x

    leaf = x.clone().requires_grad_()
    x0 = prior.denoise(leaf, torch.tensor([t]))
    misfit = torch.view_as_real(y - op.forward(x0)) if y.is_complex() else y - op.forward(x0)
    square = misfit.square().flatten(1).sum(1)
    if op.support is not None:
        square = square + torch.view_as_real(x0 * ~op.support).square().flatten(1).sum(1)
    (gradient,) = torch.autograd.grad(square.sqrt().sum(), leaf)
    size = 1.0 if name == "phase retrieval" else coils().norm()
    chain = math.sqrt((1 + s**2 / 1.5**2) * (1 + t**2 / 1.5**2))
    torch.testing.assert_close(step(0.6) - step(0.2), -2 * 0.4 * 1.5 / size * chain * gradient, rtol=1e-4, atol=1e-5)
