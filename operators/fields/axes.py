"""Where points lie between the nodes of a grid: neighbours and linear weights along an axis, and on the sphere.

Latitudes may ascend or descend, longitudes may run 0 ... 360 or -180 ... 180 or jump between the two, on the grid and
among the points alike: they are compared modulo a turn. A grid whose longitudes go all the way round has a neighbour
for every longitude; if its rows also come to within one row's spacing of a pole, a point beyond the last row lies
between that row and the same row on the other side of the pole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["Neighbours", "axis_neighbours", "check_angles", "goes_round", "sphere_neighbours"]

_SLACK = 1e-3  # of a grid step: points on the outermost nodes, up to rounding


@dataclass(frozen=True)
class Neighbours:
    """Nodes about each point: ``index``, ``weight`` ``(M, K)``; ``over``, whether the node is across a pole (there a
    vector's components have the opposite sign); ``inside`` ``(M,)``, whether the grid covers the point at all."""

    index: Tensor
    weight: Tensor
    over: Tensor
    inside: Tensor

    def join(self, other: Neighbours, length: int) -> Neighbours:
        """Neighbours on the product grid, where `other` is along axes with `length` nodes altogether, which follow."""
        m = len(self.index)
        return Neighbours(
            (self.index[:, :, None] * length + other.index[:, None]).reshape(m, -1),
            (self.weight[:, :, None] * other.weight[:, None]).reshape(m, -1),
            (self.over[:, :, None] ^ other.over[:, None]).reshape(m, -1),
            self.inside & other.inside,
        )


def axis_neighbours(axis: Tensor, points: Tensor, name: str, *, log: bool = False) -> Neighbours:
    """Neighbours along one axis with strictly ascending or descending nodes; linear in the logarithm where `log`.

    Raises:
        ShapeError: axis or points are not one-dimensional. InputError: the axis is not strictly monotone, either holds
            NaN or infinity, or, with `log`, values that are not above 0.
    """
    axis, points = _checked(axis, name), _checked(points, f"points' {name}")
    if log:
        if float(axis.min()) <= 0 or (points.numel() and float(points.min()) <= 0):
            raise InputError(f"{name} has values that are not above 0; interpolation in its logarithm needs pressures")
        axis, points = axis.log(), points.log()
    axis, turned = _ascending(axis, name)
    found = _between(axis, points)
    index = len(axis) - 1 - found.index if turned else found.index
    return Neighbours(index, found.weight, found.over, found.inside)


def sphere_neighbours(latitude: Tensor, longitude: Tensor, points: Tensor) -> Neighbours:
    """Neighbours of points ``(M, 2)`` (latitude, longitude) on a grid (latitude, longitude), all in degrees."""
    lats, turned = _ascending(_checked(latitude, "latitude"), "latitude")
    lons, backwards = _ascending(_unwrapped(_checked(longitude, "longitude")), "longitude")
    lat, lon = _checked(points[:, 0], "points' latitude"), _checked(points[:, 1], "points' longitude")
    round_ = goes_round(lons)

    last = len(lats) - 1
    step = float((lats[1:] - lats[:-1]).max()) if last else 0.0
    rows = _between(lats, lat)
    capped = torch.zeros(len(lat), dtype=torch.bool)
    for end, sign in ((0, -1.0), (last, 1.0)):
        edge = sign * float(lats[end])
        beyond = sign * lat > edge
        if round_ and 90 - edge <= step:
            share = ((sign * lat - edge) / max(2 * (90 - edge), 1e-300)).clamp(0, 0.5)
            rows.weight[beyond] = torch.stack([1 - share, share], 1)[beyond]
            rows.index[beyond] = end
            capped |= beyond
    rows.inside[capped] = True
    rows.over[capped, 1] = True

    east, west = (_around(lons, angle, round_) for angle in (lon, lon + 180))
    index, weight = [], []
    for k in (0, 1):
        row, over = rows.index[:, k], rows.over[:, k, None]
        column = torch.where(over, west.index, east.index)
        index.append(
            (last - row if turned else row)[:, None] * len(lons) + (len(lons) - 1 - column if backwards else column)
        )
        weight.append(rows.weight[:, k, None] * torch.where(over, west.weight, east.weight))
    return Neighbours(
        torch.cat(index, 1),
        torch.cat(weight, 1),
        rows.over.repeat_interleave(2, 1),
        rows.inside & east.inside,
    )


def check_angles(latitude: Tensor, longitude: Tensor, points: Tensor | None, units: str | None) -> None:
    """Refuse angles that cannot be degrees, or, where no unit was named, hardly are.

    Raises:
        InputError: a latitude is beyond a pole, a longitude beyond two turns, or all look like radians.
    """
    for name, values, limit in [("latitude", latitude, 90.0), ("longitude", longitude, 720.0)] + (
        [("points' latitude", points[:, 0], 90.0), ("points' longitude", points[:, 1], 720.0)]
        if points is not None
        else []
    ):
        if values.numel() and bool((values.abs() > limit * (1 + 1e-9)).any()):
            hint = "; are the columns (latitude, longitude) in this order?" if "points" in name else ""
            raise InputError(
                f"{name} reaches {float(values.abs().max()):.6g}; it expects degrees between {-limit:g} and {limit:g}"
                f" (units='radians' converts){hint}"
            )
    if units is not None:
        return
    extent = float(longitude.max() - longitude.min())
    if len(longitude) > 8 and 6.0 < extent <= 2 * math.pi + 1e-6 and float(latitude.abs().max()) <= math.pi / 2 + 1e-6:
        raise InputError(
            f"the grid's longitudes span {extent:.4g} and its latitudes stay below pi/2: these look like radians. Say"
            " units='radians' or units='degrees'"
        )
    if points is None or len(points) < 4:
        return
    wide = points[:, 1].max() - points[:, 1].min() > 1 and float(latitude.abs().max()) > 30
    if bool(wide) and float(points[:, 0].abs().max()) <= math.pi / 2 and float(points[:, 1].abs().max()) <= 2 * math.pi:
        raise InputError(
            f"all {len(points)} points have |latitude| <= pi/2 and |longitude| <= 2 pi: these look like radians on a"
            " grid in degrees. Convert them, or say units='degrees' if they are right"
        )


def goes_round(longitude: Tensor) -> bool:
    """Whether ascending longitudes (degrees) go all the way round: the gap left is no wider than their steps."""
    if len(longitude) < 2:
        return False
    step = float((longitude[1:] - longitude[:-1]).max())
    return 360 - float(longitude[-1] - longitude[0]) <= step * 1.01


def _around(lons: Tensor, lon: Tensor, round_: bool) -> Neighbours:
    """Neighbours along longitudes; those at the seam are the last and the first node."""
    lon = lons[0] + torch.remainder(lon - lons[0], 360)
    slack = _SLACK * float(lons.diff().min()) if len(lons) > 1 else 1e-9
    lon = torch.where(lon - lons[0] > 360 - slack, lons[0], lon)
    if not round_ or float(lons[-1] - lons[0]) >= 360 - 1e-9:
        return _between(lons, lon)
    found = _between(torch.cat([lons, lons[:1] + 360]), lon)
    return Neighbours(found.index % len(lons), found.weight, found.over, found.inside)


def _between(axis: Tensor, points: Tensor) -> Neighbours:
    """Neighbours along an ascending axis; outside it the nearest node, marked as not inside."""
    last = len(axis) - 1
    step = float((axis[1:] - axis[:-1]).min()) if last else max(1.0, abs(float(axis[0])))
    inside = (points >= axis[0] - _SLACK * step) & (points <= axis[-1] + _SLACK * step)
    low = (torch.searchsorted(axis, points.contiguous(), right=True) - 1).clamp(0, max(last - 1, 0))
    high = (low + 1).clamp_max(last)
    share = ((points - axis[low]) / (axis[high] - axis[low])).clamp(0, 1) if last else torch.zeros_like(points)
    return Neighbours(
        torch.stack([low, high], 1),
        torch.stack([1 - share, share], 1),
        torch.zeros(len(points), 2, dtype=torch.bool),
        inside,
    )


def _ascending(axis: Tensor, name: str) -> tuple[Tensor, bool]:
    steps = axis[1:] - axis[:-1]
    if bool((steps > 0).all()):
        return axis, False
    if bool((steps < 0).all()):
        return axis.flip(0), True
    raise InputError(f"{name} neither ascends nor descends strictly; it expects the coordinates of a grid's axis")


def _unwrapped(longitude: Tensor) -> Tensor:
    """Longitudes without the jump from 180 to -180, or from 360 to 0."""
    out = torch.from_numpy(np.unwrap(longitude.numpy(), period=360.0))
    if float(out.max() - out.min()) > 360 + 1e-9:
        raise InputError("longitude spans more than a turn; every meridian must be there once")
    return out


def _checked(values: Tensor, name: str) -> Tensor:
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 1:
        raise ShapeError(f"{name} has shape {tuple(values.shape)}; it expects one dimension")
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).nonzero()[0])
        raise InputError(f"{name} holds NaN or infinity (first at position {bad}); leave such points out")
    return values
