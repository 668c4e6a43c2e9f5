"""A prior made broader by fine texture that it does not know: for real data under a prior trained on drawings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.priors.base import Prior

__all__ = ["Textured"]


class Textured(Prior):
    """``x = u + e`` with u from a prior and white ``e ~ N(0, tau^2 I)``, exact for every prior.

    ``x + sigma n`` is u seen through noise of level ``s = sqrt(sigma^2 + tau^2)``, of which e is the share
    ``tau^2/s^2``:

        ``E[x | x + sigma n = z] = D(z, s) + (tau^2/s^2) (z - D(z, s))``.

    A prior that misses the finest detail of what is measured trusts itself too much: its draws hide their error, and
    its mean follows the data too little. Texture gives both back.

    Args:
        smooth: the prior of u.
        tau: standard deviation of e per real component, in the prior's unit; 0 changes nothing.

    Raises:
        InputError: tau is negative or not finite.
    """

    def __init__(self, smooth: Prior, tau: float) -> None:
        if not 0 <= tau < float("inf"):
            raise InputError(f"Textured got tau = {tau}; it expects a standard deviation of at least 0")
        self.smooth, self.tau = smooth, tau
        self._adopt()

    def _adopt(self) -> None:
        inner = self.smooth
        self.domain, self.sample_shape, self.units = inner.domain, inner.sample_shape, inner.units
        self.sigma_min, self.sigma_max, self.is_network = inner.sigma_min, inner.sigma_max, inner.is_network
        self.scale = math.hypot(inner.scale, self.tau)

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """As the inner prior does."""
        self.smooth.check(shape, domain)
        self._adopt()

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Return the prior on a device or in a precision."""
        return Textured(self.smooth.to(target), self.tau)

    def describe(self) -> dict[str, Any]:
        """The inner prior's, and tau."""
        return {**self.smooth.describe(), "prior_texture": self.tau}

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x0 + sigma n = x]``."""
        if self.tau == 0:
            return self.smooth.denoise(x, sigma)
        level = torch.sqrt(sigma**2 + self.tau**2)
        smooth = self.smooth.denoise(x, level)
        share = (self.tau / level) ** 2
        return torch.lerp(smooth, x, share.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)))
