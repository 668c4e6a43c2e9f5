"""The tomographs: parallel, fan and cone beam. Axes, signs and units are those of `invdiff.operators.ct.geometry`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.ct.geometry import Geometry
from invdiff.operators.ct.tomography import Numbers, Tomography, checked, grid

__all__ = ["ConeCT", "FanCT", "ParallelCT"]


class ParallelCT(Tomography):
    """Parallel beams, 2D or 3D: ``p(theta, s, z) = integral of mu over x cos theta + y sin theta = s``.

    Args:
        image_shape: ``(H, W)`` or ``(D, H, W)``.
        angles: one a view, in radians, ``(views,)``.
        detector_shape: channels, or ``(rows, channels)`` in 3D.
        pixel_size: one number, or one an axis in the order of `image_shape`; in `unit`.
        detector_spacing: one number, or (rows, channels); the pixel size along x if not given.
        detector_offset: coordinate of the detector's middle, of the channels or (rows, channels): minus where the axis
            of rotation falls.
        image_centre: position of the grid's middle in the order of `image_shape`.
        detector_tilt: turn of the detector in its plane, in radians (3D).
        unit: ``"mm"`` (mu in 1/mm), or ``"pixel"`` where the size of a pixel is not known.
        truncated: accept a detector that does not see the whole object (the largest disc in the grid).
        backend: ``auto`` keeps a sparse matrix up to 1 GiB and walks the rays beyond that; or ``matrix``, ``numba``,
            ``triton``, ``torch``.

    Raises:
        ShapeError: a rank or a length is wrong. InputError: angles in degrees, an absurd number, or a detector too
            small to see the object.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        angles: Numbers,
        detector_shape: Sequence[int] | int,
        *,
        pixel_size: Sequence[float] | float = 1.0,
        detector_spacing: Sequence[float] | float | None = None,
        detector_offset: Sequence[float] | float = 0.0,
        image_centre: Sequence[float] | None = None,
        detector_tilt: float = 0.0,
        unit: str = "mm",
        truncated: bool = False,
        backend: str = "auto",
    ) -> None:
        values = grid(
            image_shape, angles, detector_shape, pixel_size=pixel_size, detector_spacing=detector_spacing,
            detector_offset=detector_offset, image_centre=image_centre, unit=unit,
        )  # fmt: skip
        geometry = Geometry(**values, tilt=_tilt(detector_tilt, values["planar"]))
        super().__init__(checked(geometry, truncated), unit, truncated, backend)

    @classmethod
    def example(cls, rng: torch.Generator) -> ParallelCT:
        """Build 9 x 11 pixels off the axis, seven views at random angles."""
        angles = torch.rand(7, generator=rng, dtype=torch.float64) * math.pi
        return cls((9, 11), angles, 16, pixel_size=(1.0, 0.9), detector_offset=0.3, image_centre=(0.2, -0.4))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**self._state(), "detector_tilt": self.geometry.tilt}


class FanCT(Tomography):
    """A fan beam in one plane: a source turns about the axis opposite a flat or curved (equiangular) detector.

    Args:
        image_shape: ``(H, W)``.
        angles: of the central ray, one a view, in radians; any arc (`invdiff.operators.ct.fbp` weighs short scans).
        detector_shape: number of channels.
        source_axis: distance from source to axis of rotation, in `unit`.
        source_detector: distance from source to detector.
        curved: an arc around the source, `detector_spacing` measured along it.

    The other arguments, and what is raised, are those of `ParallelCT`; a source inside the image is refused, too.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        angles: Numbers,
        detector_shape: Sequence[int] | int,
        *,
        source_axis: float,
        source_detector: float,
        curved: bool = False,
        pixel_size: Sequence[float] | float = 1.0,
        detector_spacing: Sequence[float] | float | None = None,
        detector_offset: Sequence[float] | float = 0.0,
        image_centre: Sequence[float] | None = None,
        unit: str = "mm",
        truncated: bool = False,
        backend: str = "auto",
    ) -> None:
        if len(image_shape) != 2:
            raise ShapeError(f"FanCT got image_shape {tuple(image_shape)}; it expects (H, W): use ConeCT for volumes")
        values = grid(
            image_shape, angles, detector_shape, pixel_size=pixel_size, detector_spacing=detector_spacing,
            detector_offset=detector_offset, image_centre=image_centre, unit=unit,
        )  # fmt: skip
        geometry = Geometry(**values, **_distances(source_axis, source_detector), curved=bool(curved))
        super().__init__(checked(geometry, truncated), unit, truncated, backend)

    @classmethod
    def example(cls, rng: torch.Generator) -> FanCT:
        """Build 8 x 7 pixels before a curved detector, nine views at random angles."""
        angles = torch.rand(9, generator=rng, dtype=torch.float64) * 2 * math.pi
        return cls((8, 7), angles, 15, source_axis=20.0, source_detector=31.0, curved=True, detector_spacing=1.3)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        g = self.geometry
        ends = {"source_axis": g.source_axis, "source_detector": g.source_detector}
        return {**self._state(), **ends, "curved": g.curved}


class ConeCT(Tomography):
    """A cone beam: a source turns about the axis (on a circle, or a helix) opposite an area detector.

    Args:
        image_shape: ``(D, H, W)``.
        angles: of the central ray, one a view, in radians; a helix goes on beyond 2 pi.
        detector_shape: ``(rows, channels)``.
        source_axis, source_detector: distances, in `unit`.
        z: height of the source in each view, ``(views,)``; zero if not given. `helix` makes both.
        curved: channels on an arc around the source (a cylinder), rows straight.
        detector_tilt: turn of the detector in its plane, in radians.

    The other arguments, and what is raised, are those of `ParallelCT`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        angles: Numbers,
        detector_shape: Sequence[int],
        *,
        source_axis: float,
        source_detector: float,
        z: Numbers | None = None,
        curved: bool = False,
        pixel_size: Sequence[float] | float = 1.0,
        detector_spacing: Sequence[float] | float | None = None,
        detector_offset: Sequence[float] | float = 0.0,
        image_centre: Sequence[float] | None = None,
        detector_tilt: float = 0.0,
        unit: str = "mm",
        truncated: bool = False,
        backend: str = "auto",
    ) -> None:
        if len(image_shape) != 3:
            raise ShapeError(f"ConeCT got image_shape {tuple(image_shape)}; it expects (D, H, W): use FanCT for images")
        values = grid(
            image_shape, angles, detector_shape, pixel_size=pixel_size, detector_spacing=detector_spacing,
            detector_offset=detector_offset, image_centre=image_centre, unit=unit, z=z,
        )  # fmt: skip
        ends = _distances(source_axis, source_detector)
        geometry = Geometry(**values, **ends, curved=bool(curved), tilt=_tilt(detector_tilt, False))
        super().__init__(checked(geometry, truncated), unit, truncated, backend)

    @classmethod
    def example(cls, rng: torch.Generator) -> ConeCT:
        """Build 4 x 6 x 5 voxels, a tilted flat detector and five views on a helix."""
        angles = torch.linspace(0, 5, 5, dtype=torch.float64) + torch.rand(1, generator=rng, dtype=torch.float64)
        z = torch.linspace(-0.5, 0.5, 5, dtype=torch.float64)
        return cls(
            (4, 6, 5), angles, (6, 9), source_axis=15.0, source_detector=22.0, z=z, detector_spacing=(1.2, 1.3),
            detector_tilt=0.03, detector_offset=(0.1, -0.2),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        g = self.geometry
        ends = {"source_axis": g.source_axis, "source_detector": g.source_detector, "curved": g.curved}
        return {**self._state(), **ends, "detector_tilt": g.tilt, "z": torch.tensor(g.z, dtype=torch.float64)}


def helix(turns: float, views_per_turn: int, pitch: float, start: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return angles (radians) and heights of a helical scan about z = 0 whose source climbs `pitch` a turn.

    Raises:
        InputError: turns or views_per_turn is not positive.
    """
    if not turns > 0 or views_per_turn < 1:
        raise InputError(f"helix got {turns} turns of {views_per_turn} views; it expects numbers above 0")
    count = max(1, round(turns * views_per_turn))
    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / views_per_turn)
    heights = (angles - angles.mean()) * (pitch / (2 * math.pi))
    return angles + start, heights


def _distances(source_axis: float, source_detector: float) -> dict[str, Any]:
    for name, value in (("source_axis", source_axis), ("source_detector", source_detector)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; it expects a finite length above 0 (else use ParallelCT)")
    return {"source_axis": float(source_axis), "source_detector": float(source_detector)}


def _tilt(tilt: float, planar: bool) -> float:
    if not abs(tilt) < math.pi / 4:
        raise InputError(f"detector_tilt is {tilt}; it expects radians, less than pi/4 either way")
    if planar and tilt != 0:
        raise InputError("detector_tilt has no meaning for a single row of channels; leave it out in 2D")
    return float(tilt)
