"""The Gaussian field behind measurements of many images, none of which is seen: where training without images starts.

Expectation maximisation with exact draws: draw each image from its posterior under the present field, fit a field to
the draws, again and again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from invdiff.linalg import Map, cg, inner
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.gaussian import normal
from invdiff.priors.gaussian_field import GaussianFieldPrior
from invdiff.random import generator

__all__ = ["field_draws", "first_field", "fit_field", "least_squares", "noise_field", "noise_level"]

_ITERATIONS = 150  # of conjugate gradients: fields' spectra span many orders of magnitude


def fit_field(
    given: Sequence[Measurement], rounds: int, seed: int, report: Callable[[str], None] = print
) -> GaussianFieldPrior:
    """`rounds` of expectation maximisation from `first_field`."""
    prior = first_field(given, noise_field(given, seed))
    for k in range(rounds):
        prior = GaussianFieldPrior.fit(field_draws(given, prior, seed + 1 + k))
        report(f"Gaussian round {k + 1} of {rounds}: deviation {prior.scale:.4f}")
    return prior


def first_field(given: Sequence[Measurement], noise: GaussianFieldPrior) -> GaussianFieldPrior:
    """The field of the least-squares images, less the spectrum that noise alone gives them.

    Expectation maximisation hardly moves where noise is stronger than the images, so it must not start too high there.
    """
    found = GaussianFieldPrior.fit(torch.cat([least_squares(m) for m in given]))
    spectrum = torch.maximum(found.spectrum - noise.spectrum, 0.01 * found.spectrum)
    return GaussianFieldPrior(spectrum, found.mean, found.domain, found.sample_shape[0])


def noise_field(given: Sequence[Measurement], seed: int) -> GaussianFieldPrior:
    """The field of least-squares images of noise alone."""
    images = torch.cat([least_squares(m, _noise(m, seed, i)) for i, m in enumerate(given)])
    return GaussianFieldPrior.fit(images, mean="constant")


def noise_level(given: Sequence[Measurement], seed: int) -> float:
    """Deviation of the noise in least-squares images, per direction of x that the data show (and real component)."""
    noise = noise_field(given, seed)
    seen, whole = 0.0, 0
    for i, m in enumerate(given):
        op = m.operator
        assert isinstance(op, LinearOperator)
        like = least_squares(m)
        probe = normal(tuple(like.shape), like.dtype, generator(seed, 2_000_000 + i)).to(like.device)
        seen += float(inner(probe, least_squares(m, op.forward(probe))).sum())
        whole += like.numel() * (2 if like.is_complex() else 1)
    return noise.scale / math.sqrt(seen / whole)


def field_draws(given: Sequence[Measurement], prior: GaussianFieldPrior, seed: int) -> Tensor:
    """One exact draw of each image from its posterior under a field, ``(problems, *event)``.

    ``x + V A^H (A V A^H + S)^-1 (y - A x - n)`` with x from the field and n from the noise (Hoffman and Ribak, 1991).
    """
    out = []
    for i, m in enumerate(given):
        op = m.operator
        assert isinstance(op, LinearOperator)
        x = prior.sample(len(m.data), generator(seed, 1_000_000 + i)).to(m.data.device)
        spread = prior.covariance(x, torch.full((1,), 1e4 * prior.scale))  # before anything is known of x
        variance = m.noise.variance(m.data)  # type: ignore[attr-defined]
        with torch.inference_mode():
            misfit = m.data - op.forward(x) - _noise(m, seed, i)
            if op.range_mask is not None:
                misfit = misfit * op.range_mask
            dual = cg(partial(_gram, op, spread, variance), misfit, iterations=_ITERATIONS, tolerance=1e-4)
            out.append((x + spread(op.adjoint(dual))).clone())
    return torch.cat(out)


def least_squares(m: Measurement, data: Tensor | None = None) -> Tensor:
    """Ten conjugate-gradient steps from 0, ``(problems, *event)``: what the data say, and 0 where they say nothing."""
    op = m.operator
    assert isinstance(op, LinearOperator)
    with torch.inference_mode():
        return cg(op.normal, op.adjoint(m.data if data is None else data), iterations=10).clone()


def _gram(op: LinearOperator, spread: Map, variance: float | Tensor, z: Tensor) -> Tensor:
    """``(A V A^H + S) z``."""
    return op.forward(spread(op.adjoint(z))) + variance * z


def _noise(m: Measurement, seed: int, number: int) -> Tensor:
    return m.noise.sample(torch.zeros_like(m.data), generator(seed, number))
