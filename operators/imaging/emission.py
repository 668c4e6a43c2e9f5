"""Transmission: what is left of a beam after attenuation along its rays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator

__all__ = ["BeerLambert"]


class BeerLambert(Operator):
    """``y = b exp(-A x)``: expected intensities behind an attenuating object (Beer and Lambert), before any logarithm.

    A linear A of attenuations x (1/mm) over lengths (mm) makes the exponent a pure number; y has the unit of b. Data
    at low intensity should be used like this, with the noise of counts: their logarithm is biased.

    Args:
        op: A, real, linear.
        blank: b, the intensity without the object: a number, or a tensor that broadcasts to the range of A.

    Raises:
        DTypeError: A is nonlinear or complex. ShapeError: the blank does not broadcast. InputError: it is not above 0.
    """

    def __init__(self, op: LinearOperator, blank: float | Tensor = 1.0) -> None:
        if not isinstance(op, LinearOperator) or op.domain != "real" or op.range != "real":
            raise DTypeError(f"BeerLambert got {op!r}; it expects a real linear operator")
        values = torch.as_tensor(blank)
        values = values if values.is_floating_point() else values.to(torch.get_default_dtype())
        fits = values.ndim <= len(op.range_shape) and all(
            n in (1, full) for n, full in zip(values.shape[::-1], op.range_shape[::-1], strict=False)
        )
        if not fits:
            raise ShapeError(f"BeerLambert got blank {tuple(values.shape)}; it must broadcast to {op.range_shape}")
        if not bool(torch.isfinite(values).all()) or not bool((values > 0).all()):
            raise InputError("BeerLambert got a blank intensity that is not finite and above 0 everywhere")
        self.op, self.blank = op, values
        self.domain_shape, self.range_shape = op.domain_shape, op.range_shape
        self.range_mask, self.support, self.n_problems = op.range_mask, op.support, op.n_problems

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"op": self.op, "blank": self.blank, "range_mask": self.range_mask, "support": self.support}

    def _forward(self, x: Tensor) -> Tensor:
        y = self.blank.to(x.dtype) * torch.exp(-self.op.forward(x))
        return y if self.range_mask is None else y * self.range_mask

    def take(self, problems: Sequence[int]) -> Operator:
        return BeerLambert(self.op.take(problems), self.blank)  # type: ignore[arg-type]

    def _formula(self) -> str:
        return f"{type(self).__name__}({self.op._formula()})"

    @classmethod
    def example(cls, rng: torch.Generator) -> BeerLambert:
        """Build a small random matrix of lengths, a blank intensity a ray."""
        from invdiff.operators.matrix import Matrix

        return cls(Matrix(0.3 * torch.rand(5, 7, generator=rng)), 1 + torch.rand(5, generator=rng))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"op": self.op, "blank": self.blank}
