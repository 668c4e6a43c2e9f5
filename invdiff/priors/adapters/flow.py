"""Networks of the linear path ``x_t = (1 - t) x0 + t n`` (rectified flow, flow matching) as denoisers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from invdiff.priors.adapters.levels import to_shape

__all__ = ["RectifiedFlow"]


class RectifiedFlow(nn.Module):
    """The denoiser of a velocity network: ``t = sigma/(1 + sigma)``, ``x_t = x/(1 + sigma)``, ``x0 = x_t - t v``.

    Time is continuous, so every sigma is exact.

    Args:
        network: module, moved and cast with this one.
        call: ``(network, x_t, times (N,)) -> v``.
        steps: the network's time is ``t steps``.
        sign: +1 where the network predicts ``n - x0``, -1 where it predicts ``x0 - n``.

    x is real ``(N, C, *spatial)``, sigma ``(N,)``; the result has the dtype of x.
    """

    def __init__(
        self, network: nn.Module, call: Callable[[nn.Module, Tensor, Tensor], Tensor], steps: int, sign: float = 1.0
    ) -> None:
        super().__init__()
        self.network, self.call, self.steps, self.sign = network, call, steps, sign

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[x0 | x0 + sigma n = x]``."""
        time = sigma.double() / (1 + sigma.double())
        t = to_shape(time, x)
        seen = to_shape(1 - time, x) * x
        return seen - self.sign * t * self.call(self.network, seen, time * self.steps).to(x.dtype)
