"""Where the rays of a tomograph run: image grid, source and detector, view by view, in one length unit.

Axes and signs (all lengths in one unit, millimetres or pixels; angles in radians):

- An image is ``(H, W)`` or a volume ``(D, H, W)``: x grows with the column, y with the row, z with the slice, and the
  middle of the grid lies at `image_centre`. The axis of rotation is the line x = y = 0.
- At angle theta the central ray runs along ``e_d = (-sin theta, cos theta, 0)`` (x, y, z), and detector channels are
  counted along ``e_u = (cos theta, sin theta, 0)``, rows along ``e_v = (0, 0, 1)``. A parallel beam thus measures
  ``p(theta, s) = integral of mu over x cos theta + y sin theta = s``.
- A source stands at ``-source_axis e_d``, the detector is ``source_detector`` away from it. Channel j of n has the
  coordinate ``u_j = (j - (n - 1) / 2) spacing + offset``, rows alike; the central ray meets u = v = 0. On a curved
  detector (an arc around the source) u is measured along the arc.
- A detector turned in its own plane by the tilt eta has its channels along ``cos eta e_u + sin eta e_v`` and its rows
  along ``cos eta e_v - sin eta e_u``.
- `z` is the height of source and detector in each view (a helix).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import InputError

__all__ = ["Geometry", "Views"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Views:
    """A geometry as the projectors read it; vectors are (z, y, x), in the length unit.

    Ray (i, j) of view k passes ``points[k] + depth[j] e_d + u[j] e_u + v[i] e_v``; it comes from ``sources[k]``, or
    runs along ``e_d`` where the beam is parallel.
    """

    sources: Array  # (views, 3)
    points: Array  # (views, 3)
    e_d: Array  # (views, 3)
    e_u: Array  # (views, 3), turned by the tilt
    e_v: Array  # (views, 3), turned by the tilt
    depth: Array  # (channels,)
    u: Array  # (channels,)
    v: Array  # (rows,)


@dataclass(frozen=True)
class Geometry:
    """The grid and the rays; `invdiff.operators.ct` operators build and check it.

    ``shape``, ``spacing`` and ``centre`` are (z, y, x); a planar geometry (2D) has one slice and one row, and its rays
    stay in z = 0. ``source_detector`` is infinite for parallel beams.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]
    angles: tuple[float, ...]
    z: tuple[float, ...]
    rows: int
    channels: int
    row_spacing: float
    channel_spacing: float
    row_offset: float = 0.0
    channel_offset: float = 0.0
    tilt: float = 0.0
    source_axis: float = math.inf
    source_detector: float = math.inf
    curved: bool = False
    planar: bool = False

    @property
    def parallel(self) -> bool:
        """Whether all rays of a view share one direction."""
        return math.isinf(self.source_axis)

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.angles)

    @property
    def rays(self) -> int:
        """Number of data."""
        return self.views * self.rows * self.channels

    @property
    def origin(self) -> Array:
        """Position (z, y, x) of the middle of the first voxel."""
        size = (np.array(self.shape) - 1) * np.array(self.spacing)
        return np.array(self.centre) - size / 2

    @property
    def radius(self) -> float:
        """Radius of the largest disc about the middle of a slice that the grid holds."""
        return min(self.shape[1] * self.spacing[1], self.shape[2] * self.spacing[2]) / 2

    def u(self) -> Array:
        """Detector coordinate of each channel, ``(channels,)``."""
        return _centred(self.channels) * self.channel_spacing + self.channel_offset

    def v(self) -> Array:
        """Detector coordinate of each row, ``(rows,)``."""
        return _centred(self.rows) * self.row_spacing + self.row_offset

    def key(self) -> str:
        """Return a hash of everything that the rays depend on."""
        text = repr([(f.name, getattr(self, f.name)) for f in fields(self)])
        return hashlib.sha256(text.encode()).hexdigest()

    def vectors(self) -> Views:
        """Return sources, detectors and directions of all views."""
        theta = np.array(self.angles, dtype=np.float64)
        zero, cos, sin = np.zeros_like(theta), np.cos(theta), np.sin(theta)
        e_d, e_u, e_v = (np.stack(v, -1) for v in ((zero, cos, -sin), (zero, sin, cos), (zero + 1, zero, zero)))
        height = np.array(self.z, dtype=np.float64)[:, None] * e_v
        u, v, depth = self.u(), self.v(), np.zeros(self.channels)
        if self.parallel:
            sources, points = height, height
        else:
            sources = height - self.source_axis * e_d
            points = sources + self.source_detector * e_d
            if self.curved:
                gamma = u / self.source_detector
                depth, u = self.source_detector * (np.cos(gamma) - 1), self.source_detector * np.sin(gamma)
        cos_tilt, sin_tilt = math.cos(self.tilt), math.sin(self.tilt)
        turned_u, turned_v = cos_tilt * e_u + sin_tilt * e_v, cos_tilt * e_v - sin_tilt * e_u
        return Views(sources, points, e_d, turned_u, turned_v, depth, u, v)

    def check_angles(self) -> None:
        """Refuse what looks like degrees. Raises InputError."""
        theta = np.array(self.angles)
        turns = float(np.ptp(theta)) / (2 * math.pi)
        step = float(np.median(np.abs(np.diff(theta)))) if len(theta) > 1 else 0.0
        fine = step < 0.2  # 32 views a turn; a degree taken for a radian is less fine
        helix = float(np.ptp(np.array(self.z))) > 0
        most = math.inf if fine and helix else 2 if fine or helix else 1.01  # some scanners turn a little further
        if turns > most or np.abs(theta).max() > (1e4 if most > 2 else 8 * math.pi):
            raise InputError(
                f"angles run from {theta.min():.6g} to {theta.max():.6g}, {turns:.3g} turns in radians; they look like"
                " degrees: pass torch.deg2rad(angles), or reduce angles in radians modulo 2 pi"
            )

    def check_beam(self) -> None:
        """Refuse a source inside the object and rays that run backwards. Raises InputError."""
        if self.parallel:
            return
        half = math.hypot(self.shape[1] * self.spacing[1], self.shape[2] * self.spacing[2]) / 2
        reach = half + math.hypot(self.centre[1], self.centre[2])
        if self.source_axis <= reach:
            raise InputError(
                f"source_axis = {self.source_axis:.6g} puts the source inside the image, whose corners are"
                f" {reach:.6g} from the axis of rotation; check the units of source_axis and pixel_size"
            )
        if self.source_detector < self.source_axis:
            raise InputError(
                f"source_detector = {self.source_detector:.6g} is less than source_axis = {self.source_axis:.6g}; it"
                " expects the distance from the source to the detector"
            )
        if self.curved and np.abs(self.u()).max() >= self.source_detector * math.pi / 2:
            raise InputError(
                f"the detector's arc spans {np.ptp(self.u()) / self.source_detector:.3g} rad at source_detector ="
                f" {self.source_detector:.6g}; it expects less than half a turn: check the units"
            )

    def unseen(self) -> float:
        """How far (length unit) the largest disc of the grid, or the volume's height, reaches beyond the detector."""
        theta, zc, (yc, xc) = np.array(self.angles), np.array(self.z), self.centre[1:]
        across, along = xc * np.cos(theta) + yc * np.sin(theta), yc * np.cos(theta) - xc * np.sin(theta)
        # The edges of the detector as signed distances from the axis, and what they leave of the disc.
        edges = [self.u()[0] - self.channel_spacing / 2, self.u()[-1] + self.channel_spacing / 2]
        beyond = 0.0
        for sign, edge in zip((-1, 1), edges, strict=True):
            if self.parallel:
                reach = edge / math.cos(self.tilt) - across
            else:
                ratio = edge / self.source_detector
                gamma = ratio if self.curved else math.atan(ratio)
                # distance of the disc's middle from the outermost ray, which starts at the source
                reach = math.sin(gamma) * (self.source_axis + along) - math.cos(gamma) * across
            beyond = max(beyond, float((self.radius - sign * reach).max()))
        if not self.planar:
            shrink = 1.0 if self.parallel else self.source_axis / self.source_detector
            low = (self.v()[0] - self.row_spacing / 2) * shrink + zc.min()
            high = (self.v()[-1] + self.row_spacing / 2) * shrink + zc.max()
            bottom, top = (self.centre[0] + s * self.shape[0] * self.spacing[0] / 2 for s in (-1, 1))
            beyond = max(beyond, low - bottom, top - high)
        return beyond


def _centred(n: int) -> Array:
    return np.arange(n, dtype=np.float64) - (n - 1) / 2
