"""Total variation from slice to slice by ADMM: ``(D x)_s = x_{s+1} - x_s``, nothing across the ends."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.linalg import Map, cg
from invdiff.priors.base import Prior
from invdiff.priors.blended import Blended
from invdiff.priors.slices import SlicePrior

__all__ = ["Split", "difference", "shrink", "slice_axis", "spread", "start", "sweep"]


class Split(NamedTuple):
    """What a sweep leaves to the next: d, the differences wanted, and u, the scaled multiplier of ``D x = d``."""

    d: Tensor
    u: Tensor


def slice_axis(prior: Prior) -> int | None:
    """The axis of a batch along which the prior's slices follow each other; None where it is a prior of all of x."""
    prior = prior.slices if isinstance(prior, Blended) else prior
    return 2 + prior.axis if isinstance(prior, SlicePrior) else None


def difference(x: Tensor, axis: int) -> Tensor:
    """``D x``, one entry shorter along the axis."""
    n = x.shape[axis] - 1
    return x.narrow(axis, 1, n) - x.narrow(axis, 0, n)


def spread(d: Tensor, axis: int) -> Tensor:
    """``D^H d``, one entry longer along the axis."""
    n = d.shape[axis]
    shape = [m + 1 if i == axis else m for i, m in enumerate(d.shape)]
    out = d.new_zeros(shape)
    out.narrow(axis, 1, n).add_(d)
    out.narrow(axis, 0, n).sub_(d)
    return out


def shrink(v: Tensor, threshold: float | Tensor) -> Tensor:
    """``argmin_d |d - v|^2/2 + threshold |d|``: the magnitude of each entry less by the threshold."""
    size = v.abs()
    return v * ((size - threshold).clamp_min(0) / size.clamp_min(torch.finfo(size.dtype).tiny))


def start(x: Tensor, axis: int) -> Split:
    """Zero variables for x ``(N, *event)``."""
    zero = torch.zeros_like(difference(x, axis))
    return Split(zero, zero)


def sweep(
    system: Map,
    rhs: Tensor,
    x: Tensor,
    split: Split,
    *,
    axis: int,
    rho: float | Tensor,
    threshold: float | Tensor,
    iterations: int,
) -> tuple[Tensor, Split]:
    """One sweep of ADMM for ``<x, M x>/2 - Re<x, b> + rho threshold |D x|_1``.

    ``x <- CG[(M + rho D^H D) x = b + rho D^H (d - u)]`` started at x; ``d <- shrink(D x + u, threshold)``;
    ``u <- u + D x - d``.

    Args:
        system: ``x -> M x``. rhs: b, ``(N, *event)``. x: where conjugate gradients start.
        split: d and u. axis: of the batch. rho: penalty; numbers, or one per example that broadcasts.
        threshold, iterations: see above.

    Source: S. Boyd et al., Found. Trends Mach. Learn. 3 (2011), scaled form.
    """
    b = rhs + rho * spread(split.d - split.u, axis)
    x = cg(lambda v: system(v) + rho * spread(difference(v, axis), axis), b, x, iterations=iterations)
    jump = difference(x, axis) + split.u
    d = shrink(jump, threshold)
    return x, Split(d, jump - d)
