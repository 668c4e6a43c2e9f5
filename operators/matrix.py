"""Dense matrices and the identity: the smallest operators, and the ones exact posteriors are known for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator

__all__ = ["Matrix", "Identity"]


class Matrix(LinearOperator):
    """``y = A x`` for a dense matrix A of shape ``(m, d)``, real or complex; x has shape ``(N, d)``.

    Raises:
        ShapeError: A is not two-dimensional. InputError: A holds NaN or infinity.
    """

    def __init__(self, matrix: Tensor | Sequence[Sequence[float]]) -> None:
        matrix = torch.as_tensor(matrix)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ShapeError(f"Matrix expects shape (m, d); got {tuple(matrix.shape)}")
        if not (matrix.is_floating_point() or matrix.is_complex()):
            matrix = matrix.to(torch.get_default_dtype())
        if not bool(torch.isfinite(matrix).all()):
            raise InputError("Matrix holds NaN or infinity; every entry must be finite")
        self.matrix = matrix
        self.range_shape, self.domain_shape = (matrix.shape[0],), (matrix.shape[1],)
        self.domain = self.range = "complex" if matrix.is_complex() else "real"

    def _forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.mT.to(x.dtype)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y @ self.matrix.conj().to(y.dtype)

    @classmethod
    def example(cls, rng: torch.Generator) -> Matrix:
        """Build a random complex 5 x 7 matrix."""
        return cls(torch.randn(5, 7, generator=rng, dtype=torch.complex64))

    def state(self) -> dict[str, Any]:
        """Return ``{"matrix": A}``."""
        return {"matrix": self.matrix}


class Identity(LinearOperator):
    """``y = x`` for events of the given shape, real or complex."""

    def __init__(self, shape: Sequence[int], domain: str = "real") -> None:
        if domain not in ("real", "complex"):
            raise InputError(f"Identity got domain {domain!r}; it expects 'real' or 'complex'")
        self.domain_shape = self.range_shape = tuple(int(n) for n in shape)
        self.domain = self.range = domain

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()

    def _normal(self, x: Tensor) -> Tensor:
        return x.clone()

    def column_energy(self) -> float:
        return 1.0

    row_energy = column_energy

    @classmethod
    def example(cls, rng: torch.Generator) -> Identity:
        """Build the identity on real 3 x 4 events."""
        del rng
        return cls((3, 4))

    def state(self) -> dict[str, Any]:
        """Return the shape and the kind."""
        return {"shape": list(self.domain_shape), "domain": self.domain}
