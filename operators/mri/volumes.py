"""Cartesian multi-coil MRI of volumes and of time series; in the plane `invdiff.operators.mri.sense` is the faster one.

A 3D acquisition samples (k_z, k_y) as it likes and reads k_x out fully: its mask is ``(D, H, 1)``. A dynamic one has
another mask in each frame: ``(T, H, W)``, or ``(T, 1, W)`` for whole columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.operators.mri.cartesian import Cartesian, canonical_mask
from invdiff.operators.mri.coil_maps import canonical_maps

__all__ = ["MRI3D", "DynamicMRI"]


class MRI3D(Cartesian):
    """A volume: complex ``(N, sets, D, H, W)`` to k-space ``(N, coils, D, H, W)``, centred at ``n // 2``, orthonormal.

    Args:
        coil_maps: complex, ``(coils, D, H, W)``, ``(problems, coils, D, H, W)`` or ``(problems, sets, coils, D, H,
            W)``; kept in the last form.
        mask: sampled positions, boolean or 0 and 1: ``(W,)`` to ``(problems, D, H, W)``, any length 1 where it does
            not depend on the axis; kept with four axes.

    With P > 1 problems N must be P. k-space stays on its full grid, zero where nothing was sampled.

    Raises:
        ShapeError: a shape does not fit. DTypeError: the maps are not complex.
        InputError: NaN in the maps, other values than 0 and 1 in the mask, or nothing sampled.
    """

    dims = 3

    def __init__(self, coil_maps: Tensor, mask: Tensor) -> None:
        axes = ("D", "H", "W")
        self.coil_maps = canonical_maps(coil_maps, axes, "MRI3D")
        self.mask = canonical_mask(mask, self.coil_maps, axes, 1, "MRI3D")
        self._refresh()

    @classmethod
    def example(cls, rng: torch.Generator) -> MRI3D:
        """Build two sets of maps, two coils, 3 x 5 x 4 voxels and a mask over two phase-encoded axes."""
        maps = torch.randn(1, 2, 2, 3, 5, 4, generator=rng, dtype=torch.complex64)
        mask = torch.rand(3, 5, 1, generator=rng) < 0.5
        mask[1, 3] = True
        return cls(maps, mask)


class DynamicMRI(Cartesian):
    """A series: complex ``(N, sets, T, H, W)`` to k-space ``(N, coils, T, H, W)``, each frame with its own mask.

    Args:
        coil_maps: complex, of all frames: ``(coils, H, W)``, ``(problems, coils, H, W)`` or ``(problems, sets, coils,
            H, W)``; with dims = 3 ``(D, H, W)`` in place of ``(H, W)``. Kept as ``(problems, sets, coils, 1, H, W)``.
        mask: ``(T, H, W)`` or ``(problems, T, H, W)`` (D before H where dims is 3), where any length but T may be 1.
        dims: spatial axes, 2 or 3.

    Raises:
        ShapeError, DTypeError, InputError: as `MRI3D`; dims is neither 2 nor 3.
    """

    def __init__(self, coil_maps: Tensor, mask: Tensor, dims: int = 2) -> None:
        if dims not in (2, 3):
            raise InputError(f"DynamicMRI got dims = {dims}; it expects 2 or 3 spatial axes")
        self.dims = dims
        axes = ("D", "H", "W")[-dims:]
        maps = canonical_maps(coil_maps, axes, "DynamicMRI")
        self.coil_maps = maps.unsqueeze(3)  # the same in every frame
        self.mask = canonical_mask(mask, self.coil_maps, ("T", *axes), dims + 1, "DynamicMRI")
        self._refresh()

    @classmethod
    def example(cls, rng: torch.Generator) -> DynamicMRI:
        """Build three frames of 5 x 4 pixels, two coils and columns of their own in each frame."""
        maps = torch.randn(2, 5, 4, generator=rng, dtype=torch.complex64)
        mask = torch.rand(3, 1, 4, generator=rng) < 0.5
        mask[..., 1] = True
        return cls(maps, mask)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"coil_maps": self.coil_maps.squeeze(3), "mask": self.mask, "dims": self.dims}
