"""Networks of score_sde, NCSN++ with a variance-exploding SDE (Song et al., 2020, arXiv 2011.13456)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import DTypeError
from invdiff.priors.adapters.levels import Levels, to_shape
from invdiff.priors.adapters.network import NetworkPrior, adapted

__all__ = ["VarianceExploding", "from_score_sde"]


class VarianceExploding(nn.Module):
    """``x0 = x + sigma^2 score``; the network is told sigma itself, or (`levels`) the number of its level."""

    def __init__(self, network: nn.Module, levels: Levels | None = None) -> None:
        super().__init__()
        self.network, self.levels = network, levels

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x0 + sigma n = x]`` in the dtype of x."""
        if self.levels is None:
            label, level = sigma, sigma
        else:
            label, level = self.levels.snapped(sigma)
            label = label.long()
        kind = next(self.network.parameters()).dtype
        score = self.network(x.to(kind), label.to(kind) if label.is_floating_point() else label)
        return x + to_shape(level, x) ** 2 * score.to(x.dtype)


def from_score_sde(
    network: nn.Module,
    sigma_min: float = 0.01,
    sigma_max: float = 378.0,
    *,
    discrete_levels: int | None = None,
    **declared: Any,
) -> NetworkPrior:
    """A score_sde NCSN++ of a variance-exploding SDE (score-MRI and DiffusionMBIR use them) as a prior.

    Continuous training (``training.continuous``) tells the network sigma and takes its output as the score. Discrete
    training (SMLD) has N geometric levels, number 0 the *highest*; such a network is asked at the level nearest to
    sigma, where the answer is exact. Images are in the unit of training: 0 to 1 where ``data.centered`` is false.
    A network with an output scaled by sigma (``model.scale_by_sigma``) divides by it itself: nothing to set here.

    Args:
        network: ``(x, labels (N,)) -> score``, filled by `load_weights`.
        sigma_min, sigma_max: of the SDE (``model.sigma_min``, ``model.sigma_max`` of its configuration).
        discrete_levels: N, for a network of discrete training.
        declared: see `NetworkPrior`.

    Raises DTypeError where `network` is no module.
    """
    if not isinstance(network, nn.Module):
        raise DTypeError(f"from_score_sde got {type(network).__name__}; it expects a torch module")
    levels = None
    if discrete_levels is not None:
        share = torch.linspace(0, 1, discrete_levels, dtype=torch.float64)
        numbers = torch.arange(discrete_levels, dtype=torch.float64).flip(0)
        levels = Levels(sigma_min * (sigma_max / sigma_min) ** share, numbers)
    known = {"sigma_min": sigma_min, "sigma_max": sigma_max}
    return adapted(VarianceExploding(network, levels), {**known, **declared})
