"""The algebra of linear operators: what ``A @ B``, ``A + B``, ``c * A``, ``A.H``, ``A[rows]`` and `stack` return."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator

__all__ = ["Adjoint", "Compose", "ComposeNonlinear", "Restrict", "Scale", "Stack", "Sum", "stack"]


class Adjoint(LinearOperator):
    """``A^H`` as an operator."""

    def __init__(self, op: LinearOperator) -> None:
        self.op = op
        self.domain_shape, self.range_shape = op.range_shape, op.domain_shape
        self.domain, self.range = op.range, op.domain
        self.n_problems = op.n_problems

    def _forward(self, x: Tensor) -> Tensor:
        return self.op._adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.op._forward(y)

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        return self.op

    def take(self, problems: Sequence[int]) -> Operator:
        return self.op.take(problems).H  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"{self.op!r}.H"


class Compose(LinearOperator):
    """``A B``: first `inner`, then `outer`."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        _match(outer.domain_shape, inner.range_shape, outer, inner)
        _match_kind(outer, inner)
        self.outer, self.inner = outer, inner
        self.domain_shape, self.range_shape = inner.domain_shape, outer.range_shape
        self.domain, self.range = inner.domain, outer.range
        self.range_mask, self.support = outer.range_mask, inner.support
        self.n_problems = max(outer.n_problems, inner.n_problems)

    def _forward(self, x: Tensor) -> Tensor:
        return self.outer._forward(self.inner._forward(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._adjoint(y))

    def _normal(self, x: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._normal(self.inner._forward(x)))

    def take(self, problems: Sequence[int]) -> Operator:
        return self.outer.take(problems) @ self.inner.take(problems)

    def state(self) -> dict[str, Any]:
        return {"outer": self.outer, "inner": self.inner}

    def __repr__(self) -> str:
        return f"({self.outer!r} @ {self.inner!r})"


class ComposeNonlinear(Operator):
    """``A(B(x))`` where either is nonlinear."""

    def __init__(self, outer: Operator, inner: Operator) -> None:
        _match(outer.domain_shape, inner.range_shape, outer, inner)
        _match_kind(outer, inner)
        self.outer, self.inner = outer, inner
        self.domain_shape, self.range_shape = inner.domain_shape, outer.range_shape
        self.domain, self.range = inner.domain, outer.range
        self.range_mask, self.support = outer.range_mask, inner.support
        self.n_problems = max(outer.n_problems, inner.n_problems)

    def _forward(self, x: Tensor) -> Tensor:
        return self.outer.forward(self.inner.forward(x))

    def take(self, problems: Sequence[int]) -> Operator:
        return self.outer.take(problems) @ self.inner.take(problems)

    def __repr__(self) -> str:
        return f"({self.outer!r} @ {self.inner!r})"


class Sum(LinearOperator):
    """``A + B``."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        _match(left.domain_shape, right.domain_shape, left, right)
        _match(left.range_shape, right.range_shape, left, right)
        if (left.domain, left.range) != (right.domain, right.range):
            raise DTypeError(f"cannot add {left!r} and {right!r}: their domains or ranges differ in real/complex")
        self.left, self.right = left, right
        self.domain_shape, self.range_shape = left.domain_shape, left.range_shape
        self.domain, self.range = left.domain, left.range
        self.n_problems = max(left.n_problems, right.n_problems)
        if left.support is not None and right.support is not None:
            self.support = left.support & right.support
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

    def __repr__(self) -> str:
        return f"({self.left!r} + {self.right!r})"


class Scale(LinearOperator):
    """``c A`` for a number c (complex only where the range is)."""

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

    def take(self, problems: Sequence[int]) -> Operator:
        return Scale(self.op.take(problems), self.scalar)  # type: ignore[arg-type]

    def state(self) -> dict[str, Any]:
        return {"op": self.op, "scalar": self.scalar}

    def __repr__(self) -> str:
        return f"{self.scalar} * {self.op!r}"


class Restrict(LinearOperator):
    """``A[rows]``: some of the data of A. An index keeps rows of the first range axis; a mask zeroes the others."""

    def __init__(self, op: LinearOperator, rows: Any) -> None:
        rows = torch.as_tensor(rows) if not isinstance(rows, slice) else torch.arange(op.range_shape[0])[rows]
        self.op, self.rows, self.support = op, rows, op.support
        self.domain_shape, self.domain, self.range = op.domain_shape, op.domain, op.range
        self.n_problems = op.n_problems
        if rows.dtype == torch.bool:
            try:
                torch.broadcast_to(rows, op.range_shape)
            except RuntimeError as error:
                raise ShapeError(
                    f"mask of shape {tuple(rows.shape)} does not broadcast to the range {op.range_shape} of {op!r}"
                ) from error
            self.range_shape = op.range_shape
            self.range_mask = rows if op.range_mask is None else rows & op.range_mask
        else:
            if rows.ndim != 1 or rows.dtype.is_floating_point or rows.is_complex():
                raise ShapeError(
                    f"{op!r}[rows] expects a 1-D integer index, a slice or a boolean mask; got {rows.dtype}"
                )
            if rows.numel() == 0 or int(rows.min()) < -op.range_shape[0] or int(rows.max()) >= op.range_shape[0]:
                raise ShapeError(f"rows of {op!r} must be between 0 and {op.range_shape[0] - 1} and not empty")
            rows = torch.where(rows < 0, rows + op.range_shape[0], rows)
            if torch.unique(rows).numel() != rows.numel():
                raise InputError(f"rows of {op!r} are given twice; a datum can be kept once only")
            self.rows = rows
            self.range_shape = (rows.numel(), *op.range_shape[1:])
            if op.range_mask is not None:
                self.range_mask = torch.broadcast_to(op.range_mask, op.range_shape)[rows]

    def _forward(self, x: Tensor) -> Tensor:
        y = self.op._forward(x)
        return y * self.rows if self.rows.dtype == torch.bool else y[:, self.rows]

    def _adjoint(self, y: Tensor) -> Tensor:
        if self.rows.dtype == torch.bool:
            return self.op._adjoint(y * self.rows)
        full = y.new_zeros(y.shape[0], *self.op.range_shape)
        full[:, self.rows] = y
        return self.op._adjoint(full)

    def take(self, problems: Sequence[int]) -> Operator:
        return Restrict(self.op.take(problems), self.rows)  # type: ignore[arg-type]

    def state(self) -> dict[str, Any]:
        return {"op": self.op, "rows": self.rows}

    def __repr__(self) -> str:
        return f"{self.op!r}[{self.range_shape}]"


class Stack(LinearOperator):
    """Several instruments looking at one x: their data, flattened and joined, shape ``(sum of sizes,)``."""

    def __init__(self, ops: Sequence[LinearOperator]) -> None:
        if not ops:
            raise InputError("stack expects at least one operator")
        first = ops[0]
        for op in ops[1:]:
            _match(first.domain_shape, op.domain_shape, first, op)
            if (op.domain, op.range) != (first.domain, first.range):
                raise DTypeError(f"cannot stack {first!r} and {op!r}: they differ in real/complex")
        self.ops = tuple(ops)
        self.domain_shape, self.domain, self.range = first.domain_shape, first.domain, first.range
        self.sizes = [math.prod(op.range_shape) for op in ops]
        self.range_shape = (sum(self.sizes),)
        self.n_problems = max(op.n_problems for op in ops)
        known = [op.support for op in ops if op.support is not None]
        self.support = torch.stack(torch.broadcast_tensors(*known)).all(0) if known else None
        if any(op.range_mask is not None for op in ops):
            parts = [
                torch.ones(n, dtype=torch.bool)
                if op.range_mask is None
                else torch.broadcast_to(op.range_mask, op.range_shape).reshape(-1)
                for op, n in zip(ops, self.sizes, strict=True)
            ]
            self.range_mask = torch.cat(parts)

    def _forward(self, x: Tensor) -> Tensor:
        return torch.cat([op._forward(x).flatten(1) for op in self.ops], 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        parts = [
            op._adjoint(part.reshape(-1, *op.range_shape))
            for op, part in zip(self.ops, y.split(self.sizes, 1), strict=True)
        ]
        return torch.stack(parts).sum(0)

    def split(self, y: Tensor) -> list[Tensor]:
        """Undo the joining: one tensor ``(N, *range_shape)`` for each operator."""
        return [p.reshape(-1, *op.range_shape) for op, p in zip(self.ops, y.split(self.sizes, 1), strict=True)]

    def to(self, target: torch.device | str | torch.dtype) -> Operator:
        out = Stack([op.to(target) for op in self.ops])  # type: ignore[misc]
        if out.range_mask is not None and not isinstance(target, torch.dtype):
            out.range_mask = out.range_mask.to(target)
        return out

    def _all_tensors(self) -> list[Tensor]:
        return [t for op in self.ops for t in op._all_tensors()]

    def take(self, problems: Sequence[int]) -> Operator:
        return Stack([op.take(problems) for op in self.ops])  # type: ignore[misc]

    def state(self) -> dict[str, Any]:
        return {f"op{i}": op for i, op in enumerate(self.ops)}

    def __repr__(self) -> str:
        return f"stack({', '.join(map(repr, self.ops))})"


def stack(ops: Sequence[LinearOperator]) -> Stack:
    """Join several instruments into one operator; their data are flattened and concatenated."""
    return Stack(ops)


def _match(a: tuple[int, ...], b: tuple[int, ...], left: Operator, right: Operator) -> None:
    if a != b:
        raise ShapeError(f"cannot combine {left!r} and {right!r}: shapes {a} and {b} differ")


def _match_kind(outer: Operator, inner: Operator) -> None:
    if outer.domain != inner.range:
        raise DTypeError(f"cannot compose {outer!r} with {inner!r}: {outer.domain} domain after {inner.range} range")
