"""Noise grids in sigma, from sigma_max down to exactly 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from invdiff.errors import InputError

Grid = Callable[[float, float, int], list[float]]  # (sigma_min, sigma_max, steps) -> levels, descending, 0 last

__all__ = ["Grid", "at", "ddpm", "geometric", "karras", "refined"]


def karras(sigma_min: float, sigma_max: float, steps: int, rho: float = 7.0) -> list[float]:
    """Return steps + 1 levels: ``(max^(1/rho) + i/(steps-1) (min^(1/rho) - max^(1/rho)))^rho``, then 0.

    Source: Karras et al., 2022, arXiv 2206.00364, eq. 5. Raises InputError for a range or a count that is not one.
    """
    _check(sigma_min, sigma_max, steps)
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    if steps == 1:
        return [sigma_max, 0.0]
    return [(a + i / (steps - 1) * (b - a)) ** rho for i in range(steps)] + [0.0]


def geometric(sigma_min: float, sigma_max: float, steps: int) -> list[float]:
    """Return steps + 1 levels, equally spaced in log sigma, then 0. Raises InputError."""
    _check(sigma_min, sigma_max, steps)
    if steps == 1:
        return [sigma_max, 0.0]
    return [sigma_max * (sigma_min / sigma_max) ** (i / (steps - 1)) for i in range(steps)] + [0.0]


def ddpm(sigma_min: float, sigma_max: float, steps: int, power: float = 1.0) -> list[float]:
    """Return steps + 1 levels of the schedule whose variances grow linearly from 1e-4 to 0.02, then 0.

    ``sigma = c sqrt(e^{0.1 u + 9.95 u^2} - 1)`` in its time u, with c such that u = 1 is sigma_max. u falls from there
    to that of sigma_min as ``1 - (i/(steps-1))^power``: evenly, or for a power below 1 with more steps at small levels.

    Source: Ho et al., 2020, arXiv 2006.11239, in continuous time as Song et al., 2021, arXiv 2011.13456, appendix C.
    Raises InputError.
    """
    _check(sigma_min, sigma_max, steps)
    if power <= 0:
        raise InputError(f"power = {power}; expected above 0")
    if steps == 1:
        return [sigma_max, 0.0]
    c = sigma_max / math.sqrt(math.expm1(10.05))
    least = (math.sqrt(0.01 + 39.8 * math.log1p((sigma_min / c) ** 2)) - 0.1) / 19.9
    times = [1 - (1 - least) * (i / (steps - 1)) ** power for i in range(steps)]
    return [c * math.sqrt(math.expm1(0.1 * u + 9.95 * u * u)) for u in times] + [0.0]


def at(sigmas: Sequence[float], position: float) -> float:
    """The level at a fractional position of a grid, 0 to the last index above 0, by its logarithm between two levels.

    Raises InputError for a position outside.
    """
    last = len(sigmas) - 2
    if not 0 <= position <= last:
        raise InputError(f"position {position} of a grid whose levels above 0 are 0 to {last}")
    i = min(int(position), max(last - 1, 0))
    part = position - i
    return sigmas[i] if part == 0 else math.exp((1 - part) * math.log(sigmas[i]) + part * math.log(sigmas[i + 1]))


def refined(sigmas: Sequence[float], times: int) -> list[float]:
    """Return the grid with `times` steps for each of its own, geometric between two levels; the last, to 0, stays."""
    if times < 1:
        raise InputError(f"a grid refined {times} times; expected at least 1")
    last = len(sigmas) - 2
    return [at(sigmas, i / times) for i in range(last * times)] + [sigmas[last], 0.0]


def _check(sigma_min: float, sigma_max: float, steps: int) -> None:
    if not 0 < sigma_min < sigma_max < float("inf"):
        raise InputError(f"sigma runs from {sigma_max} to {sigma_min}; expected 0 < sigma_min < sigma_max < infinity")
    if steps < 1:
        raise InputError(f"a grid of {steps} steps; expected at least 1")
