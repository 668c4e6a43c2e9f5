"""Total-variation regularised reconstruction of real or complex images."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.baselines.fista import fista
from invdiff.baselines.problem import Problem, planes, unplanes
from invdiff.measurement import Measurement

__all__ = ["tv", "tv_proximal"]


def tv(measurement: Measurement, strength: float, iterations: int = 100) -> Tensor:
    """Minimise ``|y - A x|^2 / (2 sigma^2) + strength TV(x) / s``.

    ``TV(x) = sum over pixels sqrt(sum over axes |x[next along the axis] - x|^2)``: isotropic, complex differences,
    none across the border. It runs over the axes after the first (channels, each on its own), or over the only one.
    s is the image scale of `invdiff.baselines.problem.Problem`. Solved by accelerated proximal gradients.

    Args:
        measurement: linear operator, Gaussian noise; real or complex.
        strength: dimensionless, above 0: the inverse of the typical difference of neighbours in units of s, which
            is of the order of 10 for images.
        iterations: proximal steps, one application of A^H A each.

    Returns:
        x, shape ``(1, *domain_shape)`` (``(problems, ...)`` where batched).

    Raises:
        InputError: as `Problem` says.

    Source: L. I. Rudin, S. Osher and E. Fatemi, Physica D 60 (1992); A. Beck and M. Teboulle, IEEE Trans. Image
    Process. 18 (2009) for the proximal step.
    """
    with torch.inference_mode():
        problem = Problem(measurement, strength, iterations, "tv")
        b = problem.information
        dual: Tensor | None = None
        inner = 10.0

        def prox(v: Tensor, t: Tensor) -> Tensor:
            # The last step's dual is close to this one's, so few inner steps suffice, more as the outer ones settle.
            nonlocal dual, inner
            x, dual = tv_proximal(v, t * strength / problem.scale, dual, iterations=int(inner))
            inner = min(50.0, inner + 0.2)
            return x

        return fista(problem.precision, b, prox, problem.start, problem.lipschitz(), iterations=iterations)


def tv_proximal(
    v: Tensor, weight: Tensor, dual: Tensor | None = None, *, iterations: int = 30
) -> tuple[Tensor, Tensor]:
    """Minimise ``|x - v|^2 / 2 + weight TV(x)`` by accelerated projected gradients on the dual.

    With D the differences, ``x = v - D^H p`` where p minimises ``|v - D^H p|^2`` over ``|p| <= weight`` at each pixel.

    Args:
        v: images ``(N, *event)``.
        weight: one per example, shape ``(N,)``.
        dual: where p starts, as returned by an earlier call; zero if not given.
        iterations: number of dual steps.

    Returns:
        x, shape of v, and p, shape ``(axes, N, planes, *event)``.
    """
    v = planes(v)
    axes = range(3 if v.ndim > 3 else 2, v.ndim)
    radius = weight.to(v.dtype).reshape(-1, *(1,) * (v.ndim - 1))
    p = v.new_zeros(len(axes), *v.shape) if dual is None else dual.clone()
    q, new, step, u = p.clone(), torch.empty_like(p), torch.zeros_like(p), torch.empty_like(v)
    t = 1.0
    for _ in range(iterations):
        _subtract_adjoint(v, q, axes, u)
        for d, axis in enumerate(axes):
            n = v.shape[axis] - 1
            torch.sub(u.narrow(axis, 1, n), u.narrow(axis, 0, n), out=step[d].narrow(axis, 0, n))
        torch.add(q, step, alpha=1 / (4 * len(axes)), out=new)  # |D|^2 <= 4 per axis
        size = new.square().sum((0, 2)).sqrt_()[:, None]  # over axes and planes
        new.mul_(radius / torch.maximum(size, radius))
        t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
        torch.sub(new, p, out=q)
        torch.add(new, q, alpha=(before - 1) / t, out=q)
        p, new = new, p
    _subtract_adjoint(v, p, axes, u)
    return unplanes(u), p


def _subtract_adjoint(v: Tensor, p: Tensor, axes: range, out: Tensor) -> None:
    """``out = v - D^H p``, with ``(D x)[i] = x[i + 1] - x[i]`` along each axis and 0 at its end."""
    out.copy_(v)
    for d, axis in enumerate(axes):
        n = v.shape[axis] - 1
        inside = p[d].narrow(axis, 0, n)
        out.narrow(axis, 1, n).sub_(inside)
        out.narrow(axis, 0, n).add_(inside)
