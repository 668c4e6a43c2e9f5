"""Some of the data: what ``A[rows]`` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator, word

__all__ = ["Restrict"]


class Restrict(LinearOperator):
    """``A[rows]``: some of the data of A. An index keeps rows of the first range axis; a mask zeroes the others."""

    def __init__(self, op: LinearOperator, rows: Any) -> None:
        try:
            rows = torch.as_tensor(range(op.range_shape[0])[rows] if isinstance(rows, slice) else rows)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ShapeError(
                f"{op!r}[rows] expects a 1-D integer index, a slice or a boolean mask; got {rows!r}"
            ) from error
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
            mask = op.whole_mask()
            if mask is not None:
                self.range_mask = mask[:, rows] if len(mask) > 1 else mask[0, rows]

    def _forward(self, x: Tensor) -> Tensor:
        y = self.op._forward(x)
        return y * self.rows if self.rows.dtype == torch.bool else y[:, self.rows]

    def _adjoint(self, y: Tensor) -> Tensor:
        if self.rows.dtype == torch.bool:
            return self.op._adjoint(y * self.rows)
        full = y.new_zeros(y.shape[0], *self.op.range_shape)
        full[:, self.rows] = y
        return self.op._adjoint(full)

    def row_energy(self) -> float | Tensor | None:
        rows = self.op.row_energy()
        if rows is None or self.n_problems > 1:
            return None
        if self.rows.dtype == torch.bool:
            return rows * self.rows.to(torch.float64)
        return rows if isinstance(rows, float) else torch.broadcast_to(rows, self.op.range_shape)[self.rows]

    def take(self, problems: Sequence[int]) -> Operator:
        return Restrict(self.op.take(problems), self.rows)  # type: ignore[arg-type]

    def state(self) -> dict[str, Any]:
        return {"op": self.op, "rows": self.rows}

    def _formula(self) -> str:
        if self.rows.dtype == torch.bool:
            kept = torch.broadcast_to(self.rows, self.range_shape)
            return f"{word(self.op)}[{int(kept.sum())}/{kept.numel()} data]"
        return f"{word(self.op)}[{self.range_shape[0]}/{self.op.range_shape[0]} rows]"
