"""The prior's contract: one method, ``denoise(x, sigma) -> E[x0 | x0 + sigma n = x]``.

This is the variance-exploding view of every diffusion model: noise is added to x0 without shrinking it. A network
trained otherwise (variance-preserving, flow, velocity, noise prediction) is wrapped into it once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError

__all__ = ["CallablePrior", "Hounsfield", "Prior", "Units", "as_prior"]


@dataclass(frozen=True)
class Units:
    """The unit a prior's images are in: the `quantile` of their magnitude is about `value`.

    `invdiff.sample` multiplies the measurement by one number so that a first reconstruction fulfils this.
    """

    quantile: float
    value: float


@dataclass(frozen=True)
class Hounsfield:
    """The prior's images are Hounsfield units, shifted so that air is 0 and scaled: ``water (1 + HU/1000)``.

    That is attenuation over water's, so `invdiff.sample` multiplies a measurement of attenuation by
    ``water/mu_water``; the measurement's ``meta["mu_water_per_mm"]`` says mu_water, in 1/mm, at its effective energy.
    """

    water: float


class Prior:
    """What x looks like before the data.

    Attributes:
        domain: ``"real"`` or ``"complex"``: what x is.
        sample_shape: event shape, or None where the prior takes any size.
        sigma_min, sigma_max: noise range the denoiser is good for, in the unit of x, per real component.
        scale: standard deviation of x about its mean, per real component.
        units: how a measurement must be scaled for this prior; None where x is in the user's own unit.
        is_network: whether a denoising takes a deep network's memory.
    """

    domain: str = "real"
    sample_shape: tuple[int, ...] | None = None
    sigma_min: float = 2e-3
    sigma_max: float = 80.0
    scale: float = 1.0
    units: Units | Hounsfield | None = None
    is_network: bool = False

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x0 + sigma n = x]`` for x ``(N, *event)`` and sigma of shape ``(1,)`` or ``(N,)``."""
        raise TypeError(f"{type(self).__name__} does not define denoise(x, sigma)")

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Return the prior on a device or in a precision."""
        del target
        return self

    def describe(self) -> dict[str, Any]:
        """Name, hash and whatever else identifies the prior in a result's provenance."""
        return {"prior": type(self).__name__}

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """Raise ShapeError or DTypeError where this prior cannot stand for events of that shape and kind."""
        if domain != self.domain:
            raise DTypeError(f"the operator's x is {domain}, the prior {type(self).__name__} is for {self.domain} x")
        if self.sample_shape is not None and tuple(shape) != tuple(self.sample_shape):
            raise ShapeError(f"the operator's x has shape {tuple(shape)}, the prior's has {tuple(self.sample_shape)}")


class CallablePrior(Prior):
    """Any function ``(x, sigma) -> E[x0 | x]`` as a prior.

    What the function does not say about itself is measured: at a very high noise level the denoiser's slope is the
    prior's variance over sigma^2, which gives `scale`; sigma runs from ``2e-3 scale`` to ``40 scale``.

    Args:
        function: ``(x, sigma)`` with x ``(N, *event)`` and sigma of shape ``(1,)``.
        domain: what x is; None to take the operator's word.
        sigma_min, sigma_max, scale: known values, which are then not measured.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        domain: str | None = None,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        scale: float | None = None,
    ) -> None:
        self.function = function
        self._domain, self._given = domain, (sigma_min, sigma_max, scale)
        self.domain = domain or "real"

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Call the function and check what it returns."""
        out = self.function(x, sigma)
        if not isinstance(out, Tensor) or out.shape != x.shape:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ShapeError(f"the prior's denoiser returned {found}; it expects the shape of x, {tuple(x.shape)}")
        return out.to(x.dtype)

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """Adopt the operator's domain where none was given, then measure what was not declared."""
        if self._domain is None:
            self.domain = domain
        super().check(shape, domain)
        self._measure(shape)

    def describe(self) -> dict[str, Any]:
        """The function's name."""
        return {"prior": getattr(self.function, "__qualname__", type(self.function).__name__)}

    def _measure(self, shape: tuple[int, ...]) -> None:
        sigma_min, sigma_max, scale = self._given
        if scale is None:
            device = next((p.device for p in _parameters(self.function)), torch.device("cpu"))
            scale = _measured_scale(self.denoise, shape, self.domain, device)
        self.scale = scale
        self.sigma_min = 2e-3 * scale if sigma_min is None else sigma_min
        self.sigma_max = 40.0 * scale if sigma_max is None else sigma_max


def _measured_scale(
    denoise: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], domain: str, device: torch.device
) -> float:
    """Prior standard deviation from the slope of the denoiser at noise levels far above it.

    ``D(x + h u) - D(x) = (Cov / sigma^2) h u`` for large sigma; the level is lowered until it is 30 to 1000 times
    the deviation found, so that float32 still resolves the difference.
    """
    rng = torch.Generator().manual_seed(0)
    dtype = torch.complex64 if domain == "complex" else torch.float32
    n, u = (torch.randn(16, *shape, generator=rng, dtype=dtype) for _ in range(2))
    n, u = n.to(device), u.to(device)
    sigma = 1e4
    scale = 1.0
    with torch.no_grad():
        for _ in range(8):
            level = torch.full((1,), sigma, device=device)
            slope = denoise(sigma * (n + 0.5 * u), level) - denoise(sigma * (n - 0.5 * u), level)
            variance = float((slope.conj() * u).real.mean() / (u.conj() * u).real.mean()) * sigma
            if not math.isfinite(variance):
                raise InputError(f"the prior's denoiser returned NaN or infinity at sigma = {sigma:g}")
            scale = math.sqrt(max(variance, 1e-12))
            if sigma <= 1000 * scale:
                break
            sigma = max(100 * scale, sigma / 30)
    return scale


def _parameters(function: Any) -> list[Tensor]:
    return list(function.parameters()) if isinstance(function, torch.nn.Module) else []


def as_prior(prior: Any) -> Prior:
    """Return a prior as it is, and wrap a callable ``(x, sigma)``.

    Raises:
        DTypeError: it is neither.
    """
    if isinstance(prior, Prior):
        return prior
    if callable(prior):
        return CallablePrior(prior)
    raise DTypeError(f"prior is a {type(prior).__name__}; it expects a Prior, a callable (x, sigma) or a loaded prior")
