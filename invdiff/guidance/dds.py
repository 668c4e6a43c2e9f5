"""DDS: conjugate gradients on the denoised image."""

from __future__ import annotations

from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance, NormalEquations, spread2
from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["DDS"]


class DDS(Guidance):
    """M conjugate-gradient steps from ``x0 = E[x0|x]`` on ``(g N + I) z = x0 + g b``; no network gradient.

    Args:
        gamma: g; None for the value that follows the noise, ``r^2 = v sigma^2/(v + sigma^2)``, which makes z the
            most probable image under ``N(x0, r^2 I)`` and the data. A number is the paper's constant.
        iterations: M; the paper uses 5.

    Source: Chung, Lee and Ye, 2024 (Decomposed Diffusion Sampler), arXiv 2303.05754, eq. 12 and algorithm 1.
    """

    def __init__(self, prior: Prior, measurement: Measurement, gamma: float | None = None, iterations: int = 5) -> None:
        super().__init__(prior, measurement)
        if iterations < 1 or (gamma is not None and gamma <= 0):
            raise InputError(f"DDS got gamma = {gamma}, iterations = {iterations}; expected gamma > 0, iterations >= 1")
        self.equations = NormalEquations(measurement, "DDS")
        self.gamma, self.iterations = gamma, iterations

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the data-consistent denoised image."""
        x0 = self.denoise(x, sigma)
        return proximal(
            self.equations,
            x0,
            spread2(self.prior, sigma) if self.gamma is None else self.gamma,
            self.iterations,
        )


def proximal(equations: NormalEquations, x0: Tensor, weight: float, iterations: int) -> Tensor:
    """Minimise ``|y - A z|^2_{S^-1} + |z - x0|^2 / weight``: exactly where the operator has a closed form, else by CG.

    Conjugate gradients from x0 solve for the correction ``d = z - x0``: ``(w N + I) d = w (b - N x0)``.
    """
    exact = equations.closed_proximal(x0, weight)
    if exact is not None:
        return exact
    rhs = weight * (equations.information - equations.precision(x0))
    return x0 + cg(lambda d: d + weight * equations.precision(d), rhs, iterations=iterations)
