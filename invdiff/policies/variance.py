"""Maximum variance: the plainest and most robust of the adaptive policies."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.policies.base import highest
from invdiff.policies.belief import Belief

__all__ = ["Variance"]


class Variance:
    """Measure the groups whose predictions have the largest summed variance over that of the noise, ``tr K_g``.

    The first order of every entropy here at small distances. The groups of one decision are the highest ones, without
    regard to each other (take one at a time, or log-det, where neighbours tell the same).

    Source: Elata, Michaeli and Elad, 2024 (AdaSense), arXiv 2407.08256, for k-space lines.
    """

    name, needs_belief = "variance", True

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        del rng
        return highest(belief, self.scores(belief), count)

    def scores(self, belief: Belief) -> Tensor:
        """``tr K_g``, ``(groups,)``."""
        return belief.k.diagonal(dim1=-2, dim2=-1).sum(-1)
