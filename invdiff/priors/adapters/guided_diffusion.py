"""Networks of OpenAI's guided-diffusion, ADM (Dhariwal and Nichol, 2021, arXiv 2105.05233)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import DTypeError, UnknownNameError
from invdiff.priors.adapters.network import NetworkPrior, adapted
from invdiff.priors.adapters.vp import VariancePreserving

__all__ = ["alphas_cumprod", "from_guided_diffusion"]


def alphas_cumprod(schedule: str, steps: int = 1000) -> Tensor:
    """``prod (1 - beta)`` of the two schedules of that code, float64 ``(steps,)``.

    "linear": beta from 1e-4 to 0.02 (times 1000/steps); "cosine": ``f(t) = cos^2((t + 0.008)/1.008 pi/2)``,
    ``beta_i = min(1 - f((i+1)/steps)/f(i/steps), 0.999)`` (Nichol and Dhariwal, 2021, arXiv 2102.09672).
    Raises UnknownNameError for others.
    """
    if schedule == "linear":
        betas = torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64)
    elif schedule == "cosine":
        f = torch.cos((torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    else:
        raise UnknownNameError(f"noise schedule {schedule!r} is not known; guided-diffusion has 'linear' and 'cosine'")
    return torch.cumprod(1 - betas, 0)


def from_guided_diffusion(
    network: nn.Module,
    schedule: str | Tensor = "linear",
    steps: int = 1000,
    *,
    predicts: str = "epsilon",
    labels: Tensor | None = None,
    **declared: Any,
) -> NetworkPrior:
    """A guided-diffusion (ADM) network ``model(x_t, t[, y])`` as a prior of images from -1 to 1.

    Where the network also learned its variance, it has twice the channels of x; the first half is the prediction.
    Times are whole numbers in training; between them the network's sines are evaluated (see `Levels`).

    Args:
        network: built by that repository (``create_model``), filled by `load_weights`.
        schedule: "linear" or "cosine", or a table of ``alphas_cumprod``.
        steps: of the training's noise schedule.
        predicts: "epsilon", "v_prediction", or "sample" (``predict_xstart``).
        labels: class numbers ``(1,)`` for a conditional network.
        declared: see `NetworkPrior`.

    Raises:
        DTypeError: `network` is no module. UnknownNameError: an unknown schedule or prediction.
    """
    if not isinstance(network, nn.Module):
        raise DTypeError(f"from_guided_diffusion got {type(network).__name__}; it expects a torch module")
    table = alphas_cumprod(schedule, steps) if isinstance(schedule, str) else schedule

    def call(net: nn.Module, x: Tensor, time: Tensor) -> Tensor:
        given = () if labels is None else (labels.to(x.device).expand(len(x)),)
        out: Tensor = net(x, time.to(torch.float32), *given)
        return out[:, : x.shape[1]]

    return adapted(VariancePreserving(network, call, table, predicts), declared)
