"""One state of a window of several times, in its own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator

__all__ = ["Snapshot"]


class Snapshot(LinearOperator):
    """``y = s z_t``: state t of T states that follow each other along the channels, times a scale for each channel.

    Windows ``(T C, *spatial)`` to states ``(C, *spatial)``. ``station @ Snapshot(...)`` is a station at that time.

    Args:
        shape: event shape of x, ``(T C, *spatial)``.
        index: t, from 0.
        scale: s, one number a channel, ``(C,)``: what turns standardised anomalies into the channel's unit.

    Raises:
        ShapeError: C does not divide the channels. InputError: there is no such state, or a scale is not finite.
    """

    def __init__(self, shape: Sequence[int], index: int, scale: Tensor | Sequence[float]) -> None:
        self.scale = torch.as_tensor(scale, dtype=torch.float32)
        shape = tuple(int(n) for n in shape)
        count = self.scale.numel()
        if self.scale.ndim != 1 or not count or len(shape) < 2 or shape[0] % count:
            raise ShapeError(f"Snapshot got scale {tuple(self.scale.shape)} for windows {shape}; expected (C,) of T C")
        if not 0 <= index < shape[0] // count or not bool(torch.isfinite(self.scale).all()):
            raise InputError(f"Snapshot got state {index} of {shape[0] // count}, or a scale that is not finite")
        self.index, self.domain_shape, self.range_shape = int(index), shape, (count, *shape[1:])

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"scale": self.scale}

    def _forward(self, x: Tensor) -> Tensor:
        count = len(self.scale)
        return x[:, self.index * count : (self.index + 1) * count] * self._factors(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        count = len(self.scale)
        out = y.new_zeros(len(y), *self.domain_shape)
        out[:, self.index * count : (self.index + 1) * count] = y * self._factors(y)
        return out

    def _factors(self, like: Tensor) -> Tensor:
        return self.scale.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 2))

    @classmethod
    def example(cls, rng: torch.Generator) -> Snapshot:
        """Build the middle one of three states of two channels."""
        return cls((6, 4, 5), 1, torch.rand(2, generator=rng) + 0.5)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"shape": list(self.domain_shape), "index": self.index, "scale": self.scale}
