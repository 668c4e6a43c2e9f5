"""Random inputs for an operator under test, in both precisions, and the measures its outputs are compared by."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import DTypeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.priors.gaussian import normal

__all__ = ["DOUBLE", "SINGLE", "Probe", "apart", "inner", "size_of"]

SINGLE, DOUBLE = torch.float32, torch.float64
_COMPLEX = {SINGLE: torch.complex64, DOUBLE: torch.complex128}


class Probe:
    """An operator, and a generator of inputs that fit it."""

    def __init__(self, op: Operator, rng: torch.Generator) -> None:
        self.op, self.rng = op, rng
        # A(i x) = i A x can be asked only where both sides are complex; elsewhere A is linear over the reals.
        self.complex_linear = op.domain == op.range == "complex"

    def at(self, dtype: torch.dtype) -> Operator:
        """The operator in a precision."""
        return self.op.to(dtype)

    def linear(self, dtype: torch.dtype) -> LinearOperator:
        """The same, as a linear operator. Raises DTypeError."""
        op = self.op.to(dtype)
        if not isinstance(op, LinearOperator):
            raise DTypeError(f"{op!r} says is_linear but is a {type(op).__name__}; derive from LinearOperator")
        return op

    def batch(self, n: int) -> int:
        """The batch size that stands in for n: the number of problems, where the operator holds several."""
        return n if self.op.n_problems == 1 else self.op.n_problems

    def x(self, dtype: torch.dtype, n: int) -> Tensor:
        """Standard normal x."""
        return normal((self.batch(n), *self.op.domain_shape), kind(dtype, self.op.domain), self.rng)

    def y(self, dtype: torch.dtype, n: int) -> Tensor:
        """Standard normal y, everywhere, also where nothing is measured."""
        return normal((self.batch(n), *self.op.range_shape), kind(dtype, self.op.range), self.rng)


def kind(dtype: torch.dtype, domain: str) -> torch.dtype:
    """The dtype of "real" or "complex" numbers in a precision."""
    return _COMPLEX[dtype] if domain == "complex" else dtype


def inner(a: Tensor, b: Tensor) -> Tensor:
    """``sum conj(a) b`` of each event in complex128, ``(N,)``."""
    return (a.to(torch.complex128).conj() * b.to(torch.complex128)).flatten(1).sum(1)


def size_of(a: Tensor) -> Tensor:
    """Euclidean norm of each event in double precision, ``(N,)``."""
    return torch.linalg.vector_norm(a.flatten(1).abs().to(DOUBLE), dim=1)


def apart(a: Tensor, b: Tensor) -> float:
    """Largest ``|a - b| / |b|`` over events; infinite where shape or kind differ, NaN where either holds NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    difference, size = size_of(a - b), size_of(b)
    return float((difference / size.clamp_min(torch.finfo(DOUBLE).tiny)).max())
