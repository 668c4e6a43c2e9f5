"""Hounsfield units and linear attenuation: ``HU = 1000 (mu - mu_water) / mu_water``, air at mu = 0."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from invdiff.errors import InputError

__all__ = ["MU_WATER", "from_hu", "to_hu"]

MU_WATER = 0.0206  # 1/mm at 60 keV; take the scanner's own value where a file gives it

Number = TypeVar("Number", float, Tensor)


def to_hu(mu: Number, mu_water: float = MU_WATER) -> Number:
    """Return Hounsfield units of an attenuation in 1/mm. Raises InputError where mu_water is not above 0."""
    return 1000 * (mu - _positive(mu_water)) / mu_water


def from_hu(hu: Number, mu_water: float = MU_WATER) -> Number:
    """Return the attenuation in 1/mm of Hounsfield units. Raises InputError where mu_water is not above 0."""
    return _positive(mu_water) * (1 + hu / 1000)


def _positive(mu_water: float) -> float:
    if not 0 < mu_water < 1:
        raise InputError(f"mu_water is {mu_water}; it expects the attenuation of water in 1/mm, about {MU_WATER}")
    return mu_water
