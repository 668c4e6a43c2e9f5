"""TMPD: the likelihood under the denoiser's own covariance, of which the data see only the row sums."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior

__all__ = ["TMPD"]


class TMPD(Guidance):
    """``x0 + V A^H (diag(A V A^H 1) + S)^-1 (y - A x0)`` with ``V = Cov[x0|x] = sigma^2 J``, J the denoiser's Jacobian.

    The row sums ``A V A^H 1`` stand for the matrix ``A V A^H``: exact for Gaussian priors where that is diagonal, and
    one network gradient more than PiGDM whatever the size of the data. On complex data the sums run over the real
    and imaginary parts. Where A mixes signs a row sum can fall below zero, which is no variance: its magnitude counts
    (with zero in its place draws of 25 modes seen by four numbers diverge).

    Source: Boys, Girolami, Pidstrigach, Reich, Mosca and Akyildiz, 2023, arXiv 2310.06721, eq. 8 and section 3.3.
    Raises InputError for a nonlinear operator or noise that is not Gaussian.
    """

    uses_vjp = True

    def __init__(self, prior: Prior, measurement: Measurement) -> None:
        super().__init__(prior, measurement)
        op, noise = measurement.operator, measurement.noise
        if not isinstance(op, LinearOperator) or not isinstance(noise, Gaussian):
            raise InputError(f"TMPD needs a linear operator and Gaussian noise; got {op!r} and {type(noise).__name__}")
        self.op, self.variance = op, noise.variance(measurement.y)
        ones = torch.ones_like(measurement.data[:1])
        self.ones = ones + 1j * ones if ones.is_complex() else ones
        if op.range_mask is not None:
            self.ones = self.ones * op.range_mask

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided denoised image."""
        x0, vjp = self.denoise_with_vjp(x, sigma)
        support = self.op.support
        x0 = x0 if support is None else x0 * support
        probe = self.op.adjoint(self.ones.expand(x.shape[0], *self.ones.shape[1:]))
        sums = sigma**2 * self.op.forward(vjp(probe))
        pull = self.op.adjoint(_divide(self.measurement.residual(x0), sums, self.variance))
        out = x0 + sigma**2 * vjp(pull)
        return out if support is None else out * support


def _divide(r: Tensor, sums: Tensor, variance: float | Tensor) -> Tensor:
    """``r / (|sums| + variance)``, the real and the imaginary part each by its own."""
    if not r.is_complex():
        return r / (sums.abs() + variance)
    return torch.complex(r.real / (sums.real.abs() + variance), r.imag / (sums.imag.abs() + variance))
