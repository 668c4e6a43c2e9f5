"""Mixtures of Gaussians: the exact denoiser of a prior with several modes.

For ``p(x0) = sum_k w_k N(m_k, C_k)`` the noisy x has component k with probability
``r_k ~ w_k N(x; m_k, C_k + sigma^2)``, each component denoises as `GaussianPrior` does to d_k with covariance P_k, and
``E[x0 | x] = sum_k r_k d_k``, ``Cov[x0 | x] v = sum_k r_k (P_k v + (d_k - E) Re<d_k - E, v>)``. Covariances count per
real component; between the modes that of a complex x is linear over the real numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.priors.base import Prior
from invdiff.priors.gaussian import _checked_domain, _eigen, normal

__all__ = ["GaussianMixturePrior"]


class GaussianMixturePrior(Prior):
    """K Gaussians over events of any shape, real or (circular) complex.

    Args:
        weights: shape ``(K,)``, positive; they are normalised to sum to 1.
        means: shape ``(K, *event)``; its precision is that of `sample`.
        covariance: ``(d, d)`` for all components or ``(K, d, d)``, per real component: see `GaussianPrior`.
        domain: ``"real"`` or ``"complex"``.

    The largest noise level is 40 deviations (`scale`), or 10 of the widest direction if that is more, as there.

    Raises:
        ShapeError, DTypeError, InputError: as `GaussianPrior`.
    """

    sample_shape: tuple[int, ...]

    def __init__(self, weights: Tensor, means: Tensor, covariance: Tensor, domain: str = "real") -> None:
        self.domain = _checked_domain("GaussianMixturePrior", domain, weights.real, means, covariance)
        wide = torch.complex128 if domain == "complex" else torch.float64
        self.means = means.to(means.dtype if means.is_complex() or domain == "real" else means.dtype.to_complex())
        self.sample_shape = tuple(means.shape[1:])
        count, size = means.shape[0], math.prod(self.sample_shape)
        if weights.shape != (count,) or covariance.shape not in ((size, size), (count, size, size)):
            raise ShapeError(
                f"GaussianMixturePrior got weights {tuple(weights.shape)}, means {tuple(means.shape)} and covariance"
                f" {tuple(covariance.shape)}; {count} components of {size} entries expect ({count},) and"
                f" ({size}, {size}) or ({count}, {size}, {size})"
            )
        if weights.is_complex() or not bool((weights > 0).all()):
            raise InputError("GaussianMixturePrior got weights that are not above 0; leave such components out")
        self.weights = weights.to(torch.float64) / weights.to(torch.float64).sum()
        covariance = covariance.to(wide).reshape(-1, size, size)
        self.variances, self.directions = _eigen("GaussianMixturePrior", covariance)  # (K or 1, d), (K or 1, d, d)
        self._means = means.to(wide).reshape(count, size)
        middle = (self.weights[:, None] * self._means).sum(0)
        between = (self.weights[:, None] * (self._means - middle).abs() ** 2).sum() / (2 if domain == "complex" else 1)
        within = (self.weights * self.variances.sum(1)).sum() if len(self.variances) > 1 else self.variances.sum()
        self.scale = math.sqrt(float(within + between) / size)
        self.sigma_min = 2e-3 * min(self.scale, float(self.variances.mean()) ** 0.5)
        offsets = self.weights.sqrt()[:, None] * (self._means - middle)
        widest = float(torch.linalg.matrix_norm(offsets, 2)) ** 2 / (2 if domain == "complex" else 1)
        self.sigma_max = max(40 * self.scale, 10 * math.sqrt(float(self.variances.max()) + widest))

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``sum_k r_k(x) E[x0 | x, k]`` for x ``(N, *event)``, sigma ``(1,)`` or ``(N,)``."""
        if len(self.variances) == 1:
            return self._one_covariance(x, sigma)
        share, means, _, _ = self._parts(x, sigma)
        return (share[..., None] * means).sum(1).reshape(x.shape)

    def covariance(self, x: Tensor, sigma: Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``v -> Cov[x0 | x] v`` for v ``(N, *event)``, per real component: sigma^2 times the exact Jacobian."""
        share, means, variances, directions = self._parts(x, sigma)
        noise = sigma.to(variances).reshape(-1, 1, 1) ** 2
        spread = variances * noise / (variances + noise).clamp_min(torch.finfo(variances.dtype).tiny)
        offsets = means - (share[..., None] * means).sum(1, keepdim=True)

        def apply(v: Tensor) -> Tensor:
            flat = v.flatten(1)[:, None].expand(-1, share.shape[1], -1)
            inside = _turn(_turn(flat, directions.conj()) * spread, directions.mT)
            along = (offsets.conj() * flat).real.sum(-1, keepdim=True)
            return (share[..., None] * (inside + along * offsets)).sum(1).reshape(v.shape)

        return apply

    def responsibilities(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the probability of each component given x, shape ``(N, K)``."""
        return self._parts(x, sigma)[0]

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n exact draws, shape ``(n, *event)``, in the precision of the means."""
        index = torch.multinomial(self.weights.to(rng.device), n, replacement=True, generator=rng).cpu()
        z = normal((n, self._means.shape[1]), self._means.dtype, rng).cpu()
        one = len(self.variances) == 1
        spread = self.variances.sqrt()[0 if one else index] * z
        rotated = spread @ self.directions[0].mT if one else (self.directions[index] @ spread[..., None])[..., 0]
        return (self._means[index] + rotated).to(self.means.dtype).reshape(n, *self.sample_shape)

    def _one_covariance(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The same where all components share it: ``G x + (1 - G) sum_k r_k m_k``, without an array of N x K x d.

        In double precision, because ``r_k ~ w_k exp(Re<m_k, (C + sigma^2)^-1 (x - m_k/2)>)`` is a difference of large
        numbers.
        """
        turn = self.directions[0].to(x.device)
        plain = bool((turn == torch.eye(len(turn), dtype=turn.dtype, device=turn.device)).all())
        flat, means = x.flatten(1).to(turn.dtype), self._means.to(x.device)
        z, m = (flat, means) if plain else (flat @ turn.conj(), means @ turn.conj())
        variances = self.variances[0].to(x.device)
        noisy = variances + sigma.to(variances).reshape(-1, 1) ** 2  # (N or 1, d)
        noisy = noisy.clamp_min(torch.finfo(x.real.dtype).tiny)
        middle = 0.5 * ((1 / noisy) @ (m * m.conj()).real.mT)
        share = torch.softmax(((z / noisy) @ m.mH).real - middle + self.weights.to(x.device).log(), -1)
        centre = share.to(m.dtype) @ m
        out = centre + (z - centre) * (variances / noisy)
        return (out if plain else out @ turn.mT).to(x.dtype).reshape(x.shape)

    def _parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Responsibilities ``(N, K)``, component means given x ``(N, K, d)``, variances and directions."""
        means, directions = self._means.to(x.device, x.dtype), self.directions.to(x.device, x.dtype)
        variances = self.variances.to(x.device, x.real.dtype)
        noisy = variances + sigma.to(variances).reshape(-1, 1, 1) ** 2  # (N or 1, K or 1, d)
        noisy = noisy.clamp_min(torch.finfo(variances.dtype).tiny)
        offset = x.flatten(1)[:, None] - means  # (N, K, d)
        z = _turn(offset, directions.conj())
        parts = 2 if x.is_complex() else 1
        quadratic = ((z.real**2 + z.imag**2 if x.is_complex() else z**2) / noisy).sum(-1)
        logits = -0.5 * quadratic - 0.5 * parts * noisy.log().sum(-1) + self.weights.log().to(variances)
        inside = _turn(z * (variances / noisy), directions.mT)
        return torch.softmax(logits, -1), means + inside, variances, directions


def _turn(z: Tensor, matrices: Tensor) -> Tensor:
    """Rows ``(N, K, d)`` times the matrix of their component, ``(K or 1, d, d)``."""
    return z @ matrices[0] if len(matrices) == 1 else (z.transpose(0, 1) @ matrices).transpose(0, 1)
