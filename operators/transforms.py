"""The centred orthonormal Fourier transform as an operator, along any axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.operators.base import LinearOperator

__all__ = ["Fourier"]


class Fourier(LinearOperator):
    """``y = F x`` on complex events: centred at ``n // 2``, orthonormal, so ``F^H F`` is the identity.

    Args:
        shape: event shape.
        axes: axes of the event to transform; the last two if not given (the last, of a vector).

    Raises:
        InputError: an axis does not exist or is named twice.
    """

    domain = range = "complex"

    def __init__(self, shape: Sequence[int], axes: Sequence[int] | None = None) -> None:
        self.domain_shape = self.range_shape = tuple(int(n) for n in shape)
        rank = len(self.domain_shape)
        chosen = tuple(axes) if axes is not None else (-2, -1)[-min(rank, 2) :]
        if not all(-rank <= a < rank for a in chosen) or len({a % rank for a in chosen}) != len(chosen) or not chosen:
            raise InputError(
                f"Fourier got axes {chosen}; it expects different axes of an event of shape {tuple(shape)}"
            )
        self.axes = tuple(a % rank - rank for a in chosen)

    def _forward(self, x: Tensor) -> Tensor:
        shifted = torch.fft.ifftshift(x, self.axes)
        return torch.fft.fftshift(torch.fft.fftn(shifted, dim=self.axes, norm="ortho"), self.axes)

    def _adjoint(self, y: Tensor) -> Tensor:
        shifted = torch.fft.ifftshift(y, self.axes)
        return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=self.axes, norm="ortho"), self.axes)

    def column_energy(self) -> float:
        return 1.0

    row_energy = column_energy

    @classmethod
    def example(cls, rng: torch.Generator) -> Fourier:
        """Build the transform of 2 x 5 x 6 events along the first and last axes."""
        del rng
        return cls((2, 5, 6), (0, -1))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"shape": list(self.domain_shape), "axes": list(self.axes)}
