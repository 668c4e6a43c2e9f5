"""Fourier sums at any points of k-space, and their adjoints: the two sums that non-Cartesian operators are made of.

``samples_m = sum_r image(r) exp(-2 pi i k_m . (r - n // 2))`` over the pixels r of a grid of ``n`` pixels along each
axis, with ``k`` in cycles per pixel. They are computed by finufft (Barnett, Magland and af Klinteberg, SIAM J. Sci.
Comput. 41, 2019, arXiv:1808.06736), always in double precision: in single precision the rounded phases at the edge of
a 256-pixel grid alone cost an error of 1e-5, for no gain in speed. Without finufft small problems are summed as they
stand. Either way the second function is the adjoint of the first to rounding, whatever the accuracy.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError, missing_extra

__all__ = ["canonical_trajectory", "to_image", "to_samples"]

DIRECT_LIMIT = 1 << 26  # points times pixels up to which the sums may be taken without finufft
_SMALL_GRID = 1e-8  # down to this accuracy the FFT grid may be 1.25 times the image rather than twice


def to_samples(images: Tensor, points: Tensor, accuracy: float) -> Tensor:
    """Return the sums for complex images ``(B, *spatial)`` at points ``(samples, dims)``: ``(B, samples)``.

    Raises:
        MissingExtraError: finufft is not installed and the sums are too many to be taken one by one.
    """
    plan = _plan(2, tuple(images.shape[1:]), len(images), points, accuracy)
    if plan is None:
        return _direct_samples(images, points)
    out = plan.execute(_array(images))
    return torch.from_numpy(out).reshape(len(images), -1).to(images)


def to_image(samples: Tensor, points: Tensor, shape: tuple[int, ...], accuracy: float) -> Tensor:
    """Return the adjoint of `to_samples` on samples ``(B, samples)``: ``(B, *shape)``.

    Raises:
        MissingExtraError: as `to_samples`.
    """
    plan = _plan(1, shape, len(samples), points, accuracy)
    if plan is None:
        return _direct_image(samples, points, shape)
    out = plan.execute(_array(samples))
    return torch.from_numpy(out).reshape(len(samples), *shape).to(samples)


def canonical_trajectory(trajectory: Tensor, name: str) -> Tensor:
    """Check a trajectory and return it as float64 ``(problems, samples, dims)`` on the CPU.

    Raises:
        ShapeError: it is not ``(samples, dims)`` or ``(problems, samples, dims)`` with 2 or 3 dims.
        DTypeError: it is not real. InputError: it holds NaN, or positions outside [-1/2, 1/2] cycles per pixel.
    """
    k = torch.as_tensor(trajectory)
    if k.ndim not in (2, 3) or k.shape[-1] not in (2, 3) or 0 in k.shape:
        raise ShapeError(
            f"{name} got a trajectory of shape {tuple(k.shape)}; it expects (samples, dims) or (problems, samples,"
            " dims) with dims 2 or 3: flatten spokes and readout into samples"
        )
    if k.is_complex():
        raise DTypeError(f"{name} got a complex trajectory; it expects real coordinates (k_y, k_x) on a last axis")
    k = k.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(k).all()):
        raise InputError(f"{name} got a trajectory that holds NaN or infinity; leave those samples out")
    reach = float(k.abs().max())
    if reach > 0.5 * (1 + 1e-6):  # rounding of single precision is let through: the sums are periodic
        raise InputError(
            f"{name} got a trajectory that reaches {reach:.4g}; it expects cycles per pixel, from -1/2 to 1/2: divide"
            " grid indices by the matrix size, rad/pixel by 2 pi, and 1/mm by 1 / pixel size"
        )
    return (k if k.ndim == 3 else k[None]).contiguous()


def _array(x: Tensor) -> Any:
    return x.detach().resolve_conj().to("cpu", torch.complex128).contiguous().numpy()


def _plan(kind: int, shape: tuple[int, ...], count: int, points: Tensor, accuracy: float) -> Any:
    """A plan of finufft for these points; None where it is absent and the sums are few."""
    try:
        import finufft
    except ImportError as error:
        if math.prod(shape) * len(points) <= DIRECT_LIMIT:
            return None
        raise missing_extra("finufft", "mri", f"a transform of {len(points)} points on a grid of {shape}") from error
    plan = finufft.Plan(
        kind,
        shape,
        count,
        accuracy,
        -1 if kind == 2 else 1,
        dtype="complex128",
        upsampfac=1.25 if accuracy >= _SMALL_GRID else 2.0,
        nthreads=torch.get_num_threads(),
    )
    plan.setpts(*(column.contiguous().numpy() for column in (2 * math.pi * points).unbind(1)))
    return plan


def _phases(points: Tensor, shape: tuple[int, ...], like: Tensor) -> list[Tensor]:
    """``exp(-2 pi i k (r - n // 2))`` of each axis, ``(samples, n)``."""
    turns = [torch.outer(points[:, d], torch.arange(n) - n // 2) for d, n in enumerate(shape)]
    return [torch.polar(torch.ones_like(t), -2 * math.pi * t).to(like) for t in turns]


def _direct_samples(images: Tensor, points: Tensor) -> Tensor:
    *others, last = _phases(points, tuple(images.shape[1:]), images)
    out = images @ last.mT  # (B, ..., samples)
    for phase in reversed(others):
        out = (out * phase.mT).sum(-2)
    return out


def _direct_image(samples: Tensor, points: Tensor, shape: tuple[int, ...]) -> Tensor:
    *others, last = _phases(points, shape, samples)
    out = samples
    for phase in others:
        out = out[..., None, :] * phase.conj().mT
    return out @ last.conj()
