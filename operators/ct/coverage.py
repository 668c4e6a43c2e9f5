"""How much each view and ray counts in an integral over angles: unequal steps, whole turns, short scans."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import InputError
from invdiff.operators.ct.geometry import Geometry

__all__ = ["is_aside", "missing_channels", "weights"]

Array = NDArray[np.float64]
_MISSING = 3.0  # a step this many times the usual one is a part that was not measured


def weights(g: Geometry, limited: bool = False) -> Array:
    """Return the weight of each view and channel in the integral over half a turn, ``(views, 1 or channels)``.

    A view counts half the steps to its neighbours. Parallel beams repeat themselves after pi, and views are ordered
    modulo pi. A fan that turns fully measures each line twice: 1/2. A fan that turns less measures some lines twice,
    and their two weights add to 1 while changing smoothly (D. L. Parker, Med. Phys. 9, 1982; for arcs longer than the
    shortest, with the fan angle replaced by half of what the arc exceeds pi, M. D. Silver, Med. Phys. 27, 2000). After
    a full turn with a detector moved aside (`_aside`), lines near the axis are seen twice and the others once.

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
        aside = _aside(g)
        if aside is None:
            return step[:, None] * (1.0 if g.parallel else 0.5)
        if g.parallel:
            around = np.sort(np.mod(theta, 2 * math.pi))
            widest_gap = float(np.append(np.diff(around), 2 * math.pi - around[-1] + around[0]).max())
            if widest_gap > 2 * _MISSING * usual and not limited:
                raise InputError(
                    f"the detector sees one side of the object, and the views leave {math.degrees(widest_gap):.4g}"
                    " degrees of the turn out; expected a full turn: pass limited=True, or solve by iteration"
                )
        return step[:, None] * aside * (2.0 if g.parallel else 1.0)
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


def is_aside(g: Geometry) -> bool:
    """Whether the detector sees all of the object on one side of the axis, and less than nine tenths on the other."""
    reach = g.radius if g.parallel else math.asin(min(1.0, g.radius / g.source_axis))
    at = _place(g)
    sides = -float(at.min()), float(at.max())
    return min(sides) < 0.9 * reach and max(sides) >= reach * (1 - 1e-3)


def missing_channels(g: Geometry) -> tuple[int, int]:
    """How many channels before the first and after the last would make the detector symmetric about the axis."""
    u = g.u()
    gap = math.ceil((float(u.max()) + float(u.min())) / g.channel_spacing)
    return max(gap, 0), max(-gap, 0)


def _place(g: Geometry) -> Array:
    """Coordinate or, of a fan, angle of each channel."""
    return g.u() if g.parallel else g.u() / g.source_detector if g.curved else np.arctan(g.u() / g.source_detector)


def _aside(g: Geometry) -> Array | None:
    """Weight of each channel, ``(channels,)``, of a detector that sees the whole object on one side of the axis only.

    With delta the reach of the shorter side, ``w = (1 + sin(pi/2 angle / delta))/2`` between -delta and delta, which
    adds to 1 with that of the same line seen from behind, 1 beyond and 0 before (G. Wang, Med. Phys. 29, 2002). None
    where it does not stand aside.

    Raises:
        InputError: the shorter side does not reach the axis.
    """
    if not is_aside(g):
        return None
    at = _place(g)
    sides = -float(at.min()), float(at.max())
    if min(sides) <= 0:
        raise InputError(
            "the detector ends before the projection of the axis; filtered backprojection of one side needs some"
            " channels beyond it: solve by iteration"
        )
    sign = 1.0 if sides[1] > sides[0] else -1.0
    return (1 + np.sin(math.pi / 2 * np.clip(sign * at / min(sides), -1, 1))) / 2
