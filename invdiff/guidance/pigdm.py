"""PiGDM: the likelihood's gradient under an isotropic Gaussian about the denoised image."""

from __future__ import annotations

from torch import Tensor

from invdiff.guidance.base import Guidance, NormalEquations, spread2
from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["PiGDM"]


class PiGDM(Guidance):
    """``x0 + sigma^2 J^T A^H (r^2 A A^H + S)^-1 (y - A x0)`` with ``r^2 = v sigma^2/(v + sigma^2)``.

    In image space the inner part is ``(r^2 N + I)^-1 (b - N x0)``, solved by conjugate gradients. v is the prior's
    variance (the paper has data of unit variance, v = 1).

    Args:
        iterations: conjugate-gradient steps.

    Source: Song, Vahdat, Mardani and Kautz, 2023, ICLR, "Pseudoinverse-guided diffusion models", eq. 7-8.
    """

    uses_vjp = True

    def __init__(self, prior: Prior, measurement: Measurement, iterations: int = 10) -> None:
        super().__init__(prior, measurement)
        self.equations = NormalEquations(measurement, "PiGDM")
        self.iterations = iterations

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the guided denoised image."""
        x0, vjp = self.denoise_with_vjp(x, sigma)
        r2 = spread2(self.prior, sigma)
        misfit = self.equations.information - self.equations.precision(x0)
        u = cg(lambda p: p + r2 * self.equations.precision(p), misfit, iterations=self.iterations)
        return x0 + sigma**2 * vjp(u)
