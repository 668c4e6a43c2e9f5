"""Where the axis of rotation falls on the detector, and how the detector is turned in its plane, from the data alone.

Averaged over a whole turn an object is axially symmetric, so the mean view is its own mirror image in the projected
axis of rotation; this holds for parallel, fan and cone beams exactly and bears a detector that is too small. Parallel
beams over less than a turn are centred by moments: the centre of mass of view theta lies at ``u + x cos theta + y sin
theta``, where u is what the axis is at.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.ct.tomography import Tomography

__all__ = ["detector_tilt", "rotation_centre"]

Array = NDArray[np.float64]


def rotation_centre(operator: Tomography, y: Tensor) -> float:
    """Return the `detector_offset` of the channels (length unit) that puts the axis of rotation where the data have it.

    Args:
        operator: the tomograph as it is thought to be; its own offset does not matter.
        y: line integrals, ``range_shape``.

    Raises:
        ShapeError: y does not fit. InputError: a fan or cone that does not turn fully, views over less than a quarter
            turn, a helix, or data that hold no object.
    """
    data = _data(operator, y)
    g = operator.geometry
    if _whole_turn(np.array(g.angles)):
        at, _ = _mirror_axis(operator, data, tilted=False)
        return g.channel_offset - at
    theta = np.array(g.angles)
    if not g.parallel or np.ptp(theta) < math.pi / 2:
        raise InputError(
            f"the views span {math.degrees(np.ptp(theta)):.4g} degrees; the axis of rotation is found from a whole"
            " turn, or from a quarter turn or more of parallel beams"
        )
    profile = data.sum(1)
    mass = profile.sum(1)
    if not bool((mass > 0).all()):
        raise InputError("a view has no positive sum: line integrals of an object were expected")
    centre = profile @ g.u() / mass
    design = np.stack([np.ones_like(theta), np.cos(theta), np.sin(theta)], 1)
    return g.channel_offset - float(np.linalg.lstsq(design, centre, rcond=None)[0][0])


def detector_tilt(operator: Tomography, y: Tensor) -> tuple[float, float]:
    """Return (`detector_offset` of the channels, `detector_tilt` in radians) from a whole turn of area-detector data.

    Arguments and errors are those of `rotation_centre`; InputError also where there is one row only.
    """
    data = _data(operator, y)
    g = operator.geometry
    if g.planar or g.rows < 4:
        raise InputError(f"{g.rows} detector row(s) do not show a tilt; at least 4 are expected")
    if not _whole_turn(np.array(g.angles)):
        raise InputError("the tilt is found from a whole turn; these views leave out a part of it")
    at, tilt = _mirror_axis(operator, data, tilted=True)
    return g.channel_offset - at, tilt


def _data(operator: Tomography, y: Tensor) -> Array:
    if tuple(y.shape) != operator.range_shape:
        raise ShapeError(f"y has shape {tuple(y.shape)}; {operator!r} gives {operator.range_shape}")
    g = operator.geometry
    if np.ptp(np.array(g.z)) > 0:
        raise InputError("the views stand at different heights; calibrate with a scan on a circle")
    data = y.detach().double().cpu().numpy().reshape(g.views, g.rows, g.channels)
    if not np.isfinite(data).all() or np.ptp(data) == 0:
        raise InputError("y is constant or holds NaN; line integrals of an object were expected")
    return data


def _whole_turn(theta: Array) -> bool:
    turned = np.sort(np.mod(theta, 2 * math.pi))
    gaps = np.append(np.diff(turned), 2 * math.pi - turned[-1] + turned[0])
    return bool(gaps.max() <= 3 * np.median(gaps[gaps > 1e-9]))


def _mirror_axis(operator: Tomography, data: Array, tilted: bool) -> tuple[float, float]:
    """(u where the axis crosses v = 0, its angle) of the mean view's best mirror axis."""
    from scipy.ndimage import spline_filter
    from scipy.optimize import minimize

    g = operator.geometry
    theta = np.mod(np.array(g.angles), 2 * math.pi)
    order = np.argsort(theta)
    gaps = np.append(np.diff(theta[order]), 2 * math.pi - theta[order[-1]] + theta[order[0]])
    step = np.empty_like(theta)
    step[order] = (gaps + np.roll(gaps, 1)) / 2
    mean = np.tensordot(step / step.sum(), data, 1)
    spline = spline_filter(mean, order=3)

    def misfit(values: Any) -> float:
        return _misfit(mean, spline, g.u(), g.v(), float(values[0]), float(values[1]) if tilted else 0.0)

    middle, half = g.u().mean(), np.ptp(g.u()) / 2
    guesses = np.arange(middle - 0.75 * half, middle + 0.75 * half, g.channel_spacing)
    best = min(guesses, key=lambda at: misfit((at, 0.0)))
    corners = [(best, 0.0), (best + g.channel_spacing, 0.0), (best, 0.02)][: 3 if tilted else 2]
    simplex = np.array(corners) if tilted else np.array(corners)[:, :1]
    options = {"initial_simplex": simplex, "xatol": 1e-5 * g.channel_spacing, "fatol": 1e-14, "maxiter": 400}
    found = minimize(misfit, simplex[0], method="Nelder-Mead", options=options).x
    return float(found[0]), float(found[1]) if tilted else 0.0


def _misfit(mean: Array, spline: Array, u: Array, v: Array, at: float, tilt: float) -> float:
    """One minus the correlation of the mean view with its mirror image, where they overlap."""
    from scipy.ndimage import map_coordinates

    cos, sin = math.cos(tilt), math.sin(tilt)
    away = (u[None] - at) * cos - v[:, None] * sin  # distance from the axis, whose direction is (sin, cos)
    mirrored_u, mirrored_v = u[None] - 2 * away * cos, v[:, None] + 2 * away * sin
    j = (mirrored_u - u[0]) / (u[1] - u[0])
    i = (mirrored_v - v[0]) / (v[1] - v[0]) if len(v) > 1 else np.zeros_like(j)
    inside = (j >= 0) & (j <= len(u) - 1) & (i >= 0) & (i <= max(len(v) - 1, 0))
    if inside.sum() < 0.2 * mean.size:
        return 2.0
    other = map_coordinates(spline, [i[inside], j[inside]], order=3, prefilter=False, mode="mirror")
    a, b = mean[inside] - mean[inside].mean(), other - other.mean()
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return 1 - float((a * b).sum()) / scale if scale > 0 else 2.0
