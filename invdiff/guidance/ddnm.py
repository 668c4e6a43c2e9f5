"""DDNM: the part of the denoised image that the data determine is replaced by the data."""

from __future__ import annotations

from torch import Tensor

from invdiff.guidance.base import Guidance
from invdiff.guidance.pseudo_inverse import PseudoInverse
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["DDNM"]


class DDNM(Guidance):
    """``A^+ y + (I - A^+ A) x0 = x0 + A^+ (y - A x0)``: the data are met exactly, so their noise ends up in x.

    Meant for data without noise; `invdiff.samplers.ddnm_plus` is the noisy form. The paper samples with DDIM,
    eta = 0.85. No network gradient.

    Args:
        iterations: conjugate-gradient steps of ``A^+`` where the operator offers no closed form.

    Source: Wang, Yu and Zhang, 2023, arXiv 2212.00490, eq. 13 and algorithm 1. Raises InputError for a nonlinear
    operator.
    """

    def __init__(self, prior: Prior, measurement: Measurement, iterations: int = 10) -> None:
        super().__init__(prior, measurement)
        self.inverse = PseudoInverse(measurement, "DDNM", iterations)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the rectified denoised image."""
        x0 = self.denoise(x, sigma)
        support = self.measurement.operator.support
        x0 = x0 if support is None else x0 * support
        return x0 + self.inverse(self.measurement.residual(x0))
