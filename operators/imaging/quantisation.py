"""Rounding to a converter's steps, with a derivative that methods by gradient can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.operators.base import Operator

__all__ = ["Quantisation", "straight_through"]


class Quantisation(Operator):
    """``y = step * round(x / step)``; `jvp` and `vjp` are those of the identity (straight-through).

    The true derivative is 0 almost everywhere and tells a sampler nothing. Where the noise is added before the
    rounding, `invdiff.quantised.Quantised` is the exact likelihood and needs no stand-in: prefer it.
    Bengio, Léonard and Courville, 2013, arXiv 1308.3432 (straight-through estimator).

    Args:
        shape: event shape of x and y.
        step: distance of neighbouring levels, in the unit of x.

    Raises:
        InputError: the step is not above 0.
    """

    exact_derivative = False

    def __init__(self, shape: Sequence[int], step: float) -> None:
        if not 0 < step < math.inf:
            raise InputError(f"Quantisation got step {step}; it expects a finite number above 0, in the unit of x")
        self.step = float(step)
        self.domain_shape = self.range_shape = tuple(int(n) for n in shape)

    def _forward(self, x: Tensor) -> Tensor:
        return straight_through(x, torch.round(x / self.step) * self.step)

    @classmethod
    def example(cls, rng: torch.Generator) -> Quantisation:
        """Build steps of 0.25 on 3 x 4 events."""
        del rng
        return cls((3, 4), 0.25)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"shape": list(self.domain_shape), "step": self.step}


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """Return `value`, differentiated as if it were x."""
    # x - x is 0, so the value comes out to the bit; x + (value - x) would not.
    return value.detach() + (x - x.detach())
