"""DPM-Solver-v3: the exponential integrator whose linear part is fitted to the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise
from invdiff.solvers.statistics import ModelStatistics

__all__ = ["DPMv3"]


class DPMv3(Stepwise):
    """Multistep on ``g``, what is left of the denoiser once its linear part and its expected drift are taken out.

    In ``lambda = -log sigma``, with model statistics l, s, b (see `statistics`), ``f = (1 - l) x - D`` and
    ``L = int l``, ``S = int s``, ``B = int e^-S b`` from lambda_t on: ``g = e^-S f - B`` varies least of all such
    forms, and

        ``x_s = e^-L(s) (x_t - int e^(L + S) (g + B) dlambda)``,

    g by the polynomial through its values at the last `order` levels (each with the S and B of its own level). Where
    f is zero, as for a Gaussian prior whose entries are its principal directions and statistics taken for each entry,
    any step is exact. With l = 1, s = b = 0 it is DPM-Solver++ with exact weights.

    Source: Zheng, Lu, Chen and Zhu, 2023, arXiv 2310.13268, eq. 9-14 and algorithm 2, without its corrector.
    """

    def __init__(self, statistics: ModelStatistics, order: int = 2) -> None:
        if not 1 <= order <= 3:
            raise InputError(f"DPMv3 got order = {order}; it expects 1 to 3")
        self.statistics, self.order, self.name = statistics, order, f"dpmv3-{order}"

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step; the memory is f at the last levels."""
        del rng
        i, x = state.step, state.x
        t, s = sigmas[i], sigmas[i + 1]
        x0 = denoise(x, t)
        if s == 0:
            return state.then(s, x0, x0)
        residuals = ((1 - self.statistics.at(t, x)[0]) * x - x0, *state.memory)
        residuals_used = residuals[: state.total - i]
        levels = [sigmas[i - j] for j in range(len(residuals_used))]
        values = [self._remainder(f, t, level) for f, level in zip(residuals_used, levels, strict=True)]
        nodes, big_l, big_s, big_b = self.statistics.integrals(t, s, x)
        growth = torch.exp(big_l + big_s)
        times = [-math.log(v) for v in levels]
        moved = torch.zeros_like(x)
        for j, value in enumerate(values):
            basis = torch.ones_like(nodes)
            for k, other in enumerate(times):
                if k != j:
                    basis = basis * (nodes - other) / (times[j] - other)
            shape = (-1, *[1] * (growth.ndim - 1))
            moved = moved + torch.trapezoid(growth * basis.reshape(shape).to(growth), nodes.to(growth), dim=0) * value
        drift = torch.trapezoid(growth * big_b, nodes.to(growth), dim=0)
        x_s = torch.exp(-big_l[-1]) * (x - moved - drift)
        return state.then(s, x_s.to(x.dtype), x0, residuals[: self.order - 1])

    def _remainder(self, f: Tensor, t: float, level: float) -> Tensor:
        """``e^-S f - B`` with S and B from t to `level`."""
        if level == t:
            return f
        _, _, big_s, big_b = self.statistics.integrals(t, level, f)
        return torch.exp(-big_s[-1]) * f - big_b[-1]
