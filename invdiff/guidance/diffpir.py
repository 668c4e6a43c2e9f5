"""DiffPIR: the proximal point of the data at the denoised image."""

from __future__ import annotations

from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance, NormalEquations
from invdiff.guidance.dds import proximal
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["DiffPIR"]


class DiffPIR(Guidance):
    """``argmin_z |y - A z|^2 + rho |z - x0|^2`` with ``rho = lambda sigma_y^2/sigma^2``; goes with `Renoise`.

    Args:
        strength: lambda, here with noise and levels in one unit. The paper's 3 to 25, most often 7, have the noise in
            that of images in [0, 1] and the levels in that of [-1, 1]: four times as much, so 7 is 7/4.
        iterations: conjugate-gradient steps of the proximal problem.

    Source: Zhu et al., 2023, arXiv 2305.08995, eq. 13.
    """

    def __init__(self, prior: Prior, measurement: Measurement, strength: float = 1.75, iterations: int = 10) -> None:
        super().__init__(prior, measurement)
        if strength <= 0 or iterations < 1:
            raise InputError(f"DiffPIR got strength {strength}, iterations {iterations}; expected > 0 and >= 1")
        self.equations = NormalEquations(measurement, "DiffPIR")
        self.strength, self.iterations = strength, iterations

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the proximal point."""
        return proximal(self.equations, self.denoise(x, sigma), sigma**2 / self.strength, self.iterations)
