"""In how many directions an image can vary under the prior, read off the denoiser.

``Cov[x0 | x] = sigma^2 J``, J the Jacobian of the denoiser at noise level sigma: its eigenvalue is near 1 along
directions in which the prior varies by more than sigma, near 0 across them. Their number is the rank of J to 1/2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.priors.base import Prior, as_prior

__all__ = ["LocalDimension", "local_dimension"]


@dataclass(frozen=True)
class LocalDimension:
    """What `local_dimension` found.

    Args:
        dimension: number of eigenvalues above 1/2 at each image, ``(N,)``.
        at_least: whether all that were looked for are above, so that the dimension may be larger, ``(N,)``.
        eigenvalues: the largest ones, descending, ``(N, k)``.
    """

    dimension: Tensor
    at_least: Tensor
    eigenvalues: Tensor


def local_dimension(
    prior: Prior | Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigma: float,
    rng: torch.Generator,
    most: int = 32,
    powers: int = 2,
) -> LocalDimension:
    """Count the directions in which the prior varies by more than sigma at x.

    A randomised range finder: ``Y = J^T Omega`` with `most` random probes, `powers` more products with an orthonormal
    basis of what was found, and the eigenvalues of ``Q^T J^T Q``, J's symmetric part. ``most (powers + 2)``
    vector-Jacobian products of one evaluation. Re and im of a complex x count as a dimension each.

    Args:
        prior: a prior, or a callable ``(x, sigma)``.
        x: images ``(N, *event)`` with noise of level sigma on them, or without: noise is not added here.
        sigma: noise level in the unit of x; small beside what is to be counted as variation.
        rng: for the probes.
        most: how many directions to look for; limited to the number of components.
        powers: rounds of power iteration; they separate directions of nearly equal eigenvalue.

    Raises:
        InputError: sigma, `most` or `powers` out of range.

    Source: Stanczuk et al., 2024, arXiv 2212.12611 (dimension from the score); Halko, Martinsson and Tropp, 2011.
    """
    if sigma <= 0 or most < 1 or powers < 0:
        raise InputError(f"local_dimension got {sigma=}, {most=}, {powers=}; expected > 0, >= 1 and >= 0")
    wide = torch.view_as_real(x) if x.is_complex() else x
    count, size = len(x), wide[0].numel()
    most = min(most, size)
    _, vjp = Guidance(as_prior(prior), _anything(x)).denoise_with_vjp(x, sigma)

    def transposed(columns: Tensor) -> Tensor:
        """J^T times each column of ``(N, size, k)``."""
        out = []
        for v in columns.unbind(-1):
            v = v.reshape(wide.shape).to(wide)
            g = vjp(torch.view_as_complex(v.contiguous()) if x.is_complex() else v)
            out.append((torch.view_as_real(g) if g.is_complex() else g).reshape(count, size).double())
        return torch.stack(out, -1)

    probes = torch.randn(count, size, most, generator=rng, dtype=torch.float64, device=rng.device).to(x.device)
    q, _ = torch.linalg.qr(transposed(probes))
    for _ in range(powers):
        q, _ = torch.linalg.qr(transposed(q))
    small = q.mT @ transposed(q)
    values = torch.linalg.eigvalsh((small + small.mT) / 2).flip(1).cpu()
    dimension = (values > 0.5).sum(1)
    return LocalDimension(dimension, (dimension == most) & (most < size), values)


def _anything(x: Tensor) -> Measurement:
    """A measurement to hand to a guidance that only denoises."""
    op = Identity(x.shape[1:], "complex" if x.is_complex() else "real")
    return Measurement(torch.zeros_like(x[0]), op, Gaussian(1.0))
