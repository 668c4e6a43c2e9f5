"""A network that was trained on patches and their places, as a prior of whole images (PaDIS)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.priors.adapters.network import NetworkPrior, positions
from invdiff.priors.base import Prior

__all__ = ["Patchwise"]


class Patchwise(Prior):
    """Overlapping patches, each denoised on its own knowing where it lies; a pixel is the mean of what they say of it.

    For one tiling by independent patches that is the exact denoiser; the average over shifted tilings belongs to their
    product (Hu et al., 2024, arXiv 2406.02462, who draw one shift at each step and pad by zeros; here the shifts are
    fixed, so that the prior is a function, and the outermost patches end at the rim). The whole image at once, without
    tiles, is what the network's own `NetworkPrior` does.

    Args:
        network: trained with position channels (``data.position: true``).
        patch: side of the patches in pixels.
        overlap: patches start every ``patch / overlap`` pixels; the cost is about ``overlap^2`` times the image's.

    Raises InputError for a network without positions, or an overlap outside 1 to `patch`.
    """

    is_network = True

    def __init__(self, network: NetworkPrior, patch: int = 64, overlap: int = 2) -> None:
        if network.condition != "position":
            raise InputError("Patchwise needs a network that is told positions; train one with data.position: true")
        if not 1 <= overlap <= patch:
            raise InputError(f"Patchwise got overlap = {overlap}; expected 1 to the patch's {patch}")
        self.network, self.patch, self.overlap = network, patch, overlap
        self.domain, self.units, self.scale = network.domain, network.units, network.scale
        self.sigma_min, self.sigma_max = network.sigma_min, network.sigma_max

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """As the network does; images are no smaller than a patch."""
        self.network.check(shape, domain)
        if min(shape[1:]) < self.patch:
            raise ShapeError(f"the operator's x has shape {shape}; patches of {self.patch} pixels do not fit")

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Move the network (in place) and return the prior."""
        self.network.to(target)
        return self

    def describe(self) -> dict[str, Any]:
        """The network's, and how images are cut."""
        return {**self.network.describe(), "patch": self.patch, "overlap": self.overlap}

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised image ``(N, C, H, W)``."""
        size = tuple(x.shape[-2:])
        where = positions(size)
        total, count = torch.zeros_like(x), torch.zeros(size, dtype=x.real.dtype, device=x.device)
        for top in self._starts(size[0]):
            for left in self._starts(size[1]):
                at = (..., slice(top, top + self.patch), slice(left, left + self.patch))
                total[at] += self.network.given(where[at]).denoise(x[at].contiguous(), sigma)
                count[at] += 1
        return total / count

    def _starts(self, size: int) -> list[int]:
        last = size - self.patch
        step = self.patch / self.overlap
        return sorted({min(round(k * step), last) for k in range(math.ceil(last / step) + 1)})
