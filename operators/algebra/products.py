"""Products and adjoints: what ``A @ B`` and ``A.H`` return.

Products simplify where the structure says so: ``A.H @ A`` is `LinearOperator.gram` (a mask, a multiple of the identity
or one fused operator) and the identity disappears. Closed forms pass through scaled unitary factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from invdiff.errors import DTypeError
from invdiff.operators.algebra.fitting import common_problems, factor, match, times
from invdiff.operators.base import LinearOperator, Operator, word

__all__ = ["Adjoint", "Compose", "ComposeNonlinear", "Normal", "compose"]


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

    def column_energy(self) -> float | Tensor | None:
        return self.op.row_energy()

    def row_energy(self) -> float | Tensor | None:
        return self.op.column_energy()

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        return self.op

    def take(self, problems: Sequence[int]) -> Operator:
        return self.op.take(problems).H  # type: ignore[attr-defined]

    def state(self) -> dict[str, Any]:
        return {"op": self.op}

    def _formula(self) -> str:
        return f"{word(self.op)}^H"


class Normal(LinearOperator):
    """``A^H A``, applied by the fused `normal` of A."""

    def __init__(self, op: LinearOperator) -> None:
        self.op = op
        self.domain_shape = self.range_shape = op.domain_shape
        self.domain = self.range = op.domain
        self.support, self.n_problems = op.support, op.n_problems

    def _forward(self, x: Tensor) -> Tensor:
        return self.op._normal(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.op._normal(y)

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        return self

    def take(self, problems: Sequence[int]) -> Operator:
        return Normal(self.op.take(problems))  # type: ignore[arg-type]

    def state(self) -> dict[str, Any]:
        return {"op": self.op}

    def _formula(self) -> str:
        return f"{word(self.op)}^H @ {factor(self.op)}"


class _Chain(Operator):
    """What `Compose` and `ComposeNonlinear` share."""

    outer: Operator
    inner: Operator

    def __init__(self, outer: Operator, inner: Operator) -> None:
        match(outer.domain_shape, inner.range_shape, outer, inner)
        if outer.domain != inner.range:
            raise DTypeError(
                f"cannot compose {outer!r} with {inner!r}: {outer.domain} domain after {inner.range} range"
            )
        self.outer, self.inner = outer, inner
        self.domain_shape, self.range_shape = inner.domain_shape, outer.range_shape
        self.domain, self.range = inner.domain, outer.range
        self.range_mask, self.support = outer.range_mask, inner.support
        self.exact_derivative = outer.exact_derivative and inner.exact_derivative
        self.n_problems = common_problems(outer, inner)

    def take(self, problems: Sequence[int]) -> Operator:
        return type(self)(self.outer.take(problems), self.inner.take(problems))

    def state(self) -> dict[str, Any]:
        return {"outer": self.outer, "inner": self.inner}

    def _formula(self) -> str:
        return f"{factor(self.outer)} @ {factor(self.inner)}"


class ComposeNonlinear(_Chain):
    """``A(B(x))`` where either is nonlinear."""

    def _forward(self, x: Tensor) -> Tensor:
        return self.outer.forward(self.inner.forward(x))


class Compose(_Chain, LinearOperator):
    """``A B``: first `inner`, then `outer`."""

    outer: LinearOperator
    inner: LinearOperator

    def _forward(self, x: Tensor) -> Tensor:
        return self.outer._forward(self.inner._forward(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._adjoint(y))

    def _normal(self, x: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._normal(self.inner._forward(x)))

    def column_energy(self) -> float | Tensor | None:
        columns = self.outer.column_energy()
        return times(columns, self.inner.column_energy()) if isinstance(columns, float) else None

    def row_energy(self) -> float | Tensor | None:
        rows = self.inner.row_energy()
        return times(rows, self.outer.row_energy()) if isinstance(rows, float) else None

    def _damped(self, shift: float) -> Callable[[Tensor], Tensor] | None:
        own = super()._damped(shift)
        if own is not None:
            return own
        outer, inner = self.outer, self.inner
        a, b = outer.column_energy(), inner.row_energy()
        if isinstance(a, float) and a > 0:  # A^H A = a: the rest is B's
            rest = inner._damped(shift / a)
            return None if rest is None else lambda v: rest(outer._adjoint(v)) / a
        if isinstance(b, float) and b > 0:  # B B^H = b: the rest is A's
            first = outer._damped(shift / b)
            return None if first is None else lambda v: inner._adjoint(first(v)) / b
        return outer._damped_after(inner, shift)


def compose(outer: Operator, inner: Operator) -> Operator:
    """Return ``outer @ inner``, simplified. Raises ShapeError, DTypeError where they do not fit."""
    from invdiff.operators.matrix import Identity

    if not (isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator)):
        return ComposeNonlinear(outer, inner)
    product = Compose(outer, inner)  # checks that they fit
    if isinstance(outer, Adjoint) and outer.op is inner:
        return inner.gram()
    if isinstance(outer, Identity):
        return inner
    return outer if isinstance(inner, Identity) else product
