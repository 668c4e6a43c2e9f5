"""Scores of a volume in its three planes: how it looks in slices that no two-dimensional prior has seen, too."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.metrics.image import psnr, ssim

__all__ = ["PLANES", "plane_scores", "planes_of", "roughness"]

# slices along z (feet to head), y (front to back), x (right to left)
PLANES = ("axial", "coronal", "sagittal")
_WINDOW = 7  # rows and columns that the structural similarity needs


def planes_of(affine: ArrayLike) -> tuple[str, str, str]:
    """What slices along each axis of a volume are called that stands as its affine says (to LPS, see `Volume`).

    An axis is named by the direction that it is nearest to; where two would share a name, all are named as `PLANES`.
    """
    nearest = np.abs(np.asarray(affine, float)[:3, :3]).argmax(0)  # 0: left, 1: back, 2: head
    found = tuple(PLANES[2 - int(k)] for k in nearest)
    return found if len(set(found)) == 3 else PLANES  # type: ignore[return-value]


def plane_scores(
    truth: Tensor, estimate: Tensor, planes: tuple[str, str, str] = PLANES
) -> dict[str, tuple[float, float | None]]:
    """PSNR in dB and SSIM of volumes ``(z, y, x)``, the mean over the slices of each plane, by `planes`' names.

    The range is the largest magnitude of the whole truth. Slices in which the truth is zero throughout are left out;
    where slices are smaller than 7 x 7, SSIM is None.

    Raises:
        ShapeError: the volumes differ in shape, or are none. InputError: as `invdiff.metrics.image`.
    """
    if truth.ndim != 3 or truth.shape != estimate.shape:
        raise ShapeError(
            f"truth has shape {tuple(truth.shape)} and estimate {tuple(estimate.shape)}; expected the same (z, y, x)"
        )
    span = float(truth.abs().max())
    found: dict[str, tuple[float, float | None]] = {}
    for axis, plane in enumerate(planes):
        pairs = [(a, b) for a, b in zip(truth.unbind(axis), estimate.unbind(axis), strict=True) if bool((a != 0).any())]
        ratios = [value for a, b in pairs if math.isfinite(value := psnr(a, b, span))]
        small = min(n for k, n in enumerate(truth.shape) if k != axis) < _WINDOW
        likeness = None if small else sum(ssim(a, b, span) for a, b in pairs) / len(pairs)
        found[plane] = (sum(ratios) / len(ratios) if ratios else math.inf, likeness)
    return found


def roughness(truth: Tensor, estimate: Tensor) -> float:
    """Power of the error at high frequencies along z over that along y and x, for volumes ``(z, y, x)``.

    Along each axis, the mean over all lines of the power beyond half the highest frequency. 1 or less: the error is as
    smooth from slice to slice as within slices. Where the truth itself is, divide by the same of the truth.

    Raises ShapeError.
    """
    if truth.ndim != 3 or truth.shape != estimate.shape:
        raise ShapeError(f"expected two volumes of one shape, got {tuple(truth.shape)} and {tuple(estimate.shape)}")
    error = (estimate - truth).to(torch.complex128 if truth.is_complex() else torch.float64)
    z, y, x = (_high(error, axis) for axis in range(3))
    return 2 * z / (y + x)


def _high(error: Tensor, axis: int) -> float:
    power = torch.fft.fft(error, dim=axis, norm="ortho").abs().square()
    n = error.shape[axis]
    k = torch.fft.fftfreq(n).abs()
    return float(power.index_select(axis, torch.nonzero(k > 0.25)[:, 0]).mean())
