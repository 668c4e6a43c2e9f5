"""JPEG-like compression: block cosine transform, quantisation and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import Operator
from invdiff.operators.imaging.quantisation import straight_through

__all__ = ["JPEG"]

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


class JPEG(Operator):
    """What an image looks like after JPEG at a quality: ``D^T q round(D x / q)`` on blocks of 8 x 8 pixels.

    D is the orthonormal cosine transform and q the table of ITU-T T.81 (1992), Annex K.1, scaled by quality as the
    Independent JPEG Group does. Every channel is treated as luminance: there is no conversion of colours and no chroma
    subsampling, the result is neither rounded to 8 bits nor clipped, and entropy coding loses nothing. Images whose
    sides are no multiples of 8 are continued by their edge pixels. `jvp` and `vjp` pass straight through the rounding.

    Args:
        shape: event shape of x and y, ``(C, H, W)``.
        quality: 1 (coarsest) to 100.
        black, white: values of x that 0 and 255 stand for.

    Raises:
        ShapeError: the shape is not ``(C, H, W)``. InputError: quality is outside 1 ... 100, or white not above black.
    """

    exact_derivative = False

    def __init__(self, shape: Sequence[int], quality: int, black: float = 0.0, white: float = 1.0) -> None:
        if len(shape) != 3:
            raise ShapeError(f"JPEG got events of shape {tuple(shape)}; it expects (C, H, W)")
        if not 1 <= quality <= 100 or not black < white:
            raise InputError(
                f"JPEG got quality {quality}, black {black}, white {white}; expected 1 ... 100, black < white"
            )
        self.quality, self.black, self.white = int(quality), float(black), float(white)
        self.domain_shape = self.range_shape = tuple(int(n) for n in shape)
        percent = 5000 / self.quality if self.quality < 50 else 200 - 2 * self.quality
        table = torch.tensor(_LUMINANCE, dtype=torch.float32)
        self.table = ((table * percent + 50) / 100).floor().clamp(1, 255)
        k, n = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
        cosines = 0.5 * torch.cos(math.pi * (2 * n + 1) * k / 16)
        cosines[0] /= math.sqrt(2)
        self.cosines = cosines.float()

    def _forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        unit = (self.white - self.black) / 255
        table, cosines = self.table.to(x.dtype), self.cosines.to(x.dtype)
        rows = torch.arange(-(-height // 8) * 8, device=x.device).clamp_max(height - 1)
        columns = torch.arange(-(-width // 8) * 8, device=x.device).clamp_max(width - 1)
        levels = ((x - self.black) / unit - 128).index_select(-2, rows).index_select(-1, columns)
        blocks = levels.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-2, -3)  # (..., 8, 8) last
        scaled = cosines @ blocks @ cosines.mT / table
        decoded = cosines.mT @ (straight_through(scaled, torch.round(scaled)) * table) @ cosines
        whole = decoded.transpose(-2, -3).flatten(-4, -3).flatten(-2)
        return (whole[..., :height, :width] + 128) * unit + self.black

    @classmethod
    def example(cls, rng: torch.Generator) -> JPEG:
        """Build quality 30 on one channel of 11 x 16 pixels between -2 and 2."""
        del rng
        return cls((1, 11, 16), 30, -2.0, 2.0)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "shape": list(self.domain_shape),
            "quality": self.quality,
            "black": self.black,
            "white": self.white,
        }
