"""Weighted draws as draws of equal weight, which is what measures take."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.posterior import Posterior

__all__ = ["equal_weights"]


def equal_weights(posterior: Posterior, rng: torch.Generator) -> Tensor:
    """Draws ``(draw, [problem,] ...)`` as a tensor; weighted ones are resampled to as many of equal weight.

    The resampling is systematic and each problem's own. Raises InputError where no draw has weight.
    """
    draws = torch.from_numpy(posterior.draws.to_numpy().copy())
    if "log_weight" not in posterior.dataset:
        return draws
    weights = torch.from_numpy(posterior.weights.to_numpy().copy()).double()
    if not bool(torch.isfinite(weights).all()):
        raise InputError("all draws of a problem have weight 0: there is nothing to resample")
    n = len(draws)
    several = weights.reshape(n, -1)
    offset = torch.rand(several.shape[1], 1, generator=rng, dtype=torch.float64)
    places = (torch.arange(n, dtype=torch.float64) + offset) / n
    index = torch.searchsorted(several.mT.cumsum(1).contiguous(), places).clamp_max(n - 1)
    if weights.ndim == 1:
        return draws[index[0]]
    return torch.stack([draws[:, p][chosen] for p, chosen in enumerate(index)], 1)
