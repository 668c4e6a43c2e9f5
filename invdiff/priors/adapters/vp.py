"""Networks of the variance-preserving kind, ``x_t = a x0 + s n`` with ``a^2 + s^2 = 1``, as denoisers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from invdiff.errors import UnknownNameError
from invdiff.priors.adapters.levels import Levels, to_shape

__all__ = ["VariancePreserving"]


class VariancePreserving(nn.Module):
    """The denoiser of a network that predicts epsilon, v or x0 from ``x_t`` and a time index.

    With ``sigma = s/a`` (so ``a = 1/sqrt(1 + sigma^2)``, ``x_t = a x``):
    epsilon: ``x0 = x - sigma eps``; v = a eps - s x0: ``x0 = a x_t - s v``; sample: ``x0 = network``.

    Args:
        network: module, moved and cast with this one.
        call: ``(network, x_t, times (N,)) -> prediction``, in the network's own precision.
        alphas_cumprod: ``a^2`` at each time.
        prediction: "epsilon", "v_prediction" or "sample".
        whole_times: the network takes whole times alone (see `Levels`).

    x is real ``(N, C, *spatial)``, sigma ``(N,)``; the result has the dtype of x.
    """

    def __init__(
        self,
        network: nn.Module,
        call: Callable[[nn.Module, Tensor, Tensor], Tensor],
        alphas_cumprod: Tensor,
        prediction: str = "epsilon",
        whole_times: bool = False,
    ) -> None:
        super().__init__()
        if prediction not in ("epsilon", "v_prediction", "sample"):
            raise UnknownNameError(f"prediction is {prediction!r}; expected 'epsilon', 'v_prediction' or 'sample'")
        self.network, self.call, self.prediction, self.whole = network, call, prediction, whole_times
        a2 = alphas_cumprod.detach().to(torch.float64)
        self.levels = Levels(((1 - a2) / a2).sqrt())

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x0 + sigma n = x]``."""
        if self.whole:
            time, level = self.levels.snapped(sigma)
            time = time.long()
        else:
            time, level = self.levels.time(sigma), sigma.double()
        level = to_shape(level, x)
        a = (1 + level**2).rsqrt()
        out = self.call(self.network, a * x, time).to(x.dtype)
        if self.prediction == "epsilon":
            return x - level * out
        if self.prediction == "v_prediction":
            return a * (a * x) - level * a * out
        return out
