"""Simulated receive coils: smooth complex sensitivities of a ring of loops around the object."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.datasets.phantoms.fields import smooth_field, uniform
from invdiff.errors import InputError

__all__ = ["coil_maps"]


def coil_maps(rng: torch.Generator, n_coils: int, shape: tuple[int, int]) -> Tensor:
    """Receive sensitivities of ``n_coils`` loops around the field of view; complex64 (n_coils, h, w).

    A loop at distance d seen from a pixel gives about (1 + (d / width)^2)^(-3/2) in size and turns its phase
    with the direction, as a birdcage array does; positions, widths, gains and phases are perturbed. The maps
    are smooth and normalised everywhere: sum over coils of |S|^2 = 1.

    Raises InputError if ``n_coils`` or a side of ``shape`` is below 1.
    """
    h, w = shape
    if n_coils < 1 or min(h, w) < 1:
        raise InputError(f"coil_maps got n_coils={n_coils} and shape={tuple(shape)}; expected at least 1 of each.")
    y = torch.linspace(-1.0, 1.0, h)[:, None]
    x = torch.linspace(-1.0, 1.0, w)[None, :]
    first = uniform(rng, 0.0, 2.0 * math.pi)
    maps = []
    for coil in range(n_coils):
        angle = first + 2.0 * math.pi * (coil + uniform(rng, -0.2, 0.2)) / n_coils
        away = uniform(rng, 1.15, 1.5)  # 1 is the edge of the field of view
        away = away / max(abs(math.cos(angle)), abs(math.sin(angle)))  # on a square, so outside the corners
        dx, dy = x - away * math.cos(angle), y - away * math.sin(angle)
        width = uniform(rng, 0.7, 1.2)
        size = uniform(rng, 0.8, 1.25) * (1.0 + (dx**2 + dy**2) / width**2) ** -1.5
        size = size * torch.exp(0.08 * smooth_field(rng, (h, w), 1.2))
        turn = torch.atan2(dy, dx)  # its jump of 2 pi does not show; its vortex is the coil itself, out of view
        phase = uniform(rng, 0.0, 2.0 * math.pi) - turn + 0.2 * smooth_field(rng, (h, w), 1.2)
        maps.append(torch.polar(size, phase.expand(h, w).contiguous()))
    stack = torch.stack(maps)
    return stack / torch.sqrt((stack.abs() ** 2).sum(0))
