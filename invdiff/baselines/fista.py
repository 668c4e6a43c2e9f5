"""Accelerated proximal gradients for ``f(x) + g(x)``, f quadratic: Beck and Teboulle, SIAM J. Imaging Sci. 2 (2009)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.linalg import Map, inner

__all__ = ["fista"]


def fista(
    precision: Map,
    information: Tensor,
    prox: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    curvature: Tensor,
    *,
    iterations: int,
) -> Tensor:
    """Minimise ``<x, N x>/2 - Re<x, b> + g(x)``.

    Momentum restarts where it points uphill (O'Donoghue and Candes, Found. Comput. Math. 15, 2015), for each
    example on its own. One application of N an iteration, and one before.

    Args:
        precision: ``x -> N x`` on batches, self-adjoint and positive semidefinite.
        information: b, shape ``(N, *event)``.
        prox: ``(v, t) -> argmin_x |x - v|^2 / 2 + t g(x)``, one t per example.
        start: first x, shape of b.
        curvature: estimate of the largest eigenvalue of N, one per example; raised where a step shows it too low.
        iterations: number of steps.
    """
    x, nx = start, precision(start)
    y, ny = x, nx
    t = torch.ones_like(curvature)
    rounding = (1e4 * torch.finfo(start.dtype).eps) ** 2
    for _ in range(iterations):
        new = prox(y - _per_example(1 / curvature, x) * (ny - information), 1 / curvature)
        n_new = precision(new)
        step, move = new - y, new - x
        size = inner(step, step)
        clear = size > rounding * inner(new, new)  # of a smaller step, the curvature seen would be rounding
        seen = inner(step, n_new - ny) / torch.where(clear, size, 1)
        curvature = torch.where(clear, torch.maximum(curvature, seen), curvature)
        t = torch.where(inner(step, move) < 0, 1, t)
        t_next = (1 + torch.sqrt(1 + 4 * t**2)) / 2
        beta = _per_example((t - 1) / t_next, x)
        y, ny = new + beta * move, n_new + beta * (n_new - nx)
        x, nx, t = new, n_new, t_next
    return x


def _per_example(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.real.dtype).reshape(-1, *(1,) * (like.ndim - 1))
