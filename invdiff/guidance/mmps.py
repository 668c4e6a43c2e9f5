"""MMPS: the exact linear-Gaussian update under the denoiser's own covariance (moment matching)."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance, NormalEquations
from invdiff.linalg import Map, inner
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["MMPS", "solve"]


class MMPS(Guidance):
    """``x0 + V A^H (A V A^H + S)^-1 (y - A x0)`` with ``V = Cov[x0|x] = sigma^2 J``, J the denoiser's Jacobian.

    With ``w = A^H (A V A^H + S)^-1 (y - A x0)`` this is ``x0 + V w`` where ``(I + N V) w = b - N x0``. The map
    ``I + N V`` is symmetric in the inner product ``<a, V c>``, so conjugate gradients in that inner product solve it
    with one product with V (one vector-Jacobian product) and one with N an iteration, all in image space. A
    direction in which the learned V is not positive ends that example's iteration. Exact for Gaussian priors.

    Args:
        iterations: conjugate-gradient steps (1 to 5 in the paper).

    Source: Rozet, Andry, Lanusse and Louppe, 2024, arXiv 2405.13712.
    """

    exact_for = "gaussian"
    uses_vjp = True

    def __init__(self, prior: Prior, measurement: Measurement, iterations: int = 5) -> None:
        super().__init__(prior, measurement)
        if iterations < 1:
            raise InputError(f"MMPS got iterations = {iterations}; expected at least 1")
        self.equations = NormalEquations(measurement, "MMPS")
        self.iterations = iterations

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided denoised image."""
        x0, vjp = self.denoise_with_vjp(x, sigma)
        misfit = self.equations.information - self.equations.precision(x0)
        return x0 + update(lambda v: sigma**2 * vjp(v), self.equations.precision, misfit, self.iterations)


def update(covariance: Map, precision: Map, rhs: Tensor, iterations: int) -> Tensor:
    """Return ``V w`` with ``(I + N V) w = rhs``: see `solve`."""
    return solve(covariance, precision, rhs, iterations)[1]


def solve(covariance: Map, precision: Map, rhs: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return w and ``V w`` with ``(I + N V) w = rhs``, by conjugate gradients in the inner product ``<a, V c>``."""
    w, vw = torch.zeros_like(rhs), torch.zeros_like(rhs)
    r, vr = rhs, covariance(rhs)
    p, vp = r, vr
    rho = inner(r, vr)
    for k in range(iterations):
        q = p + precision(vp)
        step = _ratio(rho, inner(vp, q), rhs)
        w, vw = torch.addcmul(w, step, p), torch.addcmul(vw, step, vp)
        if k + 1 == iterations:
            break
        r = torch.addcmul(r, step, q, value=-1)
        vr = covariance(r)
        rho, before = inner(r, vr), rho
        beta = _ratio(rho, before, rhs)
        p, vp = torch.addcmul(r, beta, p), torch.addcmul(vr, beta, vp)
    return w, vw


def _ratio(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """``a / b`` per example where both are positive and 0 elsewhere, shaped and typed to multiply `like`."""
    good = (a > 0) & (b > 0)
    return torch.where(good, a / torch.where(good, b, 1), 0).to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
