"""Several instruments looking at one x: what `stack` returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError
from invdiff.operators.algebra.fitting import common_problems, match
from invdiff.operators.base import LinearOperator, Operator

__all__ = ["Stack", "StackNonlinear", "stack"]


class _Joined(Operator):
    """What `Stack` and `StackNonlinear` share: instruments looking at one x, their data flattened and joined."""

    ops: tuple[Operator, ...]

    def __init__(self, ops: Sequence[Operator]) -> None:
        if not ops:
            raise InputError("stack expects at least one operator")
        first = ops[0]
        for op in ops[1:]:
            match(first.domain_shape, op.domain_shape, first, op)
            if (op.domain, op.range) != (first.domain, first.range):
                raise DTypeError(f"cannot stack {first!r} and {op!r}: they differ in real/complex")
        self.ops = tuple(ops)
        self.domain_shape, self.domain, self.range = first.domain_shape, first.domain, first.range
        self.lengths = [math.prod(op.range_shape) for op in ops]
        self.range_shape = (sum(self.lengths),)
        self.exact_derivative = all(op.exact_derivative for op in ops)
        self.n_problems = common_problems(*ops)
        known = [op.support for op in ops if op.support is not None]
        if len(known) == len(ops):  # seen where any instrument sees
            self.support = torch.stack(torch.broadcast_tensors(*known)).any(0)
        masks = [op.whole_mask() for op in ops]
        known_masks = [m for m in masks if m is not None]
        if known_masks:
            most = max(map(len, known_masks))
            parts = [
                known_masks[0].new_ones(most, n) if m is None else m.flatten(1).expand(most, n)
                for m, n in zip(masks, self.lengths, strict=True)
            ]
            self.range_mask = torch.cat(parts, 1) if most > 1 else torch.cat(parts, 1)[0]

    def split(self, y: Tensor) -> list[Tensor]:
        """Undo the joining: one tensor ``(N, *range_shape)`` for each operator."""
        return [p.reshape(-1, *op.range_shape) for op, p in zip(self.ops, y.split(self.lengths, 1), strict=True)]

    def to(self, target: torch.device | str | torch.dtype) -> Operator:
        out = type(self)([op.to(target) for op in self.ops])
        if out.range_mask is not None and not isinstance(target, torch.dtype):
            out.range_mask = out.range_mask.to(target)
        return out

    def take(self, problems: Sequence[int]) -> Operator:
        return type(self)([op.take(problems) for op in self.ops])

    def state(self) -> dict[str, Any]:
        return {f"op{i}": op for i, op in enumerate(self.ops)}

    def _formula(self) -> str:
        return f"[{'; '.join(op._formula() for op in self.ops)}]"


class StackNonlinear(_Joined):
    """Several instruments of which one at least is nonlinear."""

    def _forward(self, x: Tensor) -> Tensor:
        return torch.cat([op.forward(x).flatten(1) for op in self.ops], 1)


class Stack(_Joined, LinearOperator):
    """Several linear instruments looking at one x, shape of the data ``(sum of sizes,)``."""

    ops: tuple[LinearOperator, ...]

    def _forward(self, x: Tensor) -> Tensor:
        return torch.cat([op._forward(x).flatten(1) for op in self.ops], 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        parts = self.split(y)
        out = self.ops[0]._adjoint(parts[0])
        for op, part in zip(self.ops[1:], parts[1:], strict=True):
            out = out + op._adjoint(part)
        return out

    def _normal(self, x: Tensor) -> Tensor:
        out = self.ops[0]._normal(x)
        for op in self.ops[1:]:
            out = out + op._normal(x)
        return out

    def column_energy(self) -> float | Tensor | None:
        total: float | Tensor = 0.0
        for op in self.ops:
            columns = op.column_energy()
            if columns is None:
                return None
            total = total + columns
        return total

    def _all_tensors(self) -> list[Tensor]:
        return [t for op in self.ops for t in op._all_tensors()]


def stack(ops: Sequence[Operator]) -> Stack | StackNonlinear:
    """Join several instruments into one operator; their data are flattened and concatenated."""
    linear = [op for op in ops if isinstance(op, LinearOperator)]
    return Stack(linear) if len(linear) == len(ops) else StackNonlinear(ops)
