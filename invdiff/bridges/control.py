"""The size of a control: it grows as the noise that is still to come falls."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from invdiff.bridges.sde import Schedule

__all__ = ["Paced"]


class Paced(nn.Module):
    """``v(t, x) = net(t, x) / sqrt(K - kappa_t + finest^2)``, so that the network's output is of order 1.

    Early, the control steers over the whole distance; late, against forces on the scale of the stiffest motion.

    Args:
        net: vector field.
        schedule: of the base process.
        finest: standard deviation of the stiffest motion that is resolved, in the unit of x.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, finest: float) -> None:
        super().__init__()
        self.net, self.schedule, self.finest = net, schedule, finest

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return v ``(N, *event)`` of t ``(N,)`` and x."""
        left = torch.clamp_min(self.schedule.total - self.schedule.kappa(t), 0) + self.finest**2
        out: Tensor = self.net(t, x) / left.sqrt().reshape(-1, *[1] * (x.ndim - 1))
        return out
