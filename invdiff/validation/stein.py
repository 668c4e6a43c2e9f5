"""Kernel Stein discrepancy: how far draws are from a density of which only the score is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.validation.linear_gaussian import components

__all__ = ["kernel_stein", "posterior_score"]


def posterior_score(prior: Prior, measurement: Measurement, x: Tensor) -> Tensor:
    """``grad log p(x | y)`` on real components, ``(n, D)`` float64, for one problem.

    The prior's part is ``(E[x0 | x] - x) / sigma^2`` at its smallest sigma, so of the prior blurred by that much; the
    data's comes by automatic differentiation. Everything runs in double precision.
    """
    wide = x.to(torch.complex128 if x.is_complex() else torch.float64)
    sigma = prior.sigma_min
    with torch.no_grad():
        pull = (prior.denoise(wide, torch.full((1,), sigma, dtype=torch.float64)) - wide) / sigma**2
    with torch.inference_mode(False), torch.enable_grad():
        leaf = wide.detach().clone().requires_grad_(True)
        total = measurement.to(torch.float64).log_likelihood(leaf).sum()
        (push,) = torch.autograd.grad(total, leaf)
    return components(pull + push)


def kernel_stein(values: Tensor, score: Tensor, width: float) -> float:
    """Return ``((1/n^2) sum_ij u(x_i, x_j) / D)^(1/2)`` with the Stein kernel u of ``k = (1 + |a - b|^2/w^2)^(-1/2)``.

    ``u = s_i.s_j k + s_i.grad_j k + s_j.grad_i k + tr grad_i grad_j k``. It converges to zero for exact draws only;
    it is blind to the weights of modes far apart.

    Args:
        values, score: ``(n, D)`` float64. width: w, in the unit of the values.

    Source: J. Gorham and L. Mackey, 2017, arXiv 1703.01717.
    """
    n, size = values.shape
    centred = values - values.mean(0)  # distances from inner products lose digits far from the origin
    square = (centred**2).sum(1)
    distance = (square[:, None] + square - 2 * centred @ centred.mT).clamp_min(0) / width**2
    base = 1 + distance
    along = (score * centred).sum(1)
    cross = score @ centred.mT  # s_i . x_j
    # grad_j k = (x_i - x_j) base^(-3/2) / w^2, and grad_i k is its negative.
    slope = (along[:, None] - cross) + (along - cross.mT)
    trace = size * base**-1.5 - 3 * distance * base**-2.5
    total = (score @ score.mT) * base**-0.5 + (slope * base**-1.5 + trace) / width**2
    return math.sqrt(max(float(total.sum()), 0.0) / size) / n
