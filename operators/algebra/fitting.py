"""What the algebra's classes share: whether operators fit together, and how they are written in a formula."""

from __future__ import annotations

from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.base import Operator

__all__ = ["common_problems", "factor", "match", "times"]


def match(a: tuple[int, ...], b: tuple[int, ...], left: Operator, right: Operator) -> None:
    """Raise ShapeError unless the two shapes are the same."""
    if a != b:
        raise ShapeError(f"cannot combine {left!r} and {right!r}: shapes {a} and {b} differ")


def common_problems(*ops: Operator) -> int:
    """The number of problems that operators hold together. Raises ShapeError where they differ in it."""
    counts = {op.n_problems for op in ops} - {1}
    if len(counts) > 1:
        raise ShapeError(f"cannot combine {', '.join(map(repr, ops))}: they hold {sorted(counts)} problems")
    return counts.pop() if counts else 1


def times(a: float, b: float | Tensor | None) -> float | Tensor | None:
    """A known energy times a number."""
    return None if b is None else a * b


def factor(op: Operator) -> str:
    """A formula as a factor of a product: sums and multiples in parentheses."""
    return f"({op._formula()})" if op._loose else op._formula()
