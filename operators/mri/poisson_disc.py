"""A given number of points on a grid that keep their distance from each other (Poisson disc), quickly."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill"]

_SATURATION = 0.70  # points per r^2 at which random points r apart leave no room (random sequential adsorption)


def fill(
    mask: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    weight: NDArray[np.float64],
    missing: int,
    rng: np.random.RandomState,
) -> None:
    """Add `missing` points to the mask ``(H, W)``, in place, where `inside` is true.

    Points are tried in random order and kept where none is nearer than ``r weight`` grid steps. When no room is left,
    r shrinks by a few percent and the gaps are filled again (McCool and Fiume, Graphics Interface 1992). There must be
    that many free points inside.
    """
    from scipy.ndimage import distance_transform_edt

    r = 1.1 * math.sqrt(_SATURATION * float((inside / weight**2).sum()) / max(missing, 1))
    while missing > 0:
        distance = distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
        # Grid points are one step apart, so a distance of at most 1 forbids nothing and the loop ends.
        room = inside & ~mask & (distance >= np.maximum(r * weight, 1))
        missing -= _throw(mask, rng.permutation(np.flatnonzero(room)), r * weight, missing)
        r *= 0.95


def _throw(mask: NDArray[np.bool_], order: NDArray[np.intp], radius: NDArray[np.float64], limit: int) -> int:
    """Add the points `order` (flat indices) to the mask that none added before is too near to, at most `limit`."""
    height, width = mask.shape
    pad = int(np.ceil(radius.max())) if order.size else 0
    stride = width + 2 * pad
    blocked = bytearray((height + 2 * pad) * stride)
    view = np.frombuffer(blocked, np.uint8)  # fast single look-ups in one, fast strokes in the other
    padded = (order // width + pad) * stride + order % width + pad
    # Squared distances on the grid are integers: discs of radius r are told apart by the ceiling of r^2.
    squares = np.ceil(radius.reshape(-1)[order] ** 2).astype(int)
    discs: dict[int, NDArray[np.intp]] = {}
    chosen = []
    for point, at, square in zip(order.tolist(), padded.tolist(), squares.tolist(), strict=True):
        if blocked[at]:
            continue
        chosen.append(point)
        if len(chosen) == limit:
            break
        if square not in discs:
            reach = np.arange(-pad, pad + 1)
            di, dj = np.nonzero(reach[:, None] ** 2 + reach**2 < square)
            discs[square] = (di - pad) * stride + dj - pad
        view[at + discs[square]] = 1
    mask.reshape(-1)[chosen] = True
    return len(chosen)
