"""Columns of the atmosphere at other pressures: linear in ln p between the levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.fields.axes import axis_neighbours
from invdiff.operators.separable import Separable

__all__ = ["VerticalInterpolation"]


class VerticalInterpolation(Separable):
    """Fields ``(C, levels, *rest)`` at other pressures ``(C, targets, *rest)``, linear in ln p; a level is met exactly.

    Args:
        shape: event shape of x.
        levels: pressures of the field's levels, in either order.
        targets: pressures of the data, in the same unit (hPa, Pa).

    Raises:
        ShapeError: levels and shape differ. InputError: a pressure is not above 0 or NaN, levels are not monotone, or
            a target is outside them (nothing is extrapolated).
    """

    def __init__(
        self, shape: Sequence[int], levels: Sequence[float] | Tensor, targets: Sequence[float] | Tensor
    ) -> None:
        axis, wanted = (torch.as_tensor(v, dtype=torch.float64).cpu() for v in (levels, targets))
        if len(shape) < 2 or tuple(axis.shape) != (shape[1],) or not wanted.numel():
            raise ShapeError(
                f"VerticalInterpolation got levels {tuple(axis.shape)} and targets {tuple(wanted.shape)} for events"
                f" {tuple(shape)}; it expects ({shape[1] if len(shape) > 1 else '?'},) and (targets,)"
            )
        near = axis_neighbours(axis, wanted, "pressure", log=True)
        if not bool(near.inside.all()):
            bad = wanted[~near.inside].tolist()
            raise InputError(
                f"targets {bad[:5]} lie outside the levels {float(axis.min()):g} ... {float(axis.max()):g}; leave them"
                " out, and check that both are in the same unit (hPa or Pa)"
            )
        matrix = torch.zeros(len(wanted), len(axis)).scatter_add_(1, near.index, near.weight.float())
        super().__init__([matrix], shape, [1])
        self.levels, self.targets = axis.tolist(), wanted.tolist()

    @classmethod
    def example(cls, rng: torch.Generator) -> VerticalInterpolation:
        """Build four targets on five levels of two variables."""
        del rng
        return cls((2, 5, 3, 4), [1000.0, 850.0, 700.0, 500.0, 250.0], [925.0, 850.0, 600.0, 300.0])

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"shape": list(self.domain_shape), "levels": self.levels, "targets": self.targets}
