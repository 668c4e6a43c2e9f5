"""The Gaussian prior ``x0 ~ N(m, C)``, whose denoiser is known in closed form: the first judge of every sampler.

With ``C = U diag(l) U^H``, ``E[x0 | x0 + sigma n = x] = m + U diag(l / (l + sigma^2)) U^H (x - m)`` and
``Cov[x0 | x] = U diag(l sigma^2 / (l + sigma^2)) U^H``, which is sigma^2 times the denoiser's Jacobian.

Complex x is circular, and C counts **per real component** as sigma does: ``E[(x - m)(x - m)^H] = 2 C``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.priors.base import Prior

__all__ = ["GaussianPrior", "normal"]


class GaussianPrior(Prior):
    """``N(mean, covariance)`` over events of any shape, real or (circular) complex.

    Args:
        mean: shape ``(*event)``; its precision is that of `sample`.
        covariance: shape ``(d, d)``, d the number of entries of the flattened event; symmetric (Hermitian) and
            positive semidefinite; per real component.
        domain: ``"real"`` or ``"complex"``.

    The largest noise level is 40 prior deviations (`scale`, the root of the mean variance), or 10 of the widest
    direction if that is more; the smallest 0.002 deviations.

    Raises:
        ShapeError: the covariance is not ``(d, d)``. DTypeError: complex values for a real domain.
        InputError: values that are not finite, or a covariance that is not Hermitian or has negative variances.
    """

    sample_shape: tuple[int, ...]

    def __init__(self, mean: Tensor, covariance: Tensor, domain: str = "real") -> None:
        self.domain = _checked_domain("GaussianPrior", domain, mean, covariance)
        self.sample_shape = tuple(mean.shape)
        wide = torch.complex128 if domain == "complex" else torch.float64
        self.mean = mean.to(mean.dtype if mean.is_complex() or domain == "real" else mean.dtype.to_complex())
        size = mean.numel()
        if covariance.shape != (size, size):
            raise ShapeError(
                f"GaussianPrior got a covariance of shape {tuple(covariance.shape)}; a mean of shape"
                f" {self.sample_shape} expects ({size}, {size})"
            )
        self.variances, self.directions = _eigen("GaussianPrior", covariance.to(wide))
        self._mean = mean.to(wide).reshape(-1)
        self._copies: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor, Tensor]] = {}
        self.scale = math.sqrt(float(self.variances.mean()))
        self.sigma_min = 2e-3 * self.scale
        self.sigma_max = max(40 * self.scale, 10 * math.sqrt(float(self.variances[-1])))

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``m + C (C + sigma^2)^(-1) (x - m)`` for x ``(N, *event)``, sigma ``(1,)`` or ``(N,)``."""
        mean, variances, directions = self._at(x)
        gain = variances / _sum(variances, sigma.to(variances) ** 2)
        return (mean + ((x.flatten(1) - mean) @ directions.conj() * gain) @ directions.mT).reshape(x.shape)

    def covariance(self, x: Tensor, sigma: Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``v -> Cov[x0 | x] v`` for v ``(N, *event)``, per real component: sigma^2 times the exact Jacobian."""
        _, variances, directions = self._at(x)
        noise = sigma.to(variances)[:, None] ** 2
        spread = variances * noise / _sum(variances, sigma.to(variances) ** 2)

        def apply(v: Tensor) -> Tensor:
            return ((v.flatten(1) @ directions.conj() * spread) @ directions.mT).reshape(v.shape)

        return apply

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n exact draws, shape ``(n, *event)``, in the precision of the mean."""
        z = normal((n, self._mean.numel()), self._mean.dtype, rng)
        x = self._mean + (z * self.variances.sqrt()) @ self.directions.mT
        return x.to(self.mean.dtype).reshape(n, *self.mean.shape)

    def _at(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key = (x.dtype, x.device)
        if key not in self._copies:  # float64 stays the master; each precision and device is converted to once
            with torch.inference_mode(False):  # or a later call with gradients could not use the copies
                parts = self._mean.to(x), self.variances.to(x.device, x.real.dtype), self.directions.to(x)
            self._copies[key] = parts
        return self._copies[key]


def normal(shape: tuple[int, ...], dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    """Standard normal numbers, of variance 1 per real component, on the device of the generator."""
    if not dtype.is_complex:
        return torch.randn(shape, generator=rng, dtype=dtype, device=rng.device)
    pairs = torch.randn((*shape, 2), generator=rng, dtype=dtype.to_real(), device=rng.device)
    return torch.view_as_complex(pairs)


def _sum(variances: Tensor, noise: Tensor) -> Tensor:
    # A direction that does not vary stays at the mean even without noise: 0/0 is 0 here.
    return (variances + noise[:, None]).clamp_min(torch.finfo(variances.dtype).tiny)


def _checked_domain(name: str, domain: str, *values: Tensor) -> str:
    if domain not in ("real", "complex"):
        raise InputError(f"{name} got domain {domain!r}; it expects 'real' or 'complex'")
    for value in values:
        if value.is_complex() and domain == "real":
            raise DTypeError(f"{name} got {value.dtype} values for domain 'real'; say domain='complex'")
        if not (value.is_complex() or value.is_floating_point()):
            raise DTypeError(f"{name} got {value.dtype} values; it expects floating point")
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{name} got NaN or infinity; every value must be finite")
    return domain


def _eigen(name: str, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (ascending) and directions of covariances ``(..., d, d)`` in double precision."""
    size = float(covariance.abs().max())
    if float((covariance - covariance.mH).abs().max()) > 1e-6 * size:
        raise InputError(f"{name} got a covariance that is not symmetric (Hermitian); use (C + C.mH) / 2")
    variances, directions = torch.linalg.eigh((covariance + covariance.mH) / 2)
    if float(variances.min()) < -1e-6 * size or size == 0:
        raise InputError(f"{name} got a covariance with smallest variance {float(variances.min()):.3g}; expected > 0")
    return variances.clamp_min(0), directions
