"""Networks of the `diffusers` library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import DTypeError, InputError
from invdiff.priors.adapters.flow import RectifiedFlow
from invdiff.priors.adapters.network import NetworkPrior, adapted
from invdiff.priors.adapters.vp import VariancePreserving

__all__ = ["from_diffusers"]


def from_diffusers(
    network: Any, scheduler: Any = None, *, inputs: Mapping[str, Any] | None = None, **declared: Any
) -> NetworkPrior:
    """A `diffusers` UNet (or transformer) with its scheduler, or a whole pipeline, as a prior of its images.

    What the network predicts is read from the scheduler: ``prediction_type`` and ``alphas_cumprod`` (DDPM, DDIM, PNDM,
    DPM-Solver ...), or the linear path of flow matching, whose time is ``t = sigma/(1 + sigma)`` and network time
    ``t num_train_timesteps``. Images are in the unit of the network's training, usually -1 to 1: wrap the prior in
    `invdiff.priors.affine.Affine` for another. A pipeline with an autoencoder lives in latent space: see
    `invdiff.priors.latent.from_latent_pipeline`.

    Args:
        network: the module, or a pipeline that holds `unet` (`transformer`) and `scheduler`.
        scheduler: of the module.
        inputs: more arguments of each call, such as ``encoder_hidden_states`` or ``class_labels``; a tensor whose first
            axis is 1 is repeated over the batch.
        declared: ``domain``, ``scale``, ``units``, ``sigma_min``, ``sigma_max`` of the prior; see `NetworkPrior`.

    Raises:
        DTypeError: no network or scheduler of that library. InputError: a scheduler of another family, or a pipeline
            in latent space.
    """
    if scheduler is None:
        if getattr(network, "vae", None) is not None or getattr(network, "vqvae", None) is not None:
            raise InputError("this pipeline works in latent space; use invdiff.priors.latent.from_latent_pipeline")
        scheduler = getattr(network, "scheduler", None)
        network = getattr(network, "unet", None) or getattr(network, "transformer", None)
    if not isinstance(network, nn.Module) or scheduler is None:
        raise DTypeError("from_diffusers expects a pipeline, or a network (torch module) and its scheduler")
    more = dict(inputs or {})

    def call(net: nn.Module, x: Tensor, time: Tensor) -> Tensor:
        given = {k: _repeated(v, len(x)) for k, v in more.items()}
        kind = next(net.parameters()).dtype
        out = net(x.to(kind), time.to(kind if time.is_floating_point() else time.dtype), **given)
        return out.sample if hasattr(out, "sample") else out[0]

    name = type(scheduler).__name__
    if name.startswith("FlowMatch"):
        return adapted(RectifiedFlow(network, call, scheduler.config.num_train_timesteps), declared)
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        raise InputError(f"from_diffusers got {name}; it takes schedulers with alphas_cumprod, and FlowMatch ones")
    kind = scheduler.config.prediction_type
    whole = getattr(getattr(network, "config", None), "time_embedding_type", "positional") == "learned"
    return adapted(VariancePreserving(network, call, torch.as_tensor(table), kind, whole), declared)


def _repeated(value: Any, n: int) -> Any:
    if isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1:
        return value.expand(n, *value.shape[1:])
    return value
