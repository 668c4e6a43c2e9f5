"""How much each view and ray counts in an integral over angles: unequal steps, whole turns, short scans."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import InputError
from invdiff.operators.ct.geometry import Geometry

__all__ = ["weights"]

Array = NDArray[np.float64]
_MISSING = 3.0  # a step this many times the usual one is a part that was not measured


def weights(g: Geometry, limited: bool = False) -> Array:
    """Return the weight of each view and channel in the integral over half a turn, ``(views, 1 or channels)``.

    A view counts half the steps to its neighbours. Parallel beams repeat themselves after pi, and views are ordered
    modulo pi. A fan that turns fully measures each line twice: 1/2. A fan that turns less measures some lines twice,
    and their two weights add to 1 while changing smoothly (D. L. Parker, Med. Phys. 9, 1982; for arcs longer than the
    shortest, with the fan angle replaced by half of what the arc exceeds pi, M. D. Silver, Med. Phys. 27, 2000).

    Raises:
        InputError: the views do not cover what the formula needs, unless `limited`.
    """
    theta = np.array(g.angles)
    if np.ptp(np.array(g.z)) > 0:  # a helix: each voxel takes the turn about its height, so all steps are alike
        return np.full((g.views, 1), float(np.median(np.abs(np.diff(theta)))) / 2)
    period = math.pi if g.parallel else 2 * math.pi
    order = np.argsort(np.mod(theta, period), kind="stable")
    sorted_angles = np.mod(theta, period)[order]
    gaps = np.append(np.diff(sorted_angles), period - sorted_angles[-1] + sorted_angles[0])
    usual = float(np.median(gaps[gaps > 1e-9]))
    widest = int(np.argmax(gaps))
    whole = bool(gaps[widest] <= _MISSING * usual)
    if g.parallel and not whole and not limited:
        raise InputError(
            f"the views leave a gap of {math.degrees(gaps[widest]):.4g} degrees; filtered backprojection needs half a"
            " turn: pass limited=True for what they give, or solve by iteration"
        )
    step = np.empty(g.views)
    if whole:
        step[order] = (gaps + np.roll(gaps, 1)) / 2
        return step[:, None] * (1.0 if g.parallel else 0.5)
    gaps[widest] = usual
    step[order] = (gaps + np.roll(gaps, 1)) / 2
    return step[:, None] if g.parallel else step[:, None] * _parker(g, order, sorted_angles, widest, limited)


def _parker(g: Geometry, order: NDArray[np.int64], sorted_angles: Array, widest: int, limited: bool) -> Array:
    # the arc starts after the widest gap
    beta = np.empty(g.views)
    beta[order] = np.mod(sorted_angles - sorted_angles[(widest + 1) % g.views], 2 * math.pi)
    gamma = g.u() / g.source_detector if g.curved else np.arctan(g.u() / g.source_detector)
    needed, arc = float(np.abs(gamma).max()), float(beta.max())
    delta = (arc - math.pi) / 2
    # Rays beyond the object carry nothing; a fan that only just holds the disc needs asin(radius / distance).
    needed = min(needed, math.asin(min(1.0, g.radius / g.source_axis)))
    if delta < needed * (1 - 1e-3) - 2 * math.pi / g.views and not limited:
        raise InputError(
            f"the source turns by {math.degrees(arc):.4g} degrees; filtered backprojection of a fan needs"
            f" {math.degrees(math.pi + 2 * needed):.4g}: pass limited=True for what they give, or solve by iteration"
        )
    delta = max(delta, 1e-6)
    gamma = np.clip(gamma, -delta, delta)  # of rays that the object does not reach
    # A line seen at (beta, gamma) is seen again at (beta + pi - 2 gamma, -gamma).
    b = beta[:, None]
    rising = np.sin(math.pi / 4 * b / np.maximum(delta + gamma, 1e-9)) ** 2
    falling = np.sin(math.pi / 4 * (math.pi + 2 * delta - b) / np.maximum(delta - gamma, 1e-9)) ** 2
    out = np.where(b < 2 * (delta + gamma), rising, 1.0)
    return np.where(b > math.pi + 2 * gamma, falling, out)
