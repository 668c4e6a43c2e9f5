"""Fit a mixture of Gaussians to samples by expectation maximisation."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.priors.mixture import GaussianMixturePrior

__all__ = ["fit_mixture"]


def fit_mixture(
    samples: Tensor, components: int, rng: torch.Generator, iterations: int = 30, floor: float = 1e-4
) -> GaussianMixturePrior:
    """The mixture of `components` Gaussians that explains samples ``(n, d)`` best, as far as EM finds it.

    Starts from samples drawn as means and the samples' own covariance. A component's covariance never falls below
    `floor` times the samples' mean variance in any direction; one that loses its samples is dropped. Complex samples
    are circular, covariances per real component. Dempster, Laird and Rubin, J. R. Stat. Soc. B 39 (1977).

    Raises InputError for fewer samples than ten for each component.
    """
    if samples.ndim != 2 or components < 1 or len(samples) < 10 * components:
        raise InputError(f"fit_mixture got samples {tuple(samples.shape)} for {components} components; give 10 each")
    domain = "complex" if samples.is_complex() else "real"
    parts = 2 if samples.is_complex() else 1
    x = samples.to(torch.complex128 if samples.is_complex() else torch.float64)
    middle = x.mean(0)
    whole = (x - middle).mT @ (x - middle).conj() / (len(x) * parts)
    least = floor * float(torch.diagonal(whole).real.mean()) * torch.eye(x.shape[1], dtype=x.dtype)
    start = torch.randperm(len(x), generator=rng)[:components]
    weights = torch.full((components,), 1 / components, dtype=torch.float64)
    means, covariances = x[start], (whole + least).expand(components, -1, -1)
    for _ in range(iterations):
        mixture = GaussianMixturePrior(weights, means, covariances, domain)
        share = torch.cat([mixture.responsibilities(part, torch.zeros(1)) for part in x.split(4096)])
        size = share.sum(0)
        kept = size > x.shape[1] / 4 + 1
        share, size = share[:, kept], size[kept]
        weights = size / size.sum()
        means = share.to(x.dtype).mT @ x / size[:, None]
        covariances = torch.stack([_covariance(x - m, r, parts) for m, r in zip(means, share.T, strict=True)]) + least
    return GaussianMixturePrior(weights, means.to(samples.dtype), covariances, domain)


def _covariance(offset: Tensor, share: Tensor, parts: int) -> Tensor:
    found = (offset * share[:, None]).mT @ offset.conj() / (share.sum() * parts)
    return (found + found.mH) / 2
