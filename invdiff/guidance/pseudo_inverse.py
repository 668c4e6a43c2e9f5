"""``A^+ v``, the smallest image that explains v best: in closed form where the operator has one, else by iteration."""

from __future__ import annotations

from torch import Tensor

from invdiff.errors import InputError
from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator

__all__ = ["PseudoInverse"]

DAMPING = 1e-6  # of |A|^2: below what single precision resolves in A A^H


class PseudoInverse:
    """``v -> A^+ v`` for data ``(N, *range_shape)``; in image space it is ``argmin_d |A d - v|``, least |d|.

    Both are damped by a millionth of ``|A|^2``, so that noise is amplified 500 times at most. Without a closed form it
    is `iterations` conjugate-gradient steps on ``A^H A d = A^H v`` from 0, which reach the same point; stopped early
    they leave out what the data hardly determine.

    Raises:
        InputError: the operator is nonlinear, or iterations is below 1; `method` is named in the message.
    """

    def __init__(self, measurement: Measurement, method: str, iterations: int = 10) -> None:
        op = measurement.operator
        if not isinstance(op, LinearOperator):
            raise InputError(f"{method} needs a linear operator; got {op!r}")
        if iterations < 1:
            raise InputError(f"{method} got iterations = {iterations}; expected at least 1")
        self.op, self.iterations = op, iterations
        self.shift, self.closed = DAMPING * op.norm() ** 2, op.has_damped_inverse

    def __call__(self, v: Tensor) -> Tensor:
        """Return ``A^+ v``, shape ``(N, *domain_shape)``, zero outside the operator's support."""
        out = self.op.damped_inverse(v, self.shift) if self.closed else None
        if out is None:
            # A^H A may be singular: past convergence the iteration would amplify rounding along its null space.
            out = cg(
                lambda d: self.op.normal(d) + self.shift * d,
                self.op.adjoint(v),
                iterations=self.iterations,
                tolerance=1e-5,
            )
        return out if self.op.support is None else out * self.op.support
