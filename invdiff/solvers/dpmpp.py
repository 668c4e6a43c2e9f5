"""Second order, one evaluation a step: DPM-Solver++(2M), as an ODE (eta = 0) or an SDE (eta = 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State

__all__ = ["DPMpp2M"]


class DPMpp2M:
    """Linear multistep in ``lambda = -log sigma`` on the denoised image.

    ``D = (1 + 1/2r) x0 - 1/(2r) x0_previous`` with ``r = h_previous/h``, ``h = log(t/s)``;
    ODE: ``x_s = (s/t) x_t + (1 - s/t) D``;
    SDE: ``x_s = (s/t) e^{-h} x_t + (1 - e^{-2h}) D + s sqrt(1 - e^{-2h}) z``. First and last steps are first order.
    Source: Lu et al., 2022, arXiv 2211.01095.
    """

    evaluations_per_step = 1

    def __init__(self, eta: float = 0.0) -> None:
        if eta not in (0.0, 1.0):
            raise InputError(f"DPMpp2M got eta = {eta}; it expects 0 (ODE) or 1 (SDE)")
        self.eta = eta
        self.name = "dpmpp2m" if eta == 0 else "dpmpp2m-sde"

    def steps(
        self, denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step."""
        total, first, before = len(sigmas) - 1, 0, None
        if resume is not None:
            x, first, before = resume.x, resume.step, resume.x0
        for i in range(first, total):
            t, s = sigmas[i], sigmas[i + 1]
            x0 = denoise(x, t)
            mean = x0
            if before is not None and s > 0:
                r = math.log(sigmas[i - 1] / t) / math.log(t / s)
                mean = x0 + (x0 - before) / (2 * r)
            ratio = s / t
            if self.eta == 0 or s == 0:
                x = ratio * x + (1 - ratio) * mean
            else:
                x = ratio**2 * x + (1 - ratio**2) * mean
                x = x.add(rng.normal(x), alpha=s * math.sqrt(1 - ratio**2))
            before = x0
            yield State(i + 1, total, s, x, x0)
