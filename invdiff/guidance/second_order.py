"""Second-order Tweedie in full: the likelihood under the denoiser's covariance, and that covariance's own slope."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance, NormalEquations
from invdiff.guidance.mmps import solve
from invdiff.linalg import inner
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["SecondOrder"]


class SecondOrder(Guidance):
    """``x0 + sigma^2 grad_x log N(y; A x0, M)`` with ``M = A V A^H + S``, ``V = Cov[x0|x] = sigma^2 J``.

    The gradient has three parts, ``w = A^H M^-1 (y - A x0)`` and e a random sign for each real datum:

        ``J^T w + 1/2 grad_x <w, V(x) w> - 1/2 E_e grad_x <A^H M^-1 e, V(x) A^H e>``.

    The first is moment matching (MMPS). The others, the slope of the covariance and of its log-determinant, vanish
    under a Gaussian prior, where all is exact, and move weight between modes under others. J's slope along w is a
    difference, ``grad_x <w, J(x) w> ~ (J(x + h w) - J(x))^T w / h`` (J is symmetric, and so is its derivative), with
    ``|h w| = width sigma``. w solves ``(I + N V) w = b - N x0`` by conjugate gradients, and A^H M^-1 e likewise.

    Between modes that slope can be many times what few steps can follow, and a draw would be thrown off for good:
    together the second and third part move x0 by no more than ``|V w| + sigma``.

    A call is 3 evaluations and up to ``2 iterations + 5`` gradients. The probe is drawn by the caller: `at` takes it.

    Args:
        iterations: conjugate-gradient steps, each one gradient; min(iterations, number of data) are made.
        width: length of the difference in units of sigma.

    Source: this is the covariance of Rout et al., 2024 (STSL), arXiv 2312.00852, proposition 4.1, used in full
    instead of its trace; the first part is Rozet et al., 2024, arXiv 2405.13712.
    Raises InputError for a nonlinear operator, noise that is not Gaussian, and values out of range.
    """

    exact_for = "gaussian"
    uses_vjp = True

    def __init__(self, prior: Prior, measurement: Measurement, iterations: int = 5, width: float = 0.1) -> None:
        super().__init__(prior, measurement)
        if iterations < 1 or width <= 0:
            raise InputError(f"SecondOrder got iterations = {iterations}, width = {width}; expected >= 1 and > 0")
        self.equations = NormalEquations(measurement, "SecondOrder")
        data = math.prod(measurement.operator.range_shape) * (2 if measurement.y.is_complex() else 1)
        self.iterations, self.width = min(iterations, data), width

    def at(self, x: Tensor, sigma: float, probe: Tensor) -> Tensor:
        """Return the guided denoised image; `probe` has the shape of the data ``(N, *range_shape)``, any numbers."""
        op, equations = self.equations.op, self.equations
        x0, vjp = self.denoise_with_vjp(x, sigma)

        def covariance(v: Tensor) -> Tensor:
            return sigma**2 * vjp(v)

        signs = _signs(probe) if op.range_mask is None else _signs(probe) * op.range_mask
        misfit = equations.information - equations.precision(x0)
        w, vw = solve(covariance, equations.precision, misfit, self.iterations)
        p, _ = solve(covariance, equations.precision, op.adjoint(equations.weight * signs), self.iterations)
        q = op.adjoint(signs)
        slope = self._slope(x, sigma, w, w, vw / sigma**2) - self._slope(x, sigma, p, q, vjp(q))
        return x0 + vw + _no_longer(0.5 * sigma**4 * slope, inner(vw, vw).sqrt() + sigma)

    def _slope(self, x: Tensor, sigma: float, along: Tensor, of: Tensor, here: Tensor) -> Tensor:
        """``grad_x <along, J(x) of>``; `here` is ``J(x)^T of``."""
        length = inner(along, along).sqrt().to(x.real.dtype).reshape(-1, *[1] * (x.ndim - 1))
        h = self.width * sigma / length.clamp_min(torch.finfo(length.dtype).tiny)
        _, vjp = self.denoise_with_vjp(x + h * along, sigma)
        return (vjp(of) - here) / h


def _no_longer(step: Tensor, limit: Tensor) -> Tensor:
    """Each example's step, shortened to `limit` ``(N,)`` where it is longer."""
    length = inner(step, step).sqrt()
    share = torch.where(length > limit, limit / length.clamp_min(1e-300), 1.0)
    return step * share.to(step.real.dtype).reshape(-1, *[1] * (step.ndim - 1))


def _signs(probe: Tensor) -> Tensor:
    if probe.is_complex():
        return torch.complex(_signs(probe.real), _signs(probe.imag))
    return torch.where(probe < 0, -1.0, 1.0).to(probe.dtype)
