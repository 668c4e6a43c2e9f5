"""Noise grids in sigma, from sigma_max down to exactly 0."""

from __future__ import annotations

from invdiff.errors import InputError

__all__ = ["karras", "geometric"]


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


def _check(sigma_min: float, sigma_max: float, steps: int) -> None:
    if not 0 < sigma_min < sigma_max < float("inf"):
        raise InputError(f"sigma runs from {sigma_max} to {sigma_min}; expected 0 < sigma_min < sigma_max < infinity")
    if steps < 1:
        raise InputError(f"a grid of {steps} steps; expected at least 1")
