"""Automatic differentiation of linear maps: the backward of a map is its adjoint, and the reverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["linear"]


def linear(x: Tensor, fn: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``fn(x)``, differentiated as a linear map whose adjoint is `back`; no intermediate is kept."""
    return _Apply.apply(x.contiguous(), fn, back)


class _Apply(torch.autograd.Function):
    """A linear map whose backward is its adjoint, so no intermediate is kept and higher derivatives work."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, fn: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
        return fn(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.fn, ctx.back = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Apply.apply(grads[0], ctx.back, ctx.fn), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _Apply.apply(tangents[0], ctx.fn, ctx.back)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, fn: Any, back: Any) -> tuple[Tensor, int]:
        x = x.movedim(in_dims[0], 0)
        out = _Apply.apply(x.reshape(-1, *x.shape[2:]), fn, back)
        return out.reshape(*x.shape[:2], *out.shape[1:]), 0
