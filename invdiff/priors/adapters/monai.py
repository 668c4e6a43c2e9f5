"""MONAI's diffusion networks with their schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import DTypeError, InputError
from invdiff.priors.adapters.flow import RectifiedFlow
from invdiff.priors.adapters.network import NetworkPrior, adapted
from invdiff.priors.adapters.vp import VariancePreserving

__all__ = ["from_monai"]


def from_monai(
    network: nn.Module, scheduler: Any, *, inputs: Mapping[str, Any] | None = None, **declared: Any
) -> NetworkPrior:
    """MONAI's ``DiffusionModelUNet`` with the scheduler it was trained with (DDPM, DDIM, PNDM or RFlow) as a prior.

    ``clip_sample`` of the scheduler plays no part: nothing is clipped. RFlow networks predict ``x0 - n``.

    Args:
        network: ``(x, timesteps, ...)``, two or three spatial axes.
        scheduler: with ``alphas_cumprod`` and ``prediction_type``, or an ``RFlowScheduler``.
        inputs: more arguments of each call (``context``, ``class_labels``); first axis 1 is repeated over the batch.
        declared: see `NetworkPrior`.

    Raises:
        DTypeError: `network` is no module. InputError: a scheduler of another family.
    """
    if not isinstance(network, nn.Module):
        raise DTypeError(f"from_monai got {type(network).__name__}; it expects a torch module")
    more = dict(inputs or {})

    def call(net: nn.Module, x: Tensor, time: Tensor) -> Tensor:
        kind = next(net.parameters()).dtype
        given = {
            k: v.expand(len(x), *v.shape[1:]) if isinstance(v, Tensor) and v.ndim and len(v) == 1 else v
            for k, v in more.items()
        }
        out: Tensor = net(x.to(kind), timesteps=time.to(torch.float32), **given)
        return out

    if type(scheduler).__name__ == "RFlowScheduler":
        return adapted(RectifiedFlow(network, call, scheduler.num_train_timesteps, sign=-1.0), declared)
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise InputError(f"from_monai got {type(scheduler).__name__}; it takes DDPM, DDIM, PNDM and RFlow schedulers")
    kind = str(getattr(scheduler.prediction_type, "value", scheduler.prediction_type))
    return adapted(VariancePreserving(network, call, scheduler.alphas_cumprod, kind), declared)
