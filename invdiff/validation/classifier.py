"""Classifier two-sample test: the share of draws whose origin their neighbours give away."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import ShapeError

__all__ = ["c2st"]


def c2st(draws: Tensor, exact: Tensor, neighbours: int = 15) -> float:
    """Accuracy of a nearest-neighbour classifier that tells draws from exact ones, left-one-out: 0.5 if it cannot.

    Both sets ``(n, D)`` are first turned and scaled so that the exact ones have unit covariance (where n > 5 D;
    else each component is scaled by itself), for a narrow direction to count as much as a wide one.

    Source: D. Lopez-Paz and M. Oquab, 2017, arXiv 1610.06545. Raises ShapeError where the sets differ in shape.
    """
    if draws.shape != exact.shape or len(draws) <= neighbours:
        raise ShapeError(
            f"c2st got {tuple(draws.shape)} and {tuple(exact.shape)}; it expects two sets of one shape, more than"
            f" {neighbours} points each"
        )
    n, size = exact.shape
    both = torch.cat([draws, exact]) - exact.mean(0)
    if n > 5 * size:
        variances, turn = torch.linalg.eigh(exact.mT.cov().reshape(size, size))
        keep = variances > 1e-12 * variances[-1]
        both = both @ (turn[:, keep] / variances[keep].sqrt())
    else:
        std = exact.std(0)
        both = both[:, std > 0] / std[std > 0]
    distance = torch.cdist(both, both)
    distance.fill_diagonal_(float("inf"))
    nearest = distance.topk(neighbours, largest=False).indices
    votes = (nearest < n).double().mean(1)
    label = torch.arange(2 * n) < n
    return float(torch.where(label, votes > 0.5, votes < 0.5).double().mean())
