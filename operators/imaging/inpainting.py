"""Missing pixels: some entries of x are observed, the others are not; and masks of the usual kinds.

Masks are true where x is observed. Hyperspectral completion, missing traces and dead detector columns are the same
operator with a mask over bands or columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator

__all__ = ["Inpainting", "box_mask", "random_pixels", "stripes_mask"]


class Inpainting(LinearOperator):
    """``y = m x``: the data stay on the grid of x and are zero where nothing is observed (`range_mask` says where).

    Args:
        mask: boolean, or 0 and 1; broadcasts to `shape` (``(H, W)`` for all channels alike).
        shape: event shape of x, ``(C, *spatial)``.
        domain: ``"real"`` or ``"complex"``.

    Raises:
        ShapeError: the mask does not broadcast to the shape. InputError: it holds other values, or observes nothing.
    """

    def __init__(self, mask: Tensor, shape: Sequence[int], domain: str = "real") -> None:
        mask, shape = torch.as_tensor(mask), tuple(int(n) for n in shape)
        fits = mask.ndim <= len(shape) and all(
            n in (1, full) for n, full in zip(mask.shape[::-1], shape[::-1], strict=False)
        )
        if not fits:
            raise ShapeError(f"Inpainting got a mask of shape {tuple(mask.shape)}; it must broadcast to {shape}")
        if mask.dtype != torch.bool:
            if not bool(((mask == 0) | (mask == 1)).all()):
                raise InputError(f"Inpainting got a mask of {mask.dtype} with other values than 0 and 1; use booleans")
            mask = mask != 0
        if not bool(mask.any()):
            raise InputError("Inpainting got a mask that is false everywhere; at least one pixel must be observed")
        if domain not in ("real", "complex"):
            raise InputError(f"Inpainting got domain {domain!r}; it expects 'real' or 'complex'")
        self.range_mask: Tensor = mask
        self._weight = mask.float()  # multiplied with eight times as fast as booleans
        self.domain_shape = self.range_shape = shape
        self.domain = self.range = domain

    def _forward(self, x: Tensor) -> Tensor:
        return x * self._weight.to(x.real.dtype)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self._weight.to(y.real.dtype)

    def column_energy(self) -> Tensor:
        return self._weight.float()

    row_energy = column_energy

    @classmethod
    def example(cls, rng: torch.Generator) -> Inpainting:
        """Build a random mask of 5 x 6 pixels for two channels."""
        return cls(random_pixels((5, 6), 0.5, rng=rng), (2, 5, 6))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"mask": self.range_mask, "shape": list(self.domain_shape), "domain": self.domain}


def random_pixels(shape: Sequence[int], observed: float, *, rng: torch.Generator) -> Tensor:
    """``round(observed * pixels)`` pixels drawn without replacement; boolean, of the given shape.

    Raises:
        InputError: `observed` is not in (0, 1], or so small that no pixel is left.
    """
    count = int(torch.Size(shape).numel())
    kept = round(observed * count) if 0 < observed <= 1 else 0
    if kept == 0:
        raise InputError(f"random_pixels got observed = {observed} of {count} pixels; it expects a fraction in (0, 1]")
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.randperm(count, generator=rng, device=rng.device)[:kept].cpu()] = True
    return mask.reshape(*shape)


def box_mask(shape: Sequence[int], start: Sequence[int], size: Sequence[int]) -> Tensor:
    """Everything observed but a box of `size` pixels that begins at `start`; boolean, of the given shape.

    Raises:
        ShapeError: the three differ in length. InputError: the box is not inside the image.
    """
    if not len(shape) == len(start) == len(size):
        raise ShapeError(f"box_mask got shape {shape}, start {start}, size {size}; one number an axis is expected")
    if any(a < 0 or n < 1 or a + n > full for a, n, full in zip(start, size, shape, strict=True)):
        raise InputError(f"box_mask got a box at {start} of size {size}; it must lie inside {shape}")
    mask = torch.ones(*shape, dtype=torch.bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = False
    return mask


def stripes_mask(shape: Sequence[int], missing: Sequence[int], axis: int = -1) -> Tensor:
    """Everything observed but whole lines: the indices `missing` along an axis; boolean, of the given shape.

    Raises:
        InputError: an index is outside the axis.
    """
    length = shape[axis]
    if any(not 0 <= i < length for i in missing):
        raise InputError(f"stripes_mask got {list(missing)}; it expects indices from 0 to {length - 1}")
    mask = torch.ones(*shape, dtype=torch.bool)
    mask.index_fill_(axis, torch.as_tensor(list(missing), dtype=torch.int64), False)
    return mask
