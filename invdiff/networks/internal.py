"""Vector fields v(t, x) on plain vectors: toy systems, and molecules in internal coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["InternalMLP", "TimeFeatures"]


class TimeFeatures(nn.Module):
    """``(cos, sin)(pi k t)`` for k = 1 .. count, with t itself: ``(N,) -> (N, 2 count + 1)``."""

    def __init__(self, count: int = 8) -> None:
        super().__init__()
        self.register_buffer("frequency", math.pi * torch.arange(1, count + 1).float(), persistent=False)
        self.size = 2 * count + 1

    def forward(self, t: Tensor) -> Tensor:
        """Return the features of times t in [0, 1]."""
        angle = t[:, None] * self.get_buffer("frequency")
        return torch.cat([t[:, None], torch.cos(angle), torch.sin(angle)], 1)


class InternalMLP(nn.Module):
    """A residual multilayer perceptron of x and t; zero at the start of training.

    Args:
        dim: size of x.
        width, depth: of the hidden layers.
        scale: typical size of x, one number or one per component; x is divided by it.
        gain: typical size of v; the output is multiplied by it.
        angles: components that are angles in rad and enter as cos and sin as well.
    """

    def __init__(
        self,
        dim: int,
        width: int = 96,
        depth: int = 3,
        scale: float | Sequence[float] = 1.0,
        gain: float = 1.0,
        angles: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.time = TimeFeatures()
        self.angles, self.gain = list(angles), gain
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32) * torch.ones(dim), persistent=False)
        self.enter = nn.Linear(dim + 2 * len(self.angles) + self.time.size, width)
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.leave = nn.Linear(width, dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.act = nn.SiLU()

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return v ``(N, dim)`` of t ``(N,)`` and x ``(N, dim)``."""
        turning = x[:, self.angles]
        parts = [x / self.get_buffer("scale"), torch.cos(turning), torch.sin(turning), self.time(t)]
        h = self.act(self.enter(torch.cat(parts, 1)))
        for layer in self.inner:
            h = h + self.act(layer(h))
        out: Tensor = self.gain * self.leave(h)
        return out
