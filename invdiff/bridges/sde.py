"""The controlled diffusion ``dX = sigma_t^2 v(t, X) dt + sigma_t dW``, t from 0 to 1, and its base bridge (v = 0).

With kappa_t the integral of sigma^2 from 0 to t, K = kappa_1 and g = kappa_t / K, the base process pinned at both ends
is ``x_t ~ N((1 - g) x0 + g x1, K g (1 - g))`` (Liu et al. 2025, arXiv 2506.22565).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from invdiff.errors import InputError

__all__ = ["Constant", "Edm", "Geometric", "Schedule", "bridge", "centred", "simulate"]


class Schedule(Protocol):
    """A noise schedule: ``kappa(t)`` is the variance the base process has gathered by time t in [0, 1]."""

    def kappa(self, t: Tensor) -> Tensor: ...

    @property
    def total(self) -> float: ...


@dataclass(frozen=True)
class Constant:
    """sigma_t = sigma; kappa = sigma^2 t."""

    sigma: float

    def __post_init__(self) -> None:
        _positive(sigma=self.sigma)

    def kappa(self, t: Tensor) -> Tensor:
        """Return ``sigma^2 t``."""
        return self.sigma**2 * t

    @property
    def total(self) -> float:
        """Return ``kappa(1)``."""
        return self.sigma**2


@dataclass(frozen=True)
class Geometric:
    """sigma_t falls geometrically: ``kappa = high^2 (1 - (low/high)^(2 t))`` (Havens et al. 2025, arXiv 2504.11713)."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _positive(low=self.low, high=self.high)
        _falling(self.low, self.high)

    def kappa(self, t: Tensor) -> Tensor:
        """Return the variance gathered by time t."""
        return self.high**2 * (1 - (self.low / self.high) ** (2 * t))

    @property
    def total(self) -> float:
        """Return ``kappa(1) = high^2 - low^2``."""
        return self.high**2 - self.low**2


@dataclass(frozen=True)
class Edm:
    """``sigma_t = ((1 - t) high^(1/rho) + t low^(1/rho))^rho`` (Karras et al. 2022); kappa in closed form."""

    low: float
    high: float
    rho: float = 3.0

    def __post_init__(self) -> None:
        _positive(low=self.low, high=self.high, rho=self.rho)
        _falling(self.low, self.high)

    def kappa(self, t: Tensor) -> Tensor:
        """Return the variance gathered by time t."""
        a, b, power = self.high ** (1 / self.rho), self.low ** (1 / self.rho), 2 * self.rho + 1
        now = (1 - t) * a + t * b
        return (a**power - now**power) / ((a - b) * power)

    @property
    def total(self) -> float:
        """Return ``kappa(1)``; it is not ``high^2``."""
        return float(self.kappa(torch.ones((), dtype=torch.float64)))


def centred(x: Tensor) -> Tensor:
    """Take the mean over particles off x ``(N, particles, dim)``; what depends on distances alone has no use for it."""
    return x - x.mean(1, keepdim=True)


def bridge(
    x0: Tensor,
    x1: Tensor,
    t: Tensor,
    schedule: Schedule,
    rng: torch.Generator,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Draw the base process at times t ``(N,)`` given its ends x0, x1 ``(N, *event)``."""
    g = (schedule.kappa(t) / schedule.total).reshape(-1, *[1] * (x1.ndim - 1)).to(x1.dtype)
    noise = torch.randn(x1.shape, generator=rng, dtype=x1.dtype, device=x1.device)
    noise = noise if project is None else project(noise)
    return (1 - g) * x0 + g * x1 + (schedule.total * g * (1 - g)).clamp_min(0).sqrt() * noise


@torch.no_grad()
def simulate(
    control: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    schedule: Schedule,
    steps: int,
    rng: torch.Generator,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Integrate the controlled SDE from x0 ``(N, *event)`` at t = 0 to t = 1.

    ``x <- x + dk v(t, x) + sqrt(dk) noise`` with dk = kappa(t + dt) - kappa(t), uniform in t: exact where v = 0, Euler
    and Maruyama elsewhere.

    Args:
        control: v(t, x), t of shape ``(N,)``.
        x0: starting points.
        schedule: sigma_t.
        steps: Euler steps.
        rng: the noise.
        project: applied to x after every step (`centred` for clusters).
    """
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    growth = schedule.kappa(times).diff()
    x = x0
    for k in range(steps):
        t = torch.full((x.shape[0],), float(times[k]), dtype=x.dtype, device=x.device)
        noise = torch.randn(x.shape, generator=rng, dtype=x.dtype, device=x.device)
        dk = float(growth[k])
        x = x + dk * control(t, x) + math.sqrt(dk) * noise
        x = x if project is None else project(x)
    return x


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} is {value}; a noise schedule expects a finite number above 0")


def _falling(low: float, high: float) -> None:
    if not low < high:
        raise InputError(f"low is {low}, high is {high}; the noise falls from high to low, so high must be larger")
