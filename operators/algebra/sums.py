"""Sums and multiples: what ``A + B``, ``A - B`` and ``c * A`` return; numbers multiply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from invdiff.errors import DTypeError
from invdiff.operators.algebra.fitting import common_problems, factor, match, times
from invdiff.operators.base import LinearOperator, Operator

__all__ = ["Scale", "Sum"]


class Sum(LinearOperator):
    """``A + B``."""

    _loose = True

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        match(left.domain_shape, right.domain_shape, left, right)
        match(left.range_shape, right.range_shape, left, right)
        if (left.domain, left.range) != (right.domain, right.range):
            raise DTypeError(f"cannot add {left!r} and {right!r}: their domains or ranges differ in real/complex")
        self.left, self.right = left, right
        self.domain_shape, self.range_shape = left.domain_shape, left.range_shape
        self.domain, self.range = left.domain, left.range
        self.n_problems = common_problems(left, right)
        if left.support is not None and right.support is not None:
            self.support = left.support | right.support
        if left.range_mask is not None and right.range_mask is not None:
            self.range_mask = left.range_mask | right.range_mask

    def _forward(self, x: Tensor) -> Tensor:
        return self.left._forward(x) + self.right._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.left._adjoint(y) + self.right._adjoint(y)

    def take(self, problems: Sequence[int]) -> Operator:
        return Sum(self.left.take(problems), self.right.take(problems))  # type: ignore[arg-type]

    def state(self) -> dict[str, Any]:
        return {"left": self.left, "right": self.right}

    def _formula(self) -> str:
        right = self.right._formula()
        return f"{self.left._formula()} - {right[1:]}" if right[0] == "-" else f"{self.left._formula()} + {right}"


class Scale(LinearOperator):
    """``c A`` for a number c (complex only where the range is)."""

    _loose = True

    def __init__(self, op: LinearOperator, scalar: complex) -> None:
        if isinstance(scalar, complex) and op.range != "complex":
            raise DTypeError(f"cannot multiply {op!r} by the complex number {scalar}: its range is real")
        self.op, self.scalar = op, scalar
        self.domain_shape, self.range_shape = op.domain_shape, op.range_shape
        self.domain, self.range = op.domain, op.range
        self.range_mask, self.support, self.n_problems = op.range_mask, op.support, op.n_problems

    def _forward(self, x: Tensor) -> Tensor:
        return self.scalar * self.op._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.op._adjoint(self.scalar.conjugate() * y)

    def _normal(self, x: Tensor) -> Tensor:
        return abs(self.scalar) ** 2 * self.op._normal(x)

    def column_energy(self) -> float | Tensor | None:
        return times(abs(self.scalar) ** 2, self.op.column_energy())

    def row_energy(self) -> float | Tensor | None:
        return times(abs(self.scalar) ** 2, self.op.row_energy())

    def _damped(self, shift: float) -> Callable[[Tensor], Tensor] | None:
        if self.scalar == 0:
            return lambda v: self._adjoint(v)
        square = abs(self.scalar) ** 2
        solve = self.op._damped(shift / square)
        return None if solve is None else lambda v: solve(self.scalar.conjugate() * v) / square

    def norm(self, iterations: int = 30, seed: int = 0) -> float:
        return abs(self.scalar) * self.op.norm(iterations, seed)

    def __mul__(self, scalar: complex) -> LinearOperator:
        merged = isinstance(scalar, (int, float, complex))
        return Scale(self.op, self.scalar * scalar) if merged else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> LinearOperator:
        return -1 * self

    def take(self, problems: Sequence[int]) -> Operator:
        return Scale(self.op.take(problems), self.scalar)  # type: ignore[arg-type]

    def state(self) -> dict[str, Any]:
        return {"op": self.op, "scalar": self.scalar}

    def _formula(self) -> str:
        if self.scalar == -1:
            return f"-{factor(self.op)}"
        number = str(self.scalar) if isinstance(self.scalar, complex) else f"{self.scalar:g}"
        return f"{number} {factor(self.op)}"
