"""A Gaussian of fields from few samples: empirical covariance, localised by distance, shrunk, of low rank and a tail.

A month has hundreds of states and a field thousands of values, so the sample covariance is made of few directions and
full of chance correlations. Correlations are multiplied by a function of distance (and of the time between two states
of a window) that vanishes beyond a reach; the product is positive semidefinite (Schur). What is kept of it is

    C = U (diag(l) - t) U^T + t I,

the r leading directions and one variance t for all the others, so that denoising costs two products with U.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.priors.base import Prior

__all__ = ["LowRankGaussian", "fit_low_rank", "gaspari_cohn", "great_circle"]

LARGEST = 12000  # values of x for which the covariance is formed; beyond it nothing is localised


class LowRankGaussian(Prior):
    """``N(0, U (diag(l) - t) U^T + t)`` over events of any shape, exact in every method.

    Args:
        directions: U, orthonormal, ``(d, r)``.
        variances: l, ``(r,)``, not below the tail.
        tail: t > 0.
        shape: of an event, d values.

    Raises:
        ShapeError: directions do not fit the shape. InputError: a variance is below the tail, or the tail not above 0.
    """

    sample_shape: tuple[int, ...]

    def __init__(self, directions: Tensor, variances: Tensor, tail: float, shape: Sequence[int]) -> None:
        self.sample_shape = tuple(int(n) for n in shape)
        if directions.shape != (math.prod(self.sample_shape), len(variances)):
            raise ShapeError(
                f"LowRankGaussian got directions {tuple(directions.shape)} and {len(variances)} variances for events"
                f" {self.sample_shape}"
            )
        if not tail > 0 or bool((variances < tail * (1 - 1e-6)).any()):
            raise InputError(f"LowRankGaussian got tail {tail:.3g}, least variance {float(variances.min()):.3g}")
        self.directions, self.variances, self.tail = directions, variances, float(tail)
        size = len(directions)
        self.scale = math.sqrt((float(variances.sum()) + (size - len(variances)) * self.tail) / size)
        self.sigma_min = 2e-3 * self.scale
        self.sigma_max = max(40 * self.scale, 10 * math.sqrt(float(variances.max())))

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``C (C + sigma^2)^-1 x`` for x ``(N, *event)``; sigma ``(1,)`` or ``(N,)``."""
        noise = sigma.to(x)[:, None] ** 2
        return self._apply(x, self.variances.to(x) / (self.variances.to(x) + noise), self.tail / (self.tail + noise))

    def covariance(self, x: Tensor, sigma: Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``v -> Cov[x0 | x] v = sigma^2 C (C + sigma^2)^-1 v``."""
        gains, rest = self.spread(sigma.to(x))
        return lambda v: self._apply(v, gains, rest)

    def spread(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Variances given x: of the directions ``(n, r)``, and of all others ``(n, 1)``; sigma ``(n,)``."""
        noise = sigma[:, None] ** 2
        kept = self.variances.to(sigma)
        return kept * noise / (kept + noise), self.tail * noise / (self.tail + noise)

    def coloured(self, z: Tensor) -> Tensor:
        """Return ``C^(1/2) z``: draws of the prior from white noise z ``(N, *event)``."""
        return self._apply(z, self.variances.sqrt().to(z)[None], math.sqrt(self.tail))

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n exact draws ``(n, *event)``."""
        z = torch.randn(n, *self.sample_shape, generator=rng, dtype=self.directions.dtype, device=rng.device)
        return self.coloured(z.to(self.directions.device))

    def to(self, target: torch.device | str | torch.dtype) -> LowRankGaussian:
        """Return a copy on a device or in a precision."""
        move = target if isinstance(target, torch.dtype) else torch.device(target)
        return LowRankGaussian(self.directions.to(move), self.variances.to(move), self.tail, self.sample_shape)

    def _apply(self, x: Tensor, gains: Tensor, rest: Tensor | float) -> Tensor:
        """``U diag(gains - rest) U^T x + rest x``."""
        u, flat = self.directions.to(x), x.flatten(1)
        return (((flat @ u) * (gains - rest)) @ u.mT + rest * flat).reshape(x.shape)


def fit_low_rank(
    samples: Tensor,
    shape: Sequence[int],
    rank: int,
    taper: Callable[[], Tensor] | None = None,
    shrink: float = 0.01,
    seed: int = 0,
) -> LowRankGaussian:
    """Fit ``N(0, C)`` to samples ``(T, d)`` without a mean.

    Args:
        samples: anomalies; float32 or float64.
        shape: of an event, d values.
        rank: r, directions that are kept.
        taper: makes the factors of localisation ``(d, d)``; None for none. With it d may not exceed 12000.
        shrink: share of each value's own variance that is added to it, as if uncorrelated: what the samples miss.
        seed: of the start of the subspace iteration.

    Raises:
        InputError: there are too few samples, or too many values to localise.
    """
    count, size = samples.shape
    if count < 2 or size != math.prod(shape):
        raise InputError(f"fit_low_rank got {count} samples of {size} values for events {tuple(shape)}")
    rank = min(rank, size - 1)
    own = samples.square().mean(0)
    total = float(own.sum()) * (1 + shrink)
    if taper is None:
        rank = min(rank, count)
        _, s, vt = torch.linalg.svd(samples / math.sqrt(count), full_matrices=False)
        values, vectors = s[:rank] ** 2, vt[:rank].mT
        values = values + shrink * ((vectors**2) * own[:, None]).sum(0)
    else:
        if size > LARGEST:
            raise InputError(f"localisation forms a covariance of {size} x {size}; at most {LARGEST}: leave it out")
        matrix = (samples.mT @ samples) / count
        matrix *= taper().to(matrix)
        matrix.diagonal().add_(shrink * own)
        values, vectors = _leading(matrix, rank, seed)
    # The trace is kept: what the directions leave is the tail's.
    tail = max((total - float(values.sum())) / (size - rank), 1e-6 * total / size)
    return LowRankGaussian(vectors.contiguous(), values.clamp_min(tail), tail, shape)


def gaspari_cohn(distance: Tensor, reach: float) -> Tensor:
    """The compactly supported correlation of Gaspari and Cohn (1999), eq. 4.10: 1 at 0, and 0 beyond `reach`."""
    r = 2 * distance / reach
    near = 1 + r**2 * (-5 / 3 + r * (5 / 8 + r * (1 / 2 - r / 4)))
    far = 4 + r * (-5 + r * (5 / 3 + r * (5 / 8 + r * (-1 / 2 + r / 12)))) - 2 / (3 * r.clamp_min(1e-9))
    return torch.where(r <= 1, near, torch.where(r < 2, far, 0.0)).clamp_min(0)


def great_circle(latitude: Tensor, longitude: Tensor) -> Tensor:
    """Distances in km between all points (degrees, flat lists), on a sphere of 6371 km."""
    lat, lon = latitude.double().deg2rad(), longitude.double().deg2rad()
    unit = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], 1)
    chord = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    return 2 * 6371.0 * torch.asin((chord / 2).clamp_max(1))


def _leading(matrix: Tensor, rank: int, seed: int, rounds: int = 6) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues, descending, and eigenvectors, by subspace iteration with a margin."""
    size = len(matrix)
    if 3 * rank >= size:
        values, vectors = torch.linalg.eigh(matrix)
        return values.flip(0)[:rank], vectors.flip(1)[:, :rank]
    rng = torch.Generator().manual_seed(seed)
    q = torch.randn(size, rank + max(10, rank // 8), generator=rng, dtype=matrix.dtype)
    for _ in range(rounds):
        q = torch.linalg.qr(matrix @ q).Q
    values, vectors = torch.linalg.eigh(q.mT @ (matrix @ q))
    return values.flip(0)[:rank], (q @ vectors).flip(1)[:, :rank]
