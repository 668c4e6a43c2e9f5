"""Expected information gain of a mixture belief, by Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.policies.base import greedily
from invdiff.policies.belief import Belief, to_distances
from invdiff.policies.entropy import kernel_variance

__all__ = ["InformationGain"]


class InformationGain:
    """Maximise what the data would tell about which particle is the truth, without the bounds of `Entropy`:

        ``I(S) = -E_{i, n} log 1/N sum_j exp(-(|z_i - z_j + n|^2 - |n|^2) / 2)``,

    z the predictions of S in units of the noise ``w sigma``, n standard normal. Only ``<z_j, n>`` is needed, which has
    the covariance ``<z_j, z_k>``: no noise is drawn on the data themselves. All groups share the same numbers.

    Args:
        draws: noise draws for each particle.
        width: w; None widens the noise as `Entropy` does (c = 4), for the same reason.
    """

    name, needs_belief = "infogain", True

    def __init__(self, draws: int = 16, width: float | None = None) -> None:
        if draws < 1 or (width is not None and not width > 0):
            raise InputError(f"InformationGain got draws = {draws}, width = {width}; expected >= 1 and > 0")
        self.draws, self.width = draws, width

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        n = belief.k.shape[-1]
        probe = torch.randn(n, self.draws, generator=rng, dtype=torch.float64).to(belief.k)
        return greedily(belief, count, lambda chosen: self.scores(belief, chosen, probe))

    def scores(self, belief: Belief, chosen: Sequence[int], probe: Tensor) -> Tensor:
        """Information of each group beside those chosen, ``(groups,)``, in nats; probe ``(N, draws)`` normal."""
        joint = belief.k + belief.at(chosen)
        n = joint.shape[-1]
        distances = to_distances(joint)
        w2 = self.width**2 if self.width is not None else kernel_variance(distances[belief.free], 4.0)
        products = joint * ((n - 1) / w2)  # <z_i - m, z_j - m>
        jitter = 1e-10 * products.diagonal(dim1=-2, dim2=-1).amax(-1).clamp_min(1e-30)
        eye = torch.eye(n, dtype=products.dtype, device=products.device)
        along = (
            torch.linalg.cholesky(products + jitter[:, None, None] * eye) @ probe
        )  # <z_j - m, n>: (groups, N, draws)
        gap = along[:, :, None] - along[:, None]  # <z_i - z_j, n>
        logs = torch.logsumexp(-distances[..., None] / (2 * w2) - gap, 2)
        return math.log(n) - logs.mean((1, 2))
