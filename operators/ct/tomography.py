"""What all tomographs share: line integrals of mu along the rays of a geometry, and their exact adjoint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.algebra import Restrict
from invdiff.operators.base import LinearOperator
from invdiff.operators.ct import joseph
from invdiff.operators.ct.geometry import Geometry
from invdiff.operators.ct.matrix import CSR, matrix_bytes, matrix_pair

__all__ = ["BACKENDS", "MATRIX_LIMIT", "Numbers", "Tomography", "checked", "grid"]

Numbers = Tensor | Sequence[float] | NDArray[np.float64]

BACKENDS = ("auto", "matrix", "numba", "triton", "torch")
MATRIX_LIMIT = 1 << 30  # bytes of matrix and transpose: up to this `auto` keeps them, beyond it rays are walked anew
_PARTS = ("start", "column", "value")


class Tomography(LinearOperator):
    """``y = integral of mu along each ray``: images ``(N, 1, H, W)`` to ``(N, views, channels)``, volumes ``(N, 1, D,
    H, W)`` to ``(N, views, rows, channels)``; both real. Subclasses build the geometry.

    With lengths in mm, mu is in 1/mm and y has no unit. ``A[views]`` is the tomograph of some of the views, so ordered
    subsets cost their share; a boolean mask over the data leaves out single rays.

    Attributes:
        geometry: the grid and the rays.
        unit: ``"mm"`` or ``"pixel"``.
        backend: ``"auto"``, or the projector that was asked for.
    """

    geometry: Geometry

    def __init__(self, geometry: Geometry, unit: str, truncated: bool, backend: str, keep: bool = True) -> None:
        if backend not in BACKENDS:
            raise InputError(f"backend is {backend!r}; it expects one of {', '.join(BACKENDS)}")
        self.geometry, self.unit, self.truncated, self.backend = geometry, unit, bool(truncated), backend
        self._home = torch.zeros(0)  # says where and in which precision the operator lives
        depth, height, width = geometry.shape
        rows = () if geometry.planar else (geometry.rows,)
        self.domain_shape = (1, height, width) if geometry.planar else (1, depth, height, width)
        self.range_shape = (geometry.views, *rows, geometry.channels)
        # Untilted parallel beams do not mix slices: a planar geometry for all of them, and a rule for heights.
        self._plane, self._heights = _separate(geometry)
        plane = self._plane
        self._matrix_shape = (plane.rays, int(np.prod(plane.shape)))
        if backend == "matrix" or (backend == "auto" and matrix_bytes(plane) <= MATRIX_LIMIT):
            forward, back = matrix_pair(plane, keep)
            for name, first, second in zip(_PARTS, forward, back, strict=True):
                setattr(self, f"_a_{name}", first)
                setattr(self, f"_t_{name}", second)

    @property
    def has_matrix(self) -> bool:
        """Whether the projector is a stored matrix."""
        return hasattr(self, "_a_value")

    def _forward(self, x: Tensor) -> Tensor:
        g, n = self._plane, x.shape[0]
        if self._heights is not None:
            x = x.flatten(0, 2)  # the slices become a batch
        if self.has_matrix:
            y = self._csr("a").times(x.reshape(-1, self._matrix_shape[1]), self._matrix_shape)
        else:
            y = joseph.forward(x.reshape(-1, *g.shape), g, self.backend)
        y = y.reshape(-1, g.views, g.rows, g.channels)
        if self._heights is not None:
            y = y.reshape(n, -1, g.views, g.channels)
            y = torch.einsum("rd,ndkc->nkrc", self._heights.to(y.dtype), y)
        return y.reshape(n, *self.range_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        g, n = self._plane, y.shape[0]
        if self._heights is not None:
            y = torch.einsum("rd,nkrc->ndkc", self._heights.to(y.dtype), y).reshape(-1, g.views, g.channels)
        if self.has_matrix:
            x = self._csr("t").times(y.reshape(-1, self._matrix_shape[0]), self._matrix_shape[::-1])
        else:
            x = joseph.adjoint(y.reshape(-1, g.views, g.rows, g.channels), g, self.backend)
        return x.reshape(n, *self.domain_shape)

    def _csr(self, which: str) -> CSR:
        return CSR(*(getattr(self, f"_{which}_{name}") for name in _PARTS))

    def __getitem__(self, rows: Any) -> LinearOperator:
        """Keep some views (an index or a slice), or single data (a boolean mask)."""
        chosen = Restrict(self, rows)
        if chosen.rows.dtype == torch.bool:
            return chosen
        g, k = self.geometry, chosen.rows.tolist()
        some = dataclasses.replace(g, angles=tuple(g.angles[i] for i in k), z=tuple(g.z[i] for i in k))
        out = type(self).__new__(type(self))
        backend = "matrix" if self.has_matrix else self.backend
        Tomography.__init__(out, some, self.unit, self.truncated, backend, keep=False)
        out.backend = self.backend
        home = self._home
        return out.to(home.device).to(home.dtype)  # type: ignore[return-value]

    def coords(self) -> dict[str, Any]:
        """Return the coordinates of x for a `Measurement`: pixel centres in the length unit."""
        g, out = self.geometry, {}
        for axis, name in enumerate("zyx"):
            if not (g.planar and name == "z"):
                values = g.origin[axis] + np.arange(g.shape[axis]) * g.spacing[axis]
                out[name] = ((name,), values, {"units": "mm" if self.unit == "mm" else "1"})
        return out

    def _state(self) -> dict[str, Any]:
        """What all constructors take, of `state`."""
        g = self.geometry
        skip = 1 if g.planar else 0
        detector = (g.channels,) if g.planar else (g.rows, g.channels)
        return {
            "image_shape": list(g.shape[skip:]),
            "angles": torch.tensor(g.angles, dtype=torch.float64),
            "detector_shape": list(detector),
            "pixel_size": list(g.spacing[skip:]),
            "image_centre": list(g.centre[skip:]),
            "detector_spacing": [g.row_spacing, g.channel_spacing][skip:],
            "detector_offset": [g.row_offset, g.channel_offset][skip:],
            "unit": self.unit,
            "truncated": self.truncated,
            "backend": self.backend,
        }

    def __repr__(self) -> str:
        g = self.geometry
        span = np.ptp(np.array(g.angles)) * 180 / math.pi
        return f"{super().__repr__()[:-1]}, {g.views} views over {span:.4g} degrees, lengths in {self.unit}]"


def grid(
    image_shape: Sequence[int],
    angles: Numbers,
    detector_shape: Sequence[int] | int | None,
    *,
    pixel_size: Sequence[float] | float,
    detector_spacing: Sequence[float] | float | None,
    detector_offset: Sequence[float] | float,
    image_centre: Sequence[float] | None,
    unit: str,
    z: Numbers | None = None,
) -> dict[str, Any]:
    """Check what all tomographs are given and return it as arguments of `Geometry`; 2D where image_shape has length 2.

    Raises:
        ShapeError: a rank or a length is wrong. InputError: an angle is not finite, a size not positive, or the unit
            not known.
    """
    shape = _whole(image_shape, "image_shape", (2, 3))
    planar = len(shape) == 2
    n = len(shape)
    if unit not in ("mm", "pixel"):
        raise InputError(f"unit is {unit!r}; it expects 'mm', or 'pixel' where the size of a pixel is not known")
    size = _numbers(pixel_size, "pixel_size", n, positive=True)
    if unit == "pixel" and set(size) != {1.0}:
        raise InputError(f"pixel_size is {pixel_size} with unit 'pixel'; it expects 1, or give lengths in mm")
    if detector_shape is None:
        raise InputError("detector_shape is missing; it expects the number of channels, or (rows, channels) in 3D")
    detector = _whole(detector_shape, "detector_shape", (n - 1,))
    spacing = _numbers(size[-1] if detector_spacing is None else detector_spacing, "detector_spacing", n - 1, True)
    offset = _numbers(detector_offset, "detector_offset", n - 1, last_only=True)
    centre = _numbers(0.0 if image_centre is None else image_centre, "image_centre", n)
    theta = torch.as_tensor(angles, dtype=torch.float64).detach().cpu()
    if theta.ndim != 1 or theta.numel() == 0:
        raise ShapeError(f"angles have shape {tuple(theta.shape)}; they expect (views,), in radians")
    heights = torch.zeros_like(theta) if z is None else torch.as_tensor(z, dtype=torch.float64).detach().cpu()
    if heights.shape != theta.shape:
        raise ShapeError(f"z has shape {tuple(heights.shape)}; it expects one height a view, {tuple(theta.shape)}")
    if not bool(torch.isfinite(theta).all() and torch.isfinite(heights).all()):
        raise InputError("angles or z hold NaN or infinity; leave such views out")
    return {
        "shape": (1, *shape) if planar else shape,
        "spacing": (1.0, *size) if planar else size,
        "centre": (0.0, *centre) if planar else centre,
        "angles": tuple(theta.tolist()),
        "z": tuple(heights.tolist()),
        "rows": 1 if planar else detector[0],
        "channels": detector[-1],
        "row_spacing": spacing[0],
        "channel_spacing": spacing[-1],
        "row_offset": 0.0 if planar else offset[0],
        "channel_offset": offset[-1],
        "planar": planar,
    }


def checked(geometry: Geometry, truncated: bool) -> Geometry:
    """Refuse what no scanner does. Raises InputError."""
    geometry.check_angles()
    geometry.check_beam()
    beyond = geometry.unseen()
    if not truncated and beyond > max(geometry.spacing[1:] if geometry.planar else geometry.spacing):
        raise InputError(
            f"the detector ({geometry.rows} x {geometry.channels}) is too small: the image reaches {beyond:.4g} beyond"
            f" it (the largest disc in the grid has radius {geometry.radius:.4g}). Check units, spacing and offset, or"
            " pass truncated=True if parts of the object are really outside some views"
        )
    return geometry


def _separate(g: Geometry) -> tuple[Geometry, Tensor | None]:
    if g.planar or not g.parallel or g.tilt != 0 or len(set(g.z)) > 1:
        return g, None
    plane = dataclasses.replace(
        g, shape=(1, *g.shape[1:]), spacing=(1.0, *g.spacing[1:]), centre=(0.0, *g.centre[1:]), z=(0.0,) * g.views,
        rows=1, row_spacing=1.0, row_offset=0.0, planar=True,
    )  # fmt: skip
    at = (g.v() + g.z[0] - g.origin[0]) / g.spacing[0]
    share = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(g.shape[0])))
    return plane, torch.from_numpy(share)


def _whole(value: Sequence[int] | int, name: str, lengths: tuple[int, ...]) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (Sequence, torch.Size)) else (value,)
    if len(values) not in lengths:
        raise ShapeError(f"{name} is {value}; it expects {' or '.join(map(str, lengths))} numbers")
    if any(int(v) != v or v < 1 for v in values):
        raise InputError(f"{name} is {value}; it expects whole numbers of at least 1")
    return tuple(int(v) for v in values)


def _numbers(
    value: Sequence[float] | float, name: str, n: int, positive: bool = False, last_only: bool = False
) -> tuple[float, ...]:
    """n numbers from n numbers or one: repeated, or the last one among zeros."""
    try:
        values = tuple(np.ravel(np.asarray(value, np.float64)).tolist())
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name} is {value!r}; it expects one number or {n}") from error
    if len(values) == 1 and n > 1:
        values = (0.0,) * (n - 1) + values if last_only else values * n
    if len(values) != n:
        raise ShapeError(f"{name} is {value}; it expects one number or {n}")
    if not all(math.isfinite(v) and (v > 0 or not positive) for v in values):
        raise InputError(f"{name} is {value}; it expects finite numbers{' above 0' if positive else ''}")
    return values
