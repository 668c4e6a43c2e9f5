"""The form in which operators keep coil sensitivities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError

__all__ = ["canonical_maps", "seen"]


def canonical_maps(maps: Tensor, axes: Sequence[str], name: str) -> Tensor:
    """Return coil maps as ``(problems, sets, coils, *grid)``, given with or without the first two axes.

    Args:
        maps: complex, ``(coils, *grid)``, ``(problems, coils, *grid)`` or ``(problems, sets, coils, *grid)``.
        axes: names of the axes of the grid, for the messages.
        name: the operator's, for the messages.

    Raises:
        ShapeError: the rank is none of the three. DTypeError: not complex. InputError: NaN or infinity.
    """
    maps = torch.as_tensor(maps)
    rank, grid = len(axes), ", ".join(axes)
    if not rank + 1 <= maps.ndim <= rank + 3 or 0 in maps.shape:
        raise ShapeError(
            f"{name} got coil_maps of shape {tuple(maps.shape)}; it expects (coils, {grid}), (problems, coils, {grid})"
            f" or (problems, sets, coils, {grid})"
        )
    if not maps.is_complex():
        raise DTypeError(f"{name} got coil_maps of {maps.dtype}; it expects complex: use coil_maps.to(torch.complex64)")
    if not bool(torch.isfinite(torch.view_as_real(maps.resolve_conj())).all()):
        raise InputError(f"{name} got coil_maps that hold NaN or infinity; set unusable pixels to zero")
    if maps.ndim == rank + 1:
        maps = maps[None]
    return (maps[:, None] if maps.ndim == rank + 2 else maps).contiguous()


def seen(maps: Tensor) -> Tensor | None:
    """Where some coil sees x (`Operator.support`), for maps ``(problems, sets, coils, *grid)``; None if everywhere."""
    support = maps.abs().sum(2) > 0
    if bool(support.all()):
        return None
    return support[0] if len(support) == 1 else support
