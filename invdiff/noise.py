"""Noise models: how the data scatter about ``A(x)``. Sigma is the standard deviation per real component."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invdiff.errors import InputError

if TYPE_CHECKING:
    from invdiff.random import Streams

__all__ = ["Noise", "Gaussian"]


class Noise:
    """What a noise model offers; tensors are ``(N, *range_shape)`` and sums run over all data of an event."""

    def sample(self, clean: Tensor, rng: torch.Generator | Streams) -> Tensor:
        """Draw data about ``clean = A(x)``."""
        raise TypeError(f"{type(self).__name__} does not define sample()")

    def log_likelihood(self, y: Tensor, clean: Tensor, count: int) -> Tensor:
        """Return ``log p(y | A(x))`` for each event, shape ``(N,)``; `count` = number of data (complex once)."""
        raise TypeError(f"{type(self).__name__} does not define log_likelihood()")

    def whiten(self, residual: Tensor) -> Tensor:
        """Return the residual divided by its standard deviation."""
        raise TypeError(f"{type(self).__name__} does not define whiten()")


class Gaussian(Noise):
    """Independent normal noise: ``y = A(x) + sigma n``.

    Args:
        sigma: standard deviation per real component, in the unit of y; a number or a tensor that broadcasts to
            ``range_shape`` (or to ``(problems, *range_shape)``). On complex data ``E|n|^2 = 2 sigma^2``.

    Raises:
        InputError: sigma is negative, zero, NaN or infinite.
    """

    def __init__(self, sigma: float | Tensor) -> None:
        values = torch.as_tensor(sigma, dtype=None if isinstance(sigma, Tensor) else torch.float64)
        if values.is_complex() or not bool(torch.isfinite(values).all()) or not bool((values > 0).all()):
            raise InputError(f"Gaussian noise got sigma = {sigma}; it expects finite values above 0 (the unit of y)")
        self.sigma: float | Tensor = float(values) if values.numel() == 1 else values

    def sample(self, clean: Tensor, rng: torch.Generator | Streams) -> Tensor:
        """Return ``clean + sigma n``; complex where `clean` is."""
        if isinstance(rng, torch.Generator):
            shape = (*clean.shape, 2) if clean.is_complex() else tuple(clean.shape)
            n = torch.randn(shape, generator=rng, dtype=clean.real.dtype, device=rng.device).to(clean.device)
            n = torch.view_as_complex(n) if clean.is_complex() else n
        else:
            n = rng.normal(clean)
        return clean + self.sigma * n

    def variance(self, like: Tensor) -> float | Tensor:
        """Return sigma^2 per real component, on the device of `like`."""
        if isinstance(self.sigma, float):
            return self.sigma**2
        return self.sigma.to(like.device, like.real.dtype) ** 2

    def whiten(self, residual: Tensor) -> Tensor:
        """Return ``residual / sigma``."""
        return residual / (self.sigma if isinstance(self.sigma, float) else self.sigma.to(residual.device))

    def log_likelihood(self, y: Tensor, clean: Tensor, count: int) -> Tensor:
        """Return ``-|y - A x|^2 / (2 sigma^2) - k log(sqrt(2 pi) sigma)``, k = number of real data."""
        r = self.whiten(y - clean)
        quadratic = -0.5 * (r.real**2 + r.imag**2 if r.is_complex() else r**2).flatten(1).sum(1)
        real_count = count * (2 if y.is_complex() else 1)
        if isinstance(self.sigma, float):
            return quadratic - real_count * math.log(math.sqrt(2 * math.pi) * self.sigma)
        logs = torch.log(math.sqrt(2 * math.pi) * self.sigma).expand(y.shape[1:]).sum()
        return quadratic - logs.to(quadratic.device) * (2 if y.is_complex() else 1)

    def scaled(self, factor: float) -> Gaussian:
        """Return the noise of data multiplied by a number."""
        return Gaussian(self.sigma * abs(factor))

    def to(self, target: torch.device | str | torch.dtype) -> Gaussian:
        """Return a copy on a device or in a precision."""
        return self if isinstance(self.sigma, float) else Gaussian(self.sigma.to(target))
