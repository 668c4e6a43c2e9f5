"""Moment matching with a covariance that the prior declares: no network gradient, and the data's system solved exactly.

``x0 + V A^H (A V A^H + S)^-1 (y - A x0)`` where x0 is the prior's (a network's) and ``V = U (diag(v) - t) U^T + t`` the
covariance of its Gaussian part given x. In the space of the data

    A V A^H = (A U) (diag(v) - t) (A U)^H + t A A^H,

so A is applied to the directions and to itself once, and a noise level costs one factorisation of the data's size,
shared by all draws. Exact where the prior is that Gaussian.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.priors.fields_gaussian import LowRankGaussian

__all__ = ["Declared"]

LARGEST = 8192  # data whose system is formed


class Declared(Guidance):
    """Guidance of priors that have a `LowRankGaussian` part, ``prior.gaussian`` or themselves.

    Args:
        prior: its denoiser may be anything. measurement: linear, Gaussian noise that is the same in all problems.

    Source: the moments of Rozet et al., 2024, arXiv 2405.13712, with this covariance for the denoiser's.
    Raises InputError: the prior has no such part, the operator is nonlinear or one a problem, the noise is not Gaussian
    or differs between problems, or there are more than 8192 data.
    """

    exact_for = "gaussian"
    uses_vjp = False

    def __init__(self, prior: Prior, measurement: Measurement) -> None:
        super().__init__(prior, measurement)
        gaussian = prior if isinstance(prior, LowRankGaussian) else getattr(prior, "gaussian", None)
        op, noise = measurement.operator, measurement.noise
        if not isinstance(gaussian, LowRankGaussian):
            raise InputError(f"{type(prior).__name__} declares no Gaussian part; take mmps, which differentiates it")
        if not isinstance(op, LinearOperator) or not isinstance(noise, Gaussian) or op.n_problems > 1:
            raise InputError(
                f"Declared needs one linear operator and Gaussian noise; got {op!r}, {type(noise).__name__}"
            )
        if math.prod(op.range_shape) > LARGEST:
            raise InputError(
                f"Declared forms a system of {math.prod(op.range_shape)} data; at most {LARGEST}: take mmps"
            )
        self.gaussian, self.op = gaussian, op
        self.noise = self._variances(measurement, noise)
        directions = gaussian.directions.to(measurement.y).mT.reshape(-1, *op.domain_shape)
        self.seen = op.forward(directions).flatten(1).mT.double()  # A U, (data, r)
        size = len(self.seen)
        eye = torch.eye(size, dtype=measurement.y.dtype, device=measurement.y.device).reshape(size, *op.range_shape)
        self.gram = torch.cat([op.forward(op.adjoint(part)).flatten(1) for part in eye.split(64)]).double()  # A A^H
        self.levels: dict[float, Tensor] = {}

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided denoised image."""
        return self.updated(self.denoise(x, sigma), sigma)

    def updated(self, x0: Tensor, sigma: float) -> Tensor:
        """Return x0 corrected by the data; sigma infinite for a draw of the prior and data with noise of their own."""
        return self._corrected(x0, self.measurement.data, sigma)

    def posterior_draw(self, white: Tensor, noise: Tensor) -> Tensor:
        """Exact draws of the Gaussian part's posterior from white noise ``(N, *event)`` and ``(N, *range_shape)``.

        A draw of the prior is corrected by what the data with noise taken away, the same as theirs, say about it
        (Matheron's rule).
        """
        spread = self.noise.sqrt().to(noise).reshape(1, *self.op.range_shape)
        return self._corrected(self.gaussian.coloured(white), self.measurement.data - spread * noise, math.inf)

    def _corrected(self, x0: Tensor, y: Tensor, sigma: float) -> Tensor:
        kept, rest = self._spread(sigma)
        residual = (y - self.op.forward(x0)).flatten(1).double()
        if self.op.range_mask is not None:
            residual = residual * torch.broadcast_to(self.op.range_mask, self.op.range_shape).flatten()
        w = torch.cholesky_solve(residual.mT, self._factor(sigma)).mT
        along = (w @ self.seen) * (kept - rest)
        step = (along.to(x0) @ self.gaussian.directions.to(x0).mT).reshape(x0.shape)
        return x0 + step + rest * self.op.adjoint(w.to(x0).reshape(-1, *self.op.range_shape))

    def _factor(self, sigma: float) -> Tensor:
        if sigma not in self.levels:
            kept, rest = self._spread(sigma)
            matrix = (self.seen * (kept - rest)) @ self.seen.mT + rest * self.gram
            matrix.diagonal().add_(self.noise)
            self.levels = {sigma: torch.linalg.cholesky(matrix)}  # the steps go down: one is kept
        return self.levels[sigma]

    def _spread(self, sigma: float) -> tuple[Tensor, float]:
        if math.isinf(sigma):
            return self.gaussian.variances.to(self.seen), self.gaussian.tail
        level = torch.full((1,), sigma, dtype=self.seen.dtype, device=self.seen.device)
        kept, rest = self.gaussian.spread(level)
        return kept[0].to(self.seen), float(rest)

    def _variances(self, measurement: Measurement, noise: Gaussian) -> Tensor:
        shape = tuple(self.op.range_shape)
        sigma = torch.as_tensor(noise.sigma, dtype=torch.float64, device=measurement.y.device)
        if sigma.ndim > len(shape):
            if not bool((sigma == sigma[:1]).all()):
                raise InputError("Declared got noise that differs between problems; take one problem at a time")
            sigma = sigma[0]
        return torch.broadcast_to(sigma, shape).flatten() ** 2
