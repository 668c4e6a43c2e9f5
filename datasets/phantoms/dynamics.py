"""Chaotic systems whose truth is known: Lorenz 1963 and 1996, and two-dimensional turbulence.

Time steps are classical Runge-Kutta of fourth order; states are batches ``(N, ...)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.errors import InputError

__all__ = ["lorenz63", "lorenz96", "trajectory", "turbulence"]

Step = Callable[[Tensor], Tensor]


def lorenz63(dt: float = 0.025, substeps: int = 2) -> Step:
    """A step of ``x' = 10 (y - x), y' = x (28 - z) - y, z' = x y - 8/3 z`` for states ``(N, 3)`` (Lorenz 1963)."""

    def slope(s: Tensor) -> Tensor:
        x, y, z = s.unbind(-1)
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)

    return _stepper(slope, dt, substeps)


def lorenz96(dt: float = 0.05, forcing: float = 8.0, substeps: int = 1) -> Step:
    """A step of ``x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F`` on a ring, states ``(N, d)``, d >= 4 (Lorenz 1996)."""

    def slope(x: Tensor) -> Tensor:
        return (x.roll(-1, -1) - x.roll(2, -1)) * x.roll(1, -1) - x + forcing

    return _stepper(slope, dt, substeps)


def turbulence(size: int = 64, dt: float = 0.02, viscosity: float = 1e-3, drag: float = 0.1, substeps: int = 4) -> Step:
    """A step of vorticity ``(N, size, size)`` on a torus of side 2 pi, driven as in Kolmogorov's flow.

    ``w' = -u . grad w + viscosity lap w - drag w - 4 cos(4 y)``, u from w by the stream function; products are formed
    on the grid and freed of the upper third of the wave numbers (Orszag 1971).
    """
    k = torch.fft.fftfreq(size, 1 / size)
    ky, kx = k[:, None], torch.fft.rfftfreq(size, 1 / size)[None]
    square = (kx**2 + ky**2).clamp_min(1.0)
    keep = (ky.abs() < size / 3) & (kx < size / 3)
    driven = -4 * torch.cos(4 * torch.arange(size) * (2 * math.pi / size))[:, None].expand(size, size)

    def slope(w: Tensor) -> Tensor:
        hat = torch.fft.rfft2(w)

        def back(v: Tensor) -> Tensor:
            return torch.fft.irfft2(v, s=(size, size))

        psi = hat / square
        u, v = back(1j * ky * psi), back(-1j * kx * psi)
        moved = u * back(1j * kx * hat) + v * back(1j * ky * hat)
        return back(keep * (-torch.fft.rfft2(moved) - (viscosity * square + drag) * hat)) + driven.to(w)

    return _stepper(slope, dt, substeps)


def trajectory(step: Step, x: Tensor, steps: int, noise: float = 0.0, rng: torch.Generator | None = None) -> Tensor:
    """States after 0 ... steps of a step, ``(steps + 1, *x.shape)``; with Gaussian noise added to each.

    Raises:
        InputError: noise without a generator, or a state that is no longer finite.
    """
    if noise and rng is None:
        raise InputError("trajectory got noise and no rng to draw it with")
    out = [x]
    for _ in range(steps):
        x = step(x)
        if noise:
            x = x + noise * torch.randn(x.shape, generator=rng, dtype=x.dtype)
        out.append(x)
    if not bool(torch.isfinite(x).all()):
        raise InputError("the trajectory is no longer finite: take a smaller dt or more substeps")
    return torch.stack(out)


def _stepper(slope: Step, dt: float, substeps: int) -> Step:
    h = dt / substeps

    def step(x: Tensor) -> Tensor:
        for _ in range(substeps):
            a = slope(x)
            b = slope(x + h / 2 * a)
            c = slope(x + h / 2 * b)
            d = slope(x + h * c)
            x = x + h / 6 * (a + 2 * b + 2 * c + d)
        return x

    return step
