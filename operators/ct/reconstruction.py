"""Filtered backprojection (parallel and fan beams) and its cone-beam form by Feldkamp, Davis and Kress."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import DTypeError
from invdiff.operators.base import LinearOperator
from invdiff.operators.ct.backprojection import backproject
from invdiff.operators.ct.coverage import is_aside, missing_channels, weights
from invdiff.operators.ct.filters import filtered, ramp
from invdiff.operators.ct.tomography import Tomography

__all__ = ["fbp"]


def fbp(
    operator: LinearOperator, y: Tensor, *, window: str = "ram-lak", cutoff: float = 1.0, limited: bool = False
) -> Tensor:
    """Reconstruct mu from line integrals, in one over the operator's length unit; linear in y and differentiable.

    Weigh each ray by the cosine of its angle to the central one and by how often its line was measured, filter along
    the channels, and backproject: ``mu(r) = sum_k weight_k(r) (ramp * weighted y_k)(place of r)``. Cone beams are
    treated as tilted fans, which is exact in the plane of the source and approximate elsewhere; on a helix each voxel
    takes the turn about its height, so the heights need half a turn beyond the volume. After a full turn the detector
    may stand aside, so that it sees one half of the object at a time.

    Args:
        operator: the tomograph.
        y: line integrals ``(N, *range_shape)``.
        window: ``ram-lak``, ``shepp-logan``, ``cosine``, ``hamming`` or ``hann``.
        cutoff: where the window ends, as a fraction of the highest frequency.
        limited: go on where the views cover too small an arc (streaks are the result).

    Returns:
        Images ``(N, *domain_shape)``.

    Raises:
        ShapeError, DTypeError: y does not fit. UnknownNameError: the window. InputError: the arc is too short.

    Sources: A. C. Kak and M. Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3; L. A. Feldkamp,
    L. C. Davis and J. W. Kress, J. Opt. Soc. Am. A 1 (1984); helix: G. Wang et al., IEEE Trans. Med. Imaging 12 (1993).
    """
    if not isinstance(operator, Tomography):
        raise DTypeError(f"fbp got {operator!r}; it expects ParallelCT, FanCT or ConeCT (or some of its views)")
    operator._check(y, operator.range_shape, operator.range, "y", "fbp")
    g = operator.geometry
    u, v = torch.from_numpy(g.u()), torch.from_numpy(g.v())[:, None]
    near, far = g.source_axis, g.source_detector
    if g.parallel:
        cosine, spacing = torch.ones(1, 1, dtype=torch.float64), g.channel_spacing
    elif g.curved:
        cosine = near * torch.cos(u / far) * far / torch.sqrt(far**2 + v**2)
        spacing = g.channel_spacing / far
    else:
        cosine = far / torch.sqrt(far**2 + u**2 + v**2)
        spacing = g.channel_spacing * near / far
    share = torch.from_numpy(weights(g, limited))[:, None]  # (views, 1, channels or 1)
    data = y.reshape(-1, g.views, g.rows, g.channels)
    data = data * (share * cosine).to(data)
    if share.shape[-1] > 1 and is_aside(g):  # what is filtered reaches beyond the shorter side
        low, high = missing_channels(g)
        data = torch.nn.functional.pad(data, (low, high))
        moved = g.channel_offset + (high - low) / 2 * g.channel_spacing
        g = replace(g, channels=g.channels + low + high, channel_offset=moved)
    q = filtered(data, ramp(g.channels, spacing, window, cutoff, g.curved))
    climb = float(np.ptp(np.array(g.z)))
    half = math.inf
    if climb > 0:
        half = climb / float(np.ptp(np.array(g.angles))) * math.pi
    return backproject(q, g, half).reshape(-1, *operator.domain_shape)
