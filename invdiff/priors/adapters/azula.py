"""Denoisers of the azula library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import DTypeError
from invdiff.priors.adapters.network import NetworkPrior, adapted

__all__ = ["from_azula"]


class _Azula(nn.Module):
    """``x_t = alpha x``, and t where ``sigma_t/alpha_t`` is sigma: found by bisection in float64.

    azula's denoisers take one t for the whole batch; examples of different sigma go one by one.
    """

    def __init__(self, denoiser: nn.Module, inputs: dict[str, Any]) -> None:
        super().__init__()
        self.denoiser, self.inputs = denoiser, inputs

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        if bool((sigma == sigma[0]).all()):
            return self._at(x, sigma[0])
        return torch.cat([self._at(x[i : i + 1], sigma[i]) for i in range(len(x))])

    def _at(self, x: Tensor, sigma: Tensor) -> Tensor:
        time, alpha = self._time(sigma.double())
        mean: Tensor = self.denoiser(alpha.to(x) * x, time.to(x.dtype), **self.inputs).mean
        return mean.to(x.dtype)

    def _time(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.zeros_like(sigma), torch.ones_like(sigma)
        for _ in range(60):
            middle = (low + high) / 2
            alpha, noise = self.denoiser.schedule(middle)  # type: ignore[operator]
            below = noise / alpha < sigma
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return low, self.denoiser.schedule(low)[0]  # type: ignore[operator]


def from_azula(denoiser: nn.Module, *, inputs: dict[str, Any] | None = None, **declared: Any) -> NetworkPrior:
    """An azula ``Denoiser`` (with its ``schedule``) as a prior, in the unit of its training.

    Args:
        denoiser: ``(x_t, t) -> posterior`` with ``schedule(t) -> (alpha_t, sigma_t)``, time from 0 to 1.
        inputs: more arguments of each call (``label``, ``prompt`` ...).
        declared: see `NetworkPrior`; the range of sigma is the schedule's if not given.

    Raises DTypeError where it is no such denoiser.
    """
    if not isinstance(denoiser, nn.Module) or not callable(getattr(denoiser, "schedule", None)):
        raise DTypeError(f"from_azula got {type(denoiser).__name__}; it expects an azula Denoiser with a schedule")
    ends = [denoiser.schedule(torch.tensor(t, dtype=torch.float64)) for t in (0.0, 1.0)]  # type: ignore[operator]
    low, high = (float(noise / alpha) for alpha, noise in ends)
    known = {"sigma_min": max(low, 1e-3), "sigma_max": min(high, 1e3)}
    return adapted(_Azula(denoiser, dict(inputs or {})), {**known, **declared})
