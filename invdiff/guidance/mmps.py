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
        tolerance: share of its first size, in the norm of V, to which the residual of an example has to fall; the steps
            end where all have. Each call then starts from the solution of the one before, which changes little over a
            step. 0 makes all steps, from zero.

    Source: Rozet, Andry, Lanusse and Louppe, 2024, arXiv 2405.13712; starting from the last solution is ours.
    """

    exact_for = "gaussian"
    uses_vjp = True

    def __init__(self, prior: Prior, measurement: Measurement, iterations: int = 5, tolerance: float = 0.0) -> None:
        super().__init__(prior, measurement)
        if iterations < 1 or not 0 <= tolerance < 1:
            raise InputError(f"MMPS got {iterations=}, {tolerance=}; expected at least 1, and 0 to below 1")
        self.equations = NormalEquations(measurement, "MMPS")
        self.iterations, self.tolerance = iterations, tolerance
        self.carries = 1 if tolerance > 0 else 0
        self.begin()

    def begin(self) -> None:
        """Forget the last solution."""
        self.last: Tensor | None = None

    def carried(self) -> tuple[Tensor, ...]:
        """The last solution."""
        return () if self.last is None else (self.last,)

    def restore(self, carried: tuple[Tensor, ...]) -> None:
        """Start from that solution."""
        self.last = carried[0] if carried else None

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided denoised image."""
        x0, vjp = self.denoise_with_vjp(x, sigma)
        misfit = self.equations.information - self.equations.precision(x0)
        start = self.last if self.last is not None and self.last.shape == x.shape else None
        w, step = solve(
            lambda v: sigma**2 * vjp(v), self.equations.precision, misfit, self.iterations, self.tolerance, start
        )
        self.last = w if self.tolerance > 0 else None
        return x0 + step


def update(covariance: Map, precision: Map, rhs: Tensor, iterations: int) -> Tensor:
    """Return ``V w`` with ``(I + N V) w = rhs``: see `solve`."""
    return solve(covariance, precision, rhs, iterations)[1]


def solve(
    covariance: Map,
    precision: Map,
    rhs: Tensor,
    iterations: int,
    tolerance: float = 0.0,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return w and ``V w`` with ``(I + N V) w = rhs``, by conjugate gradients in the inner product ``<a, V c>``.

    An example starts from `start` where that has the smaller residual, else from zero.
    """
    w, vw = torch.zeros_like(rhs), torch.zeros_like(rhs)
    r, vr = rhs, covariance(rhs)
    rho = inner(r, vr)
    enough = tolerance**2 * rho
    if start is not None:
        image = covariance(start)
        left = rhs - start - precision(image)
        v_left = covariance(left)
        size = inner(left, v_left)
        nearer = ((size >= 0) & (size < rho)).reshape(-1, *[1] * (rhs.ndim - 1))
        w, vw = torch.where(nearer, start, w), torch.where(nearer, image, vw)
        r, vr = torch.where(nearer, left, r), torch.where(nearer, v_left, vr)
        rho = torch.where(nearer.reshape(-1), size, rho)
    p, vp = r, vr
    for k in range(iterations):
        if tolerance > 0:
            rho = torch.where(rho > enough, rho, 0)  # a step of length 0 from then on
            if not bool((rho > 0).any()):
                break
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
