"""Three neighbouring slices denoised together by a prior of single ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from invdiff.priors.base import Prior
from invdiff.priors.slices import SlicePrior

__all__ = ["Blended"]

_WINDOW = 7  # pixels, over which the change between slices is taken to have one variance
_CLEAR = 1.5  # times the noise that a contrast must show: three standard errors of a variance from 2 x 49 numbers


class Blended(Prior):
    """A volume as overlapping windows of three slices, each with one mean image and small changes about it.

    In a window with slices a, b, c the mean ``m = (a + b + c)/3`` is an image seen through noise of ``sigma/sqrt(3)``,
    and goes through the prior of images at that level. The changes ``x - m`` are shrunk as Gaussians of a variance v
    that the two orthonormal contrasts of the window show in a neighbourhood of 7 x 7 pixels, beyond the noise:

        ``E[x0 | x] ~ D(m, sigma/sqrt(3)) + v/(v + sigma^2) (x - m)``,   ``v = max(0, mean of contrasts^2 - sigma^2)``.

    A slice takes the mean of the (up to three) windows that hold it. In the spirit of DiffusionBlend (Song et al.,
    2024, arXiv 2406.10211), whose network sees three slices and was trained on them; averaging all its partitions into
    triples is what the overlap does here, and no network for triples is needed. One network evaluation a slice.

    Neighbours are taken to be alike where they do not visibly differ: draws spread less across slices than with
    independent ones, and their errors are correlated over a few slices (docs/volumes.md).

    Args:
        slices: the prior of the single slices.
    """

    def __init__(self, slices: SlicePrior) -> None:
        self.slices = slices
        self._adopt()

    def _adopt(self) -> None:
        inner = self.slices
        self.domain, self.units, self.scale = inner.domain, inner.units, inner.scale
        self.sigma_min, self.sigma_max = inner.sigma_min, inner.sigma_max

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """As the slices' prior does."""
        self.slices.check(shape, domain)
        self._adopt()

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Return the prior on a device or in a precision."""
        moved = self.slices.to(target)
        return Blended(moved) if isinstance(moved, SlicePrior) else moved

    def describe(self) -> dict[str, Any]:
        """The slices' prior's, and that it is blended."""
        return {**self.slices.describe(), "slices_blended": 3}

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x]`` in the approximation above, x ``(N, C, *spatial)``; alone, slices are as they were."""
        axis = 2 + self.slices.axis
        n = x.shape[axis]
        if n < 3:
            return self.slices.denoise(x, sigma)
        a, b, c = (x.narrow(axis, i, n - 2) for i in range(3))
        mean = (a + b + c) / 3
        clean = self.slices.denoise(mean, sigma / math.sqrt(3))
        noise = (sigma**2).to(x.real.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        kept = _kept(a, b, c, noise, axis, self.scale**2)
        out, windows = torch.zeros_like(x), x.real.new_zeros([n if i == axis else 1 for i in range(x.ndim)])
        for i, part in enumerate((a, b, c)):
            out.narrow(axis, i, n - 2).add_(torch.addcmul(clean, kept, part - mean))
            windows.narrow(axis, i, n - 2).add_(1)
        return out / windows


def _kept(a: Tensor, b: Tensor, c: Tensor, noise: Tensor, axis: int, limit: float) -> Tensor:
    """Share ``v/(v + sigma^2)`` of the changes that is kept, the shape of a."""
    parts = 2 if a.is_complex() else 1
    power = ((a - c).abs() ** 2 / 2 + (a - 2 * b + c).abs() ** 2 / 6) / (2 * parts)
    planes = power.movedim(axis, 2)
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    local = avg_pool2d(flat, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)
    seen = local.reshape(planes.shape).movedim(2, axis)
    v = torch.where(seen > _CLEAR * noise, seen - noise, 0).clamp_max(limit)
    return (v / (v + noise)).to(a.dtype)
