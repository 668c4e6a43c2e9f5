"""Phase retrieval: the magnitude, or the intensity, of a linear map; the smallest nonlinear operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.matrix import Matrix

__all__ = ["PhaseRetrieval"]


class PhaseRetrieval(Operator):
    """``y = |A x|^p`` entry by entry, A linear, p = 1 (magnitude) or 2 (intensity); x and -x give the same data.

    The derivative along u is ``Re(conj(A x) A u) / |A x|`` or ``2 Re(conj(A x) A u)``; where ``A x = 0`` the magnitude
    has none and 0 is used. Noise may make a datum negative, which is not an error.

    Args:
        linear: A, real or complex; a Fourier transform for instance.
        power: p.

    Raises:
        DTypeError: A is not a LinearOperator. InputError: the power is neither 1 nor 2.
    """

    range = "real"

    def __init__(self, linear: LinearOperator, power: int = 1) -> None:
        if not isinstance(linear, LinearOperator):
            raise DTypeError(f"PhaseRetrieval got {linear!r}; it expects a LinearOperator such as Matrix")
        if power not in (1, 2):
            raise InputError(f"PhaseRetrieval got power {power}; it expects 1 (magnitude) or 2 (intensity)")
        self.linear, self.power = linear, power
        self.domain, self.domain_shape, self.range_shape = linear.domain, linear.domain_shape, linear.range_shape
        self.range_mask, self.support, self.n_problems = linear.range_mask, linear.support, linear.n_problems

    def _forward(self, x: Tensor) -> Tensor:
        z = self.linear.forward(x)
        if self.power == 1:
            return z.abs()
        return z.real**2 + z.imag**2 if z.is_complex() else z**2

    def take(self, problems: Any) -> Operator:
        """Return the operator of the given problems."""
        return self if self.n_problems == 1 else PhaseRetrieval(_taken(self.linear, problems), self.power)

    @classmethod
    def example(cls, rng: torch.Generator) -> PhaseRetrieval:
        """Build the magnitude of a random complex 9 x 5 matrix."""
        return cls(Matrix(torch.randn(9, 5, generator=rng, dtype=torch.complex64)))

    def state(self) -> dict[str, Any]:
        """Return ``{"linear": A, "power": p}``."""
        return {"linear": self.linear, "power": self.power}


def _taken(linear: LinearOperator, problems: Any) -> LinearOperator:
    taken = linear.take(problems)
    if not isinstance(taken, LinearOperator):
        raise DTypeError(f"{linear!r}.take gave {taken!r}, which is not linear")
    return taken
