"""A prior in another unit: images of the user are ``shift + factor`` times those the prior knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.priors.base import Prior

__all__ = ["Affine"]


class Affine(Prior):
    """``x = shift + factor u`` with u from a prior.

    Exact: ``D(x, sigma) = shift + factor D_u((x - shift)/factor, sigma/factor)``.

    For example Hounsfield units with a network trained from -1 to 1 over -1024 to 3072: ``Affine(prior, 2048, 1024)``.

    Args:
        inner: the prior of u; it must not declare relative `units`, which would scale twice.
        factor: above 0. shift: a number (real, or complex for complex x).

    Raises InputError for a factor that is not above 0, or an inner prior with units.
    """

    def __init__(self, inner: Prior, factor: float, shift: complex = 0.0) -> None:
        if not 0 < factor < float("inf"):
            raise InputError(f"Affine got factor {factor}; it expects a number above 0")
        if inner.units is not None:
            raise InputError("Affine got a prior in relative units, to which measurements are scaled anyway")
        self.inner, self.factor, self.shift = inner, factor, shift
        self._adopt()

    def _adopt(self) -> None:
        inner = self.inner
        self.domain, self.sample_shape, self.is_network = inner.domain, inner.sample_shape, inner.is_network
        self.sigma_min, self.sigma_max = inner.sigma_min * self.factor, inner.sigma_max * self.factor
        self.scale = inner.scale * self.factor

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """As the inner prior does."""
        self.inner.check(shape, domain)
        self._adopt()

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Return the prior on a device or in a precision."""
        return Affine(self.inner.to(target), self.factor, self.shift)

    def describe(self) -> dict[str, Any]:
        """The inner prior's, with factor and shift."""
        return {**self.inner.describe(), "prior_factor": self.factor, "prior_shift": str(self.shift)}

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x0 + sigma n = x]``."""
        return self.shift + self.factor * self.inner.denoise((x - self.shift) / self.factor, sigma / self.factor)
