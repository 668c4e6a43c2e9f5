"""Random fields: the building material of the procedural ground truths.

All lengths are in pixels and all fields are float32. A random state is always a ``torch.Generator``; its
draws are made on the CPU, so that a seed gives the same image on every machine.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = [
    "band_field",
    "choose",
    "cover",
    "grid",
    "line_distance",
    "smooth_field",
    "smooth_phase",
    "uniform",
]


def uniform(rng: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One number, uniform in [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def choose(rng: torch.Generator, probability: float) -> bool:
    """True with the given probability."""
    return uniform(rng) < probability


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates (x, y) with the centre at ``size // 2``; shapes (1, size) and (size, 1)."""
    line = torch.arange(size, dtype=torch.float32) - size // 2
    return line[None, :], line[:, None]


def cover(depth: Tensor, soft: float | Tensor = 1.0) -> Tensor:
    """Part of a pixel that a region covers: 0 outside, 1 inside, linear over ``soft`` pixels.

    ``depth`` is the signed distance to the region's edge in pixels, positive inside.
    """
    return (depth / soft + 0.5).clamp_(0.0, 1.0)


@lru_cache(maxsize=16)
def _modes(length: int, count: int) -> Tensor:
    """Cosines of 0, 1/2, 1, ... periods over the field, so that no field is periodic; (length, count)."""
    position = (torch.arange(length, dtype=torch.float32) + 0.5) / length
    return torch.cos(math.pi * position[:, None] * torch.arange(count, dtype=torch.float32))


def smooth_field(rng: torch.Generator, shape: tuple[int, ...], cutoff: float = 2.0) -> Tensor:
    """Gaussian random field with detail down to about ``1 / cutoff`` of the field of view.

    Returns float32 of ``shape`` = (..., h, w) with zero mean and unit variance in expectation. A separable
    cosine series with weights exp(-k^2 / (2 cutoff^2)), k in half periods, hence two small matrix products.
    """
    *batch, h, w = shape
    count = int(3.0 * cutoff) + 2
    weight = torch.exp(-0.5 * (torch.arange(count, dtype=torch.float32) / cutoff) ** 2)
    weight2 = weight[:, None] * weight[None, :]
    weight2[0, 0] = 0.0
    energy = torch.full((count,), 0.5)
    energy[0] = 1.0
    weight2 /= (weight2.square() * energy[:, None] * energy[None, :]).sum().sqrt()
    coefficient = torch.randn(*batch, count, count, generator=rng) * weight2
    field: Tensor = _modes(h, count) @ coefficient @ _modes(w, count).T
    return field


@lru_cache(maxsize=8)
def _radial_frequency(size: int) -> Tensor:
    fy, fx = torch.fft.fftfreq(size), torch.fft.rfftfreq(size)
    return torch.sqrt(fy[:, None] ** 2 + fx[None, :] ** 2)


def band_field(rng: torch.Generator, size: int, wavelength: float, bandwidth: float = 0.35) -> Tensor:
    """Periodic Gaussian random field around one wavelength (pixels), zero mean, unit variance; (size, size).

    The amplitude spectrum is exp(-log(f wavelength)^2 / (2 bandwidth^2)).
    """
    log_f = torch.log((_radial_frequency(size) * wavelength).clamp_(min=1e-6))
    amplitude = torch.exp(-0.5 * (log_f / bandwidth) ** 2)
    noise = torch.randn(size, size // 2 + 1, 2, generator=rng)
    field = torch.fft.irfft2(torch.view_as_complex(noise) * amplitude, s=(size, size))
    return field / field.std().clamp_(min=1e-12)


def line_distance(field: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distance (pixels, first order) to the zero level set of a field, and the gradient's size.

    distance = field / |grad field|, with the gradient bounded from below so that saddles stay finite.
    """
    gy = torch.zeros_like(field)
    gx = torch.zeros_like(field)
    gy[1:-1] = 0.5 * (field[2:] - field[:-2])
    gx[:, 1:-1] = 0.5 * (field[:, 2:] - field[:, :-2])
    slope = torch.sqrt(gx.square_().add_(gy.square_()))
    return field / slope.clamp(min=0.3 * float(slope.mean())), slope


def smooth_phase(rng: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Smooth random phase maps in radians, float32 of ``shape`` = (h, w) or (n, h, w).

    A constant (uniform on the circle) plus a quadratic polynomial plus a few low-frequency modes. The
    amplitude varies from map to map, log-uniform from about 0.05 to several radians across the field.
    """
    *batch, h, w = shape
    one = (*batch, 1, 1)
    y = torch.linspace(-1.0, 1.0, h)[:, None]
    x = torch.linspace(-1.0, 1.0, w)[None, :]
    strength = 0.05 * torch.exp(math.log(80.0) * torch.rand(one, generator=rng))
    c = torch.randn(5, *one, generator=rng) * 0.5
    basis = torch.stack([x.expand(h, w), y.expand(h, w), x * y, x**2 - 1 / 3 + 0 * y, y**2 - 1 / 3 + 0 * x])
    polynomial = (c.reshape(5, -1).T @ basis.reshape(5, -1)).reshape(*batch, h, w)
    constant = 2.0 * math.pi * torch.rand(one, generator=rng)
    modes = smooth_field(rng, (*batch, h, w), 1.5) * (0.6 * torch.rand(one, generator=rng))
    return constant + strength * (polynomial + modes)
