"""Joseph's rule: a line integral as a sum of interpolated values, one for each plane of voxels that the ray crosses.

In units of voxels a ray advances most along one axis, its main axis. On plane m of that axis it is at ``p + m dp`` and
``q + m dq`` of the other two, and ``integral mu = length sum_m mu(m, p + m dp, q + m dq)``, where mu between voxels is
(bi)linear and zero outside the grid. P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982). The adjoint spreads with the
same weights; the kernels in this folder and the matrix all follow this page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from invdiff.operators.ct.geometry import Geometry, Views

__all__ = ["OTHERS", "TIE", "Rays", "rays_of"]

OTHERS = ((1, 2), (0, 2), (0, 1))  # the axes of p and q for each main axis of (z, y, x)
# A later axis becomes the main one only if the ray advances more along it by this factor, so that rays at exactly 45
# degrees are treated alike by all kernels, whatever their rounding.
TIE = 1 + 1e-9

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rays:
    """Rays of some views, one entry a ray in the order (view, row, channel); positions in voxels."""

    axis: NDArray[np.int8]
    p: Array
    dp: Array
    q: Array
    dq: Array
    length: Array


def rays_of(geometry: Geometry, views: Views, first: int, last: int) -> Rays:
    """Return the rays of views ``first <= k < last``."""
    k = slice(first, last)
    spacing, origin = np.array(geometry.spacing), geometry.origin
    e_d, e_u, e_v = (e[k, None, None] for e in (views.e_d, views.e_u, views.e_v))
    point = views.points[k, None, None] + views.depth[:, None] * e_d + views.u[:, None] * e_u
    point = point + views.v[:, None, None] * e_v  # (views, rows, channels, 3)
    direction = np.broadcast_to(e_d, point.shape) if geometry.parallel else point - views.sources[k, None, None]
    start, step = ((point - origin) / spacing).reshape(-1, 3), (direction / spacing).reshape(-1, 3)
    size = np.abs(step)
    axis = np.where(size[:, 1] > size[:, 0] * TIE, 1, 0)
    axis = np.where(size[:, 2] > np.maximum(size[:, 0], size[:, 1]) * TIE, 2, axis)
    n, other = np.arange(len(axis)), np.array(OTHERS)[axis]
    main = step[n, axis]
    slope_p, slope_q = step[n, other[:, 0]] / main, step[n, other[:, 1]] / main
    return Rays(
        axis.astype(np.int8),
        start[n, other[:, 0]] - start[n, axis] * slope_p,
        slope_p,
        start[n, other[:, 1]] - start[n, axis] * slope_q,
        slope_q,
        np.sqrt((direction.reshape(-1, 3) ** 2).sum(1)) / np.abs(main),
    )
