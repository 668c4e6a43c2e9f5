"""Batched iterative linear algebra: every example of a batch ``(N, *event)`` is a system of its own.

All maps are given as functions on the whole batch. Inner products run over one event, are summed in float64 and
give one scalar per example, so an example's result does not depend on its neighbours. With a fixed number of
iterations nothing is read back from the device; a tolerance costs one such read per iteration.

Complex tensors: ``<a, b> = sum conj(a) b``. Some maps on complex tensors are linear over the reals only (a denoiser's
Jacobian, say); the natural inner product is then ``Re<a, b>``, that of the real and imaginary parts as 2n real
numbers, and ``real=True`` asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["cg", "dot", "gmres", "hutchinson_trace", "inner", "lanczos", "power_norm"]

Map = Callable[[Tensor], Tensor]


def cg(
    apply: Map,
    rhs: Tensor,
    x0: Tensor | None = None,
    *,
    iterations: int,
    tolerance: float | None = None,
    real: bool = False,
) -> Tensor:
    """Solve ``A x = b`` by conjugate gradients, for A self-adjoint and positive (semi)definite.

    After k steps x minimises ``<x, A x>/2 - Re<x, b>`` over ``x0 + span(r, A r, ..., A^(k-1) r)``. An example that
    has converged, or meets a direction without positive curvature, keeps its x from then on.

    Args:
        apply: ``x -> A x`` on batches ``(N, *event)``.
        rhs: b, shape ``(N, *event)``, real or complex.
        x0: where to start, the same shape; zero (and one application of A less) if not given.
        iterations: number of steps, hence of applications of A.
        tolerance: an example stops at ``|b - A x| <= tolerance |b|``, the residual as the recurrence has it; the
            loop ends when all have.
        real: take ``Re<a, b>``. It changes nothing here: only ``Re<p, A p>`` is used, which is ``<p, A p>`` for a
            Hermitian A and the inner product wanted for one that is symmetric over the reals only.

    Returns:
        x, shape, dtype and device of `rhs`.

    Raises:
        ShapeError: x0 and rhs differ in shape. InputError: iterations is negative.

    Source: M. R. Hestenes and E. Stiefel, J. Res. Natl. Bur. Stand. 49 (1952).
    """
    del real
    _check(rhs, x0, iterations)
    r = rhs if x0 is None else rhs - apply(x0)
    x = torch.zeros_like(rhs) if x0 is None else x0
    p, rr = r, inner(r, r)
    # Below rounding the residual of a singular A lies where A sees nothing, and a step along it would be without bound.
    least = 4 * torch.finfo(rhs.real.dtype).eps
    stop = (least if tolerance is None else tolerance) ** 2 * inner(rhs, rhs)
    for _ in range(iterations):
        if tolerance is not None and bool((rr <= stop).all()):
            break
        ap = apply(p)
        curvature = inner(p, ap)
        active = (rr > stop) & (curvature > 0)
        step = torch.where(active, rr / torch.where(active, curvature, 1), 0)
        x, r = _axpy(step, p, x), _axpy(-step, ap, r)
        rr, before = torch.where(active, inner(r, r), 0), rr
        p = _axpy(rr / torch.where(active, before, 1), p, r)
    return x


def gmres(
    apply: Map,
    rhs: Tensor,
    x0: Tensor | None = None,
    *,
    iterations: int,
    real: bool = False,
) -> Tensor:
    """Solve ``A x = b`` for any square A by GMRES without restarts: k steps keep k + 1 vectors.

    After k steps x minimises ``|b - A x|`` over ``x0 + span(r, A r, ..., A^(k-1) r)``, the span taken over the complex
    numbers, or over the reals with ``real=True`` (needed where A is linear over the reals only).

    Args:
        apply: ``x -> A x`` on batches ``(N, *event)``.
        rhs: b, shape ``(N, *event)``, real or complex.
        x0: where to start, the same shape; zero if not given.
        iterations: k, meant to be small; an example that is solved earlier stays solved.
        real: see above; no difference on real tensors.

    Returns:
        x, shape, dtype and device of `rhs`.

    Raises:
        ShapeError: x0 and rhs differ in shape. InputError: iterations is negative.

    Source: Y. Saad and M. H. Schultz, SIAM J. Sci. Stat. Comput. 7 (1986).
    """
    _check(rhs, x0, iterations)
    r = rhs if x0 is None else rhs - apply(x0)
    x = torch.zeros_like(rhs) if x0 is None else x0
    size = inner(r, r).sqrt()
    small = 10 * torch.finfo(rhs.dtype).eps
    basis = [_axpy(_inverse(size), r)]
    columns: list[list[Tensor]] = []
    for k in range(iterations):
        w = apply(basis[k])
        before = inner(w, w).sqrt()
        column = [torch.zeros_like(inner(basis[0], w, real)) for _ in range(iterations + 1)]
        for _ in range(2):  # once leaves the basis orthogonal only to the square root of rounding
            for j, q in enumerate(basis):
                h = inner(q, w, real)
                column[j] = column[j] + h
                w = _axpy(-h, q, w)
        after = inner(w, w).sqrt()
        after = torch.where(after > small * before, after, 0)  # what is left is rounding: the space is exhausted
        column[k + 1] = after.to(column[0].dtype)
        columns.append(column)
        basis.append(_axpy(_inverse(after), w))
    if not columns:
        return x
    hessenberg = torch.stack([torch.stack(c, -1) for c in columns], -1)  # (N, k + 1, k)
    first = torch.zeros_like(hessenberg[..., :1])
    first[:, 0, 0] = size.to(first.dtype)
    # The pseudo-inverse gives zero weight to the directions after a breakdown, whose columns are zero.
    weights = (torch.linalg.pinv(hessenberg, rtol=small) @ first)[..., 0]
    for j in range(iterations):
        x = _axpy(weights[:, j], basis[j], x)
    return x


def power_norm(apply: Map, start: Tensor, *, iterations: int = 30) -> Tensor:
    """Largest eigenvalue of a self-adjoint positive semidefinite map, by power iteration from `start`.

    For ``apply = A^H A`` it is the squared norm of A. The Rayleigh quotient ``<x, A x>/<x, x>`` approaches it from
    below. Start from a random batch ``(N, *event)``; returns float64 of shape ``(N,)``, 0 where A x is 0.

    Raises:
        InputError: iterations is below 1.
    """
    if iterations < 1:
        raise InputError(f"power_norm got iterations = {iterations}; it expects at least 1")
    x = start
    for _ in range(iterations):
        x = _axpy(_inverse(inner(x, x).sqrt()), x)
        ax = apply(x)
        value = inner(x, ax)
        x = ax
    return value


def lanczos(apply: Map, start: Tensor, *, iterations: int = 30) -> float:
    """Largest eigenvalue of a self-adjoint map, the whole batch taken as one vector, by Lanczos from `start`.

    After k steps it is the largest ``<x, A x>/<x, x>`` over ``span(start, A start, ..., A^(k-1) start)``: from below,
    and in far fewer steps than `power_norm` where the spectrum is dense.

    Raises:
        InputError: iterations is below 1, the start is zero, or the map makes NaN or infinity.

    Source: C. Lanczos, J. Res. Natl. Bur. Stand. 45 (1950).
    """
    if iterations < 1:
        raise InputError(f"lanczos got iterations = {iterations}; it expects at least 1")
    diagonal: list[float] = []
    off: list[float] = []
    size = float(torch.linalg.vector_norm(start))
    if not size > 0:
        raise InputError("lanczos got a start of zero, or NaN; it expects a random vector")
    v, before, beta = start / size, torch.zeros_like(start), 0.0
    for _ in range(iterations):
        w = apply(v) - beta * before
        diagonal.append(float((w * v.conj()).real.sum()))
        before, w = v, w - diagonal[-1] * v
        beta = float(torch.linalg.vector_norm(w))
        if not math.isfinite(beta):
            raise InputError("lanczos got a map that makes NaN or infinity of numbers")
        if beta <= 1e-6 * max(map(abs, diagonal)):  # the space is exhausted
            break
        v = w / beta
        off.append(beta)
    sides = torch.tensor(off[: len(diagonal) - 1], dtype=torch.float64)
    tridiagonal = torch.tensor(diagonal, dtype=torch.float64).diag() + sides.diag(1) + sides.diag(-1)
    return float(torch.linalg.eigvalsh(tridiagonal)[-1])


def hutchinson_trace(apply: Map, probes: Iterable[Tensor]) -> Tensor:
    """Estimate the trace of a linear map by the mean of ``Re<v, A v>`` over random probes v.

    Args:
        apply: ``x -> A x`` on batches ``(N, *event)``.
        probes: tensors ``(N, *event)`` with independent entries of mean 0 and variance 1 (signs scatter least). On
            complex tensors ``E|v|^2 = 1`` per entry gives the real part of the complex trace; variance 1 per real
            component gives the trace over the 2n real components, which is what divergences need.

    Returns:
        Estimates, float64 of shape ``(N,)``; unbiased.

    Raises:
        InputError: there is no probe.

    Source: M. F. Hutchinson, Commun. Stat. Simul. Comput. 19 (1990).
    """
    values = [inner(v, apply(v)) for v in probes]
    if not values:
        raise InputError("hutchinson_trace got no probes; it expects at least one tensor of random signs")
    return torch.stack(values).mean(0)


def inner(a: Tensor, b: Tensor, real: bool = True) -> Tensor:
    """``Re<a, b>`` over each event, summed in float64, shape ``(N,)``; ``<a, b>`` in complex128 with ``real=False``."""
    dtype = torch.float32 if a.device.type == "mps" else torch.float64  # MPS has no float64
    if a.is_complex() and not real:
        return (a.conj() * b).flatten(1).sum(1, dtype=torch.complex64 if dtype == torch.float32 else torch.complex128)
    return (_components(a) * _components(b)).flatten(1).sum(1, dtype=dtype)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """``Re<a, b>`` over each event, ``(N,)``, in the tensors' own precision: a third of `inner`'s time."""
    return torch.linalg.vecdot(_components(a).flatten(1), _components(b).flatten(1))


def _components(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _axpy(c: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
    """``c x + y``, one number c per example."""
    c = c.to(x.dtype if c.is_complex() else x.real.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    return c * x if y is None else y + c * x


def _inverse(size: Tensor) -> Tensor:
    """``1 / size``, and 0 for 0."""
    return torch.where(size > 0, 1 / torch.where(size > 0, size, 1), 0)


def _check(rhs: Tensor, x0: Tensor | None, iterations: int) -> None:
    if x0 is not None and x0.shape != rhs.shape:
        raise ShapeError(f"x0 has shape {tuple(x0.shape)}; it expects that of rhs, {tuple(rhs.shape)}")
    if iterations < 0:
        raise InputError(f"iterations is {iterations}; it expects 0 or more")
