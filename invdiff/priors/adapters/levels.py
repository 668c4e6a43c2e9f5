"""The noise levels that a network of discrete times was trained at, and the time of any sigma between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from invdiff.errors import InputError

__all__ = ["Levels", "to_shape"]


class Levels(nn.Module):
    """A table ``sigma_0 < sigma_1 < ...`` of the variance-exploding noise level at each time of a network.

    A sigma between two levels gets the time between theirs, by its logarithm: networks embed their time by sines, which
    take any number, and at a level itself the time is exact. Networks that take whole numbers alone (a table of
    embeddings) are asked at the level nearest to sigma: `snapped` gives time and level, and the caller scales x by that
    *level*, so that what the network sees is of one kind, and reads the network's answer at that level.

    Below the lowest level the time is that of the lowest. Above the highest by more than 1 % is an error: the network
    never saw such noise.

    Args:
        sigmas: ``(T,)``, ascending; levels that are infinite (a terminal signal of zero) are left out.
        times: ``(T,)``, what the network calls them; 0, 1, 2 ... if not given.
    """

    sigmas: Tensor
    times: Tensor

    def __init__(self, sigmas: Tensor, times: Tensor | None = None) -> None:
        super().__init__()
        sigmas = sigmas.detach().to("cpu", torch.float64)
        times = torch.arange(len(sigmas), dtype=torch.float64) if times is None else times.to("cpu", torch.float64)
        known = torch.isfinite(sigmas)
        sigmas, times = sigmas[known], times[known]
        if len(sigmas) < 2 or not bool((sigmas[0] > 0) & (sigmas.diff() > 0).all()):
            raise InputError("the network's noise levels must be above 0 and ascend; check its scheduler's betas")
        self.register_buffer("sigmas", sigmas, persistent=False)
        self.register_buffer("times", times, persistent=False)
        self.lowest, self.highest = float(sigmas[0]), float(sigmas[-1])

    def _apply(self, fn: object, recurse: bool = True) -> Levels:
        # a network in half precision keeps its table in double: only the device may change
        device = fn(torch.empty(0)).device  # type: ignore[operator]
        self.sigmas, self.times = self.sigmas.to(device), self.times.to(device)
        return self

    def time(self, sigma: Tensor) -> Tensor:
        """Time of each sigma, float64 of the shape of sigma."""
        logs, x = self.sigmas.log(), self._checked(sigma).log()
        i = torch.searchsorted(logs, x).clamp(1, len(logs) - 1)
        share = ((x - logs[i - 1]) / (logs[i] - logs[i - 1])).clamp(0, 1)
        return self.times[i - 1] + share * (self.times[i] - self.times[i - 1])

    def snapped(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Time and level nearest to each sigma (by the logarithm), float64 of the shape of sigma."""
        logs, x = self.sigmas.log(), self._checked(sigma).log()
        i = torch.searchsorted(logs, x).clamp(1, len(logs) - 1)
        i = torch.where(x - logs[i - 1] < logs[i] - x, i - 1, i)
        return self.times[i], self.sigmas[i]

    def _checked(self, sigma: Tensor) -> Tensor:
        if bool((sigma > 1.01 * self.highest).any()):
            raise InputError(
                f"sigma is {float(sigma.max()):g}; this network was trained up to {self.highest:g}: let the noise"
                " schedule start there (the prior's sigma_max)"
            )
        return sigma.to(torch.float64)


def to_shape(value: Tensor, x: Tensor) -> Tensor:
    """A number for each example ``(N,)`` in the precision of x, shaped to multiply it."""
    return value.to(x.device, x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
