"""A tomograph worked on some views at a time, so that no more than those are projected at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError
from invdiff.operators.base import LinearOperator
from invdiff.operators.ct.tomography import Tomography

__all__ = ["Streamed", "streamed"]


class Streamed(LinearOperator):
    """The same operator as a `Tomography` that walks its rays anew, in blocks of views.

    ``A^H A x`` is the sum over blocks of ``A_k^H A_k x``: the data of all views are never held for it. What is held
    beside x and the result are the data of one block. Values differ from the tomograph's by rounding.

    Args:
        op: the tomograph; one with a stored matrix has nothing to stream, its products need no room but y's.
        views: of a block.

    Raises:
        DTypeError: no tomograph. InputError: it has a matrix, or views is below 1.
    """

    def __init__(self, op: Tomography, views: int = 16) -> None:
        if not isinstance(op, Tomography):
            raise DTypeError(f"Streamed got {op!r}; it expects ParallelCT, FanCT or ConeCT")
        if op.has_matrix or views < 1:
            raise InputError(
                f"Streamed got views = {views} and a tomograph with{'' if op.has_matrix else 'out'} a matrix; it"
                " expects at least 1, and a tomograph made with backend 'numba', 'triton' or 'torch'"
            )
        self.op, self.views = op, views
        self.domain_shape, self.range_shape = op.domain_shape, op.range_shape
        self.domain, self.range = op.domain, op.range

    def weighted_normal(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return ``A^H (weight A x)``, the weight broadcasting to ``(N, *range_shape)``."""
        whole = weight.expand(torch.broadcast_shapes(weight.shape, (1, *self.range_shape)))
        out = torch.zeros_like(x)
        for first, part in self._parts():
            w = whole[:, first : first + part.range_shape[0]]
            out += part._adjoint(w * part._forward(x))
        return out

    def _forward(self, x: Tensor) -> Tensor:
        y = x.new_empty(x.shape[0], *self.range_shape)
        for first, part in self._parts():
            y[:, first : first + part.range_shape[0]] = part._forward(x)
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(y.shape[0], *self.domain_shape)
        for first, part in self._parts():
            x += part._adjoint(y[:, first : first + part.range_shape[0]].contiguous())
        return x

    def _normal(self, x: Tensor) -> Tensor:
        return self.weighted_normal(x, torch.ones(1, dtype=x.dtype, device=x.device))

    def _parts(self) -> Iterator[tuple[int, Tomography]]:
        op, g = self.op, self.op.geometry
        for first in range(0, g.views, self.views):
            block = slice(first, first + self.views)
            some = dataclasses.replace(g, angles=g.angles[block], z=g.z[block])
            part = Tomography.__new__(type(op))
            Tomography.__init__(part, some, op.unit, op.truncated, "torch", keep=False)  # which builds no matrix
            part.backend, part._home = op.backend, op._home
            yield first, part

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"op": self.op, "views": self.views}

    @classmethod
    def example(cls, rng: torch.Generator) -> Streamed:
        """Build nine views of 5 x 6 pixels, four at a time."""
        from invdiff.operators.ct.beams import ParallelCT

        angles = torch.rand(9, generator=rng, dtype=torch.float64) * 3
        return cls(ParallelCT((5, 6), angles, 11, backend="torch"), 4)


def streamed(operator: LinearOperator, memory: int) -> LinearOperator:
    """Return the operator; one streamed where it is a tomograph without a matrix whose data take a 16th of `memory`.

    Blocks are of as many views as take a 64th of the memory, at least one.
    """
    if not isinstance(operator, Tomography) or operator.has_matrix:
        return operator
    g = operator.geometry
    view = 4 * g.rows * g.channels
    if view * g.views < memory // 16:
        return operator
    return Streamed(operator, max(1, memory // 64 // view))
