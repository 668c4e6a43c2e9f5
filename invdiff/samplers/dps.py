"""DPS as published: an ancestral step, then a step down the gradient of the misfit."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, _leaf
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.schedules import Grid, ddpm
from invdiff.solvers.base import State

__all__ = ["DPS"]


class DPS:
    """``x_s = ancestral(x_t, D(x_t)) - zeta sqrt((1+s^2)(1+t^2)) grad_{x_t} |y - A D(x_t)|^2 / |y - A D(x_t)|``.

    The gradient is the paper's, taken in its variance-preserving variable ``x / sqrt(1 + sigma^2)``; sigma is in
    units of the prior's `scale`, and the step is divided by the operator's norm, so that neither the unit of x nor
    that of y matters. The norm is each draw's own. The noise level of the data is not used, as published.

    A step moves by the same amount at every level, so the result depends on where the levels are.

    Args:
        zeta: step size; the paper's text uses 0.3 to 1. The authors' code steps along the gradient of ``|y - A D|``,
            half of the above, with 0.3 or 0.5, which is 0.15 or 0.25 here.
        nfe: number of steps; the paper uses 1000.
        grid: ``(sigma_min, sigma_max, steps) -> levels``; the paper's is `invdiff.schedules.ddpm`.

    Source: Chung et al., 2023, arXiv 2209.14687, algorithm 1.
    """

    name, exact_for, unit, uses_vjp = "dps", "none", 1, True

    def __init__(self, zeta: float = 1.0, nfe: int = 1000, grid: Grid = ddpm) -> None:
        if zeta <= 0 or nfe < 1:
            raise InputError(f"DPS got zeta = {zeta}, nfe = {nfe}; expected zeta > 0 and nfe >= 1")
        self.zeta, self.nfe, self.grid, self.counts = zeta, nfe, grid, Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step."""
        op = measurement.operator
        size = op.norm() if isinstance(op, LinearOperator) else 1.0
        step_size = self.zeta * prior.scale / size
        sigmas = self.grid(prior.sigma_min, prior.sigma_max, self.nfe)
        x, first = (start(like, sigmas[0], rng), 0) if resume is None else (resume.x, resume.step)
        for i in range(first, self.nfe):
            t, s = sigmas[i], sigmas[i + 1]
            x0, gradient = self._misfit_gradient(prior, measurement, x, t)
            fresh = s * math.sqrt(1 - (s / t) ** 2)
            mean = torch.lerp(x0, x, (s / t) ** 2)
            chain = math.sqrt((1 + (s / prior.scale) ** 2) * (1 + (t / prior.scale) ** 2))
            x = mean.add_(rng.normal(x), alpha=fresh).add_(gradient, alpha=-2 * step_size * chain)
            yield State(i + 1, self.nfe, s, x, x0)

    def _misfit_gradient(
        self, prior: Prior, measurement: Measurement, x: Tensor, sigma: float
    ) -> tuple[Tensor, Tensor]:
        """The denoised image and ``grad_x |r|``, half of ``grad_x |r|^2 / |r|``, r the residual of each draw.

        Where the operator says that x is zero (`support`), x there counts as residual.
        """
        self.counts.nfe += 1
        self.counts.vjp += 1
        op = measurement.operator
        with torch.inference_mode(False), torch.enable_grad():
            leaf = _leaf(x)
            x0 = prior.denoise(leaf, torch.full((1,), sigma, dtype=x.real.dtype, device=x.device))
        image = x0.detach()
        r = measurement.residual(image)
        slope, square = op.vjp(image, r).neg(), r.abs().square().flatten(1).sum(1)
        if op.support is not None:
            outside = image * ~op.support
            slope, square = slope + outside, square + outside.abs().square().flatten(1).sum(1)
        size = square.sqrt().clamp_min(torch.finfo(x.real.dtype).tiny)
        (gradient,) = torch.autograd.grad(x0, leaf, slope / size.reshape(-1, *[1] * (x.ndim - 1)))
        return image, gradient
