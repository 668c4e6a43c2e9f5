"""Multiplication of every entry by a weight of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator

__all__ = ["Diagonal"]


class Diagonal(LinearOperator):
    """``y = w x``, entry by entry.

    Args:
        weight: w, real or complex, of a shape that broadcasts to `shape`.
        shape: event shape of x and y.
        domain: ``"real"`` or ``"complex"``; a complex weight needs the latter.

    Raises:
        ShapeError: the weight does not broadcast. InputError: it holds NaN or infinity, or is complex on real x.
    """

    def __init__(self, weight: Tensor, shape: Sequence[int], domain: str = "real") -> None:
        weight, shape = torch.as_tensor(weight), tuple(int(n) for n in shape)
        if not (weight.is_floating_point() or weight.is_complex()):
            weight = weight.to(torch.get_default_dtype())
        fits = weight.ndim <= len(shape) and all(
            n in (1, full) for n, full in zip(weight.shape[::-1], shape[::-1], strict=False)
        )
        if not fits:
            raise ShapeError(f"Diagonal got a weight of shape {tuple(weight.shape)}; it must broadcast to {shape}")
        if domain not in ("real", "complex") or (weight.is_complex() and domain == "real"):
            raise InputError(
                f"Diagonal got domain {domain!r} and a weight of {weight.dtype}; expected 'real' or 'complex', complex"
                " for a complex weight"
            )
        if not bool(torch.isfinite(weight).all()):
            raise InputError("Diagonal got a weight that holds NaN or infinity; every entry must be finite")
        self.weight = weight
        self.domain_shape = self.range_shape = shape
        self.domain = self.range = domain

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"weight": self.weight}

    def _forward(self, x: Tensor) -> Tensor:
        return self.weight.to(x.dtype) * x

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.weight.conj().to(y.dtype) * y

    def column_energy(self) -> Tensor:
        return self.weight.abs() ** 2

    row_energy = column_energy

    @classmethod
    def example(cls, rng: torch.Generator) -> Diagonal:
        """Build complex weights of shape (3, 1) on 2 x 3 x 4 events."""
        return cls(torch.randn(3, 1, generator=rng, dtype=torch.complex64), (2, 3, 4), "complex")

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"weight": self.weight, "shape": list(self.domain_shape), "domain": self.domain}
