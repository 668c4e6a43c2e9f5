"""Maximum entropy sampling: measure where the particles' predictions differ most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.policies.base import greedily, highest
from invdiff.policies.belief import Belief, to_distances

__all__ = ["Entropy", "PublishedEntropy", "kernel_variance"]


class Entropy:
    """Maximise the entropy of the mixture ``p(y_S) = 1/N sum_i N(A_S x_i, w^2 sigma^2)`` over groups S:

        ``H(S) = -1/N sum_i log 1/N sum_j exp(-d_ij(S)^2 / (c w^2))``,

    d_ij the distance between two particles' predictions of S in units of the noise. It is counted above the entropy of
    the noise, so that groups of other noise or size compare. Groups of one decision are chosen one after the other,
    each beside those before it (distances add), so none repeats another.

    With the true noise (w = 1) precise data tell few particles apart whatever the group, and H is log N for all of
    them. A particle stands for its neighbourhood: w is widened, from 1 on, until the group that separates the particles
    most has ``H <= 1/2 log N`` and H orders the groups again.

    Args:
        overlap: c; 4 from the overlap of two components (a lower bound of the entropy), 2 from their Kullback-Leibler
            divergence (an upper bound), 8 from Bhattacharyya's distance (a lower bound).
        width: w; None for the rule above.

    Source: Nolan, Stevens, van Nierop and van Sloun, 2025 (active diffusion subsampling), arXiv 2406.14388, with the
    sign of a Gaussian's exponent (see `PublishedEntropy`); bounds: Kolchinsky and Tracey, 2017, arXiv 1706.02419.
    """

    name, needs_belief = "entropy", True

    def __init__(self, overlap: float = 4.0, width: float | None = None) -> None:
        if not overlap > 0 or (width is not None and not width > 0):
            raise InputError(f"Entropy got overlap = {overlap}, width = {width}; expected numbers above 0")
        self.overlap, self.width = overlap, width

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        del rng
        return greedily(belief, count, lambda chosen: self.scores(belief, chosen))

    def scores(self, belief: Belief, chosen: Sequence[int] = ()) -> Tensor:
        """Entropy of each group beside those chosen, ``(groups,)``, in nats."""
        joint = belief.distances + to_distances(belief.at(chosen))
        w2 = self.width**2 if self.width is not None else kernel_variance(joint[belief.free], self.overlap)
        return _entropy(joint / (self.overlap * w2))


def kernel_variance(distances: Tensor, overlap: float) -> float:
    """w^2 >= 1 at which the group of the largest mean squared distance ``(groups, N, N)`` has ``H <= 1/2 log N``."""
    farthest = distances[distances.sum((-2, -1)).argmax()].cpu() / overlap
    half = 0.5 * math.log(len(farthest))
    low, high = 1.0, 1.0
    while float(_entropy(farthest / high)) > half:
        low, high = high, 4 * high
    while high > 1.05 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if float(_entropy(farthest / middle)) > half else (low, middle)
    return high


def _entropy(exponents: Tensor) -> Tensor:
    """``-1/N sum_i log 1/N sum_j exp(-e_ij)`` of ``(..., N, N)``."""
    return math.log(exponents.shape[-1]) - torch.logsumexp(-exponents, -1).mean(-1)


class PublishedEntropy:
    """The score of the published program: ``sum_i log sum_j exp(+d_ij^2 / (2 w^2))``, the highest ones at once.

    The exponent has the opposite sign of a Gaussian's, so one far pair of particles outweighs all others. Where w is
    large beside the distances (as in the published settings) the score is linear in them and orders groups as their
    variance does; where it is not, it loses to `Entropy`. It is here for comparison.

    Args:
        width: w, in units of the noise.

    Source: Nolan et al., 2025, arXiv 2406.14388, as released.
    """

    name, needs_belief = "entropy-published", True

    def __init__(self, width: float = 1.0) -> None:
        if not width > 0:
            raise InputError(f"PublishedEntropy got width = {width}; expected a number above 0")
        self.width = width

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        del rng
        return highest(belief, self.scores(belief), count)

    def scores(self, belief: Belief) -> Tensor:
        """The score of each group, ``(groups,)``."""
        return torch.logsumexp(belief.distances / (2 * self.width**2), -1).sum(-1)
