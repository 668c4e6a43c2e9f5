"""PiGDM: the likelihood's gradient under an isotropic Gaussian about the denoised image."""

from __future__ import annotations

from torch import Tensor

from invdiff.guidance.base import Guidance, NormalEquations, spread2
from invdiff.guidance.mmps import _ratio
from invdiff.linalg import cg, dot
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["PiGDM"]


class PiGDM(Guidance):
    """``x0 + c sigma^2 J^T A^H (r^2 A A^H + S)^-1 (y - A x0)`` with ``r^2 = v sigma^2/(v + sigma^2)``.

    In image space the inner part is ``(r^2 N + I)^-1 (b - N x0)``, in closed form where the operator has one, else
    by conjugate gradients. v is the prior's variance (the paper has data of unit variance, v = 1).

    The length c, which the paper has not: r^2 assumes that every direction of x varies by v, at every noise level.
    Where ``V = sigma^2 J`` is larger the step overshoots the data (a learned prior answers with a worse image, and a
    run of few steps ends at finite nonsense), where it is smaller, within a mode say, the step falls short. So each
    example's step ``d = V u`` is given the length that maximises the likelihood of data and ``N(x0, V)`` along it,

        ``c = <d, b - N x0> / (<d, u> + <d, N d>)``,

    which is 1 where V = r^2, leaves the data never worse explained than before, and costs one more product with N.
    Where the learned J is not positive along u the data alone set the length, and a step that would only harm is left
    out.

    Args:
        iterations: conjugate-gradient steps.
        length: give the step that length; False for c = 1, the paper's step.

    Source: Song, Vahdat, Mardani and Kautz, 2023, ICLR, "Pseudoinverse-guided diffusion models", eq. 7-8.
    """

    uses_vjp = True

    def __init__(self, prior: Prior, measurement: Measurement, iterations: int = 10, length: bool = True) -> None:
        super().__init__(prior, measurement)
        self.equations = NormalEquations(measurement, "PiGDM")
        self.iterations, self.length = iterations, length

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided denoised image."""
        x0, vjp = self.denoise_with_vjp(x, sigma)
        r2 = spread2(self.prior, sigma)
        misfit, u = self._pull(x0, r2)
        step = vjp(u).mul_(sigma**2)
        if not self.length:
            return step.add_(x0)
        gain = dot(step, misfit)
        cost = dot(step, u).clamp_min(0) + dot(step, self.equations.precision(step))
        return step.mul_(_ratio(gain, cost, step)).add_(x0)

    def _pull(self, x0: Tensor, r2: float) -> tuple[Tensor, Tensor]:
        """``b - N x0`` and ``(r^2 N + I)^-1 (b - N x0)``."""
        e = self.equations
        if isinstance(e.weight, float) and e.outside is None and e.op.has_damped_inverse:
            r = e.data - e.op.forward(x0)
            u = e.op.damped_inverse(r, 1 / (r2 * e.weight))
            assert u is not None
            return e.op.adjoint(r).mul_(e.weight), u.mul_(1 / r2)
        misfit = e.information - e.precision(x0)
        exact = e.closed_proximal(x0, r2)
        if exact is None:
            return misfit, cg(lambda p: p + r2 * e.precision(p), misfit, iterations=self.iterations)
        return misfit, (exact - x0) / r2
