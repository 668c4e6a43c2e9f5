"""Judging by data that were left out of a measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.validation.holdout import held_out, nrmse, predict, split

__all__ = ["HeldOut"]


class HeldOut:
    """Data left out of a measurement, and predictions of them; problems follow each other in one vector.

    Attributes:
        train: the measurement of the rest.
        y: the data that were left out, ``(count,)``.
        sigma: their noise level per real component, a number or ``(count,)``.

    Raises:
        InputError: the noise is not Gaussian, or see `split`.
    """

    def __init__(self, full: Measurement, fraction: float, seed: int = 0) -> None:
        self.train, held = split(full, fraction, seed)
        self._parts = []
        for p in range(full.n_problems):
            one = full.take([p])
            self._parts.append((one, held[p : p + 1] if held.shape[0] > 1 else held))
        self.y = torch.cat([held_out(one.data, held)[0] for one, held in self._parts])
        if not isinstance(full.noise, Gaussian):
            raise InputError(f"--holdout needs Gaussian noise, not {type(full.noise).__name__}")
        self.sigma: float | Tensor = full.noise.sigma
        if isinstance(self.sigma, Tensor):
            each = self.sigma.to(full.y.device).expand(full.data.shape)
            parts = [held_out(each[p : p + 1], held)[0] for p, (_, held) in enumerate(self._parts)]
            self.sigma = torch.cat(parts)

    def predictions(self, x: Tensor) -> Tensor:
        """Noise-free predictions ``(draws, count)`` by x ``(draws, problems, *event)``."""
        with torch.inference_mode():
            parts = [
                predict(one.operator, x[:, p].to(one.y.device), held)  # type: ignore[arg-type]
                for p, (one, held) in enumerate(self._parts)
            ]
        return torch.cat(parts, 1)

    def nrmse(self, x: Tensor) -> float:
        """Relative error of the prediction by one reconstruction ``(problems, *event)``."""
        return nrmse(self.y, self.predictions(x[None])[0])
