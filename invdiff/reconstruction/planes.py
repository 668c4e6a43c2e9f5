"""Scores in the three planes of a volume, of one problem or of slices that make one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from invdiff.datasets.volume import from_attributes
from invdiff.metrics.planes import PLANES, plane_scores, planes_of

__all__ = ["LEAST", "plane_rows"]

LEAST = 7  # slices that are worth looking at from the side


def plane_rows(
    truth: Tensor, images: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """One row a method and plane: ``method, plane, slice, psnr, ssim, coverage90``; slice is "all", coverage None.

    Args:
        truth: ``(problems, 1, [D,] H, W)``; fewer than seven slices in all give no rows.
        images: the same, by method.
        meta: of the measurement; where it says how the volume stands, planes are named by that.
    """
    volume = truth.reshape(-1, *truth.shape[-2:])
    if len(volume) < LEAST:
        return []
    place = from_attributes(meta or {})
    names = PLANES if place is None else planes_of(place.affine)
    return [
        {"method": name, "plane": plane, "slice": "all", "psnr": ratio, "ssim": likeness, "coverage90": None}
        for name, x in images.items()
        for plane, (ratio, likeness) in plane_scores(volume, x.cpu().reshape(volume.shape), names).items()
    ]
