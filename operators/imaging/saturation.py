"""A detector that cannot go below or above its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.operators.base import Operator

__all__ = ["Saturation"]


class Saturation(Operator):
    """``y = min(max(x, low), high)``, entry by entry; the derivative is 1 between the limits and 0 beyond.

    ``Saturation(A.range_shape, high=1.0) @ A`` is a saturating instrument. Where the noise is added before the limits
    apply, `invdiff.quantised.Quantised` is the exact likelihood: it counts a saturated datum as "at least that much".

    Args:
        shape: event shape of x and y.
        low, high: the limits, in the unit of x; None for no limit on that side.

    Raises:
        InputError: low is not below high, or neither is given.
    """

    def __init__(self, shape: Sequence[int], low: float | None = None, high: float | None = None) -> None:
        bottom, top = -math.inf if low is None else float(low), math.inf if high is None else float(high)
        if not bottom < top or (low is None and high is None):
            raise InputError(f"Saturation got low {low}, high {high}; it expects low below high, and one at least")
        self.low, self.high = low, high
        self.domain_shape = self.range_shape = tuple(int(n) for n in shape)

    def _forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    @classmethod
    def example(cls, rng: torch.Generator) -> Saturation:
        """Build limits of -0.5 and 1 on 3 x 4 events."""
        del rng
        return cls((3, 4), -0.5, 1.0)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"shape": list(self.domain_shape), "low": self.low, "high": self.high}
