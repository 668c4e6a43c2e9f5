"""Weights of multistep rules: integrals of the polynomial through the last values, exact whatever the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

__all__ = ["combine", "exponential_weights", "integral_weights"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def integral_weights(
    points: Sequence[float], start: float, end: float, kernel: Callable[[np.ndarray], np.ndarray]
) -> list[float]:
    """Return ``w_j = int_start^end kernel(u) l_j(u) du``, l_j the Lagrange polynomials of `points`."""
    u = (start + end) / 2 + (end - start) / 2 * _NODES
    measure = _WEIGHTS * (end - start) / 2 * kernel(u)
    out = []
    for j, p in enumerate(points):
        basis = np.ones_like(u)
        for k, q in enumerate(points):
            if k != j:
                basis = basis * (u - q) / (p - q)
        out.append(float((measure * basis).sum()))
    return out


def exponential_weights(levels: Sequence[float], t: float, s: float) -> list[float]:
    """Return the w_j of ``x_s = (s/t) x_t + sum_j w_j D_j``, D_j the denoised images at `levels`, s and t noise levels.

    This solves ``dx/dlambda = D - x``, ``lambda = -log sigma``, exactly for D polynomial in lambda.
    """
    end = -math.log(s)
    return integral_weights([-math.log(v) for v in levels], -math.log(t), end, lambda u: np.exp(u - end))


def combine(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """Return ``sum_j w_j v_j``."""
    out = weights[0] * values[0]
    for w, v in zip(weights[1:], values[1:], strict=True):
        out = out.add(v, alpha=w)
    return out
