"""Raw projections of a tomograph as files hold them, and the measurement made of them.

What files leave out is found from the data, and said in ``meta["estimated"]``: the axis of rotation, the counts that
one photon makes, the noise of line integrals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.counts import line_integrals, roughness
from invdiff.datasets.volume import Volume
from invdiff.errors import FormatError, InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ConeCT, FanCT, ParallelCT, rotation_centre
from invdiff.operators.ct.tomography import Tomography

__all__ = ["RawProjections", "to_measurement"]

Floats = NDArray[Any]  # floating point


@dataclass(frozen=True)
class RawProjections:
    """Projections, and what is known of the scanner; lengths in mm, angles in radians as `invdiff.operators.ct` has.

    Attributes:
        projections: ``(views, rows, channels)``: counts where `flats` are given, else line integrals (after the log).
        angles: one a view, ``(views,)``.
        flats: counts without the object, ``(frames, rows, channels)``, or None.
        darks: counts without the beam, ``(frames, rows, channels)``; None for none.
        spacing: of detector rows and channels; None if unknown, then lengths are counted in channels.
        source_axis, source_detector: distances; None for parallel beams.
        curved: channels on an arc around the source.
        z: height of the source in each view, ``(views,)``; None for a circle.
        offset: coordinate of the middle of the channels (`ParallelCT.detector_offset`); None to find it.
        row_offset: of a cone beam, coordinate of the middle of the rows.
        blank: photons behind air of line integrals, a number or ``(views, rows, channels)``, if known.
        meta: what the file says of itself, no patient data; JSON values only.

    Raises:
        ShapeError: sizes do not fit. FormatError: NaN or infinity, or fewer counts in the beam than in the dark.
    """

    projections: Floats
    angles: Floats
    flats: Floats | None = None
    darks: Floats | None = None
    spacing: tuple[float, float] | None = None
    source_axis: float | None = None
    source_detector: float | None = None
    curved: bool = False
    z: Floats | None = None
    offset: float | None = None
    row_offset: float = 0.0
    blank: float | Floats | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, where = np.shape(self.projections), self.meta.get("file", "projections")
        if len(shape) != 3 or 0 in shape:
            raise ShapeError(f"{where}: projections have shape {shape}; expected (views, rows, channels)")
        for name in ("angles", "z"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != shape[:1]:
                raise ShapeError(f"{where}: {name} has shape {np.shape(values)}; expected one a view, {shape[:1]}")
        for name in ("flats", "darks"):
            frames = getattr(self, name)
            if frames is not None and (np.ndim(frames) != 3 or frames.shape[1:] != shape[1:] or len(frames) == 0):
                raise ShapeError(f"{where}: {name} have shape {np.shape(frames)}; expected (frames, *{shape[1:]})")
        for name in ("projections", "angles", "flats", "darks", "z"):
            values = getattr(self, name)
            if values is not None and not np.isfinite(values).all():
                raise FormatError(f"{where}: {name} holds NaN or infinity; expected finite numbers")
        if self.flats is not None and float(np.median(self.open_beam()[0])) <= 0:
            raise FormatError(f"{where}: flats are not brighter than darks; expected frames with and without the beam")

    def open_beam(self) -> tuple[Floats, Floats]:
        """Mean counts of the open beam above the dark, and the mean dark, ``(rows, channels)``."""
        assert self.flats is not None
        dark = np.zeros(self.flats.shape[1:]) if self.darks is None else self.darks.mean(0, dtype=np.float64)
        return self.flats.mean(0, dtype=np.float64) - dark, dark


def to_measurement(
    raw: RawProjections,
    slice: int | Sequence[int] | None = None,
    views: int | None = None,
    *,
    bin: int = 1,
    size: int | None = None,
    sigma: float | None = None,
    centre: float | None = None,
) -> Measurement:
    """Make the measurement ``y = A mu + noise``, y line integrals with a standard deviation each.

    Rows of parallel beams are slices that do not mix: several become as many problems. Rows of a cone beam make one
    volume; one row of it has to be the middle one, which is a fan.

    Args:
        raw: the scan.
        slice: the detector row, or rows; all if None.
        views: use this many of the views, spread evenly; all if None.
        bin: number of neighbouring channels taken together, after which lengths of unknown unit count in those.
        size: rows and columns of the image, which has to hold the whole object; as many as all views see if None.
        sigma: standard deviation of all line integrals; found from the counts, or from their roughness, if None.
        centre: channel (from 0, fractions allowed, before binning) that the axis of rotation falls on; if None the
            file's, or found from all views and rows.

    Returns:
        Images are square and centred on the axis; mu is in 1/mm, or in one over a (binned) channel.

    Raises:
        InputError: an option is out of range, or the axis cannot be found. FormatError: no data are left.
    """
    where = str(raw.meta.get("file", "projections"))
    count, rows, channels = raw.projections.shape
    chosen, several = _rows(slice, rows, where)
    if not isinstance(bin, int) or not 1 <= bin <= channels // 4:
        raise InputError(f"bin is {bin}; it expects a number of neighbouring channels from 1 to {channels // 4}")
    if views is not None and not 1 <= views <= count:
        raise InputError(f"{where} holds {count} views; views is {views}, expected 1 to {count}")
    y, deviation, notes = line_integrals(raw, bin)
    estimated = [name for name in notes if name == "counts_per_photon"]
    if centre is not None:
        offset = ((channels - 1) / 2 - centre) * _step(raw)
    elif raw.offset is not None:
        offset = raw.offset
    else:
        offset, estimated = _find_axis(raw, y, bin), [*estimated, "rotation_centre"]
    keep = np.arange(count) if views is None else np.round(np.arange(views) * count / views).astype(int)
    if size is not None and size < 2:
        raise InputError(f"size is {size}; it expects a number of rows and columns from 2")
    y, operator = y[keep][:, chosen], _tomograph(raw, bin, offset, keep, chosen, size)
    if sigma is not None:
        level: float | Tensor = float(sigma)
    elif deviation is not None:
        level = torch.from_numpy(deviation[keep][:, chosen]).float()
    else:
        level, estimated = roughness(y), [*estimated, "sigma"]
    data = torch.from_numpy(y).float()
    stack = len(operator.range_shape) == 2  # (views, channels): each row is a problem
    if stack:
        data = data.transpose(0, 1).contiguous()
        level = level.transpose(0, 1).contiguous() if isinstance(level, Tensor) else level
        if not several:
            data, level = data[0], level[0] if isinstance(level, Tensor) else level
    meta = {
        **raw.meta, **notes, **(_place(operator, raw, chosen) if stack else {}), "bin": bin, "views": len(keep),
        "slice": chosen if several else chosen[0], "rotation_centre": (channels - 1) / 2 - offset / _step(raw),
        "estimated": estimated,
    }  # fmt: skip
    if isinstance(level, float):
        meta["sigma"] = level
    return Measurement(data, operator, Gaussian(level), _coords(operator, chosen if several and stack else None), meta,
                       batched=stack and several)  # fmt: skip


def _rows(slice: int | Sequence[int] | None, rows: int, where: str) -> tuple[list[int], bool]:
    """The chosen rows, and whether there may be several."""
    numbers = list(range(rows)) if slice is None else list(slice) if isinstance(slice, Sequence) else [slice]
    if not numbers or not all(isinstance(n, (int, np.integer)) and 0 <= n < rows for n in numbers):
        raise InputError(f"{where} holds {rows} row(s); slice is {slice!r}, expected a number from 0 to {rows - 1}")
    return [int(n) for n in numbers], isinstance(slice, Sequence) or (slice is None and rows > 1)


def _step(raw: RawProjections) -> float:
    return 1.0 if raw.spacing is None else raw.spacing[1]


def _find_axis(raw: RawProjections, y: Floats, bin: int) -> float:
    """Offset of the channels from all views; of rows, the median."""
    step = bin * _step(raw)
    n = y.shape[-1]
    found = []
    for r in range(y.shape[1]) if raw.source_axis is None else [y.shape[1] // 2]:
        ends: dict[str, Any] = {"pixel_size": step, "detector_spacing": step, "truncated": True, "backend": "torch"}
        if raw.source_axis is None:
            probe: Tomography = ParallelCT((n, n), raw.angles, n, **ends)
        else:
            ends |= {"source_axis": raw.source_axis, "source_detector": raw.source_detector, "curved": raw.curved}
            probe = FanCT((2, 2), raw.angles, n, **ends)
        found.append(rotation_centre(probe, torch.from_numpy(np.ascontiguousarray(y[:, r]))))
    # Channels that binning drops at the far end move the middle.
    dropped = raw.projections.shape[-1] - n * bin
    return float(np.median(found)) + dropped / 2 * _step(raw)


def _tomograph(
    raw: RawProjections, bin: int, offset: float, keep: NDArray[np.int_], chosen: list[int], size: int | None
) -> Tomography:
    step, rows = bin * _step(raw), raw.projections.shape[1]
    channels = raw.projections.shape[-1] // bin
    offset -= (raw.projections.shape[-1] - channels * bin) / 2 * _step(raw)
    angles = np.asarray(raw.angles, np.float64)[keep]
    shrink = 1.0 if raw.source_axis is None else raw.source_axis / float(raw.source_detector or raw.source_axis)
    reach = ((channels - 1) / 2 * step - abs(offset)) * shrink  # to the middle of the nearer end's channel
    if raw.source_axis is not None:
        gamma = math.atan(reach / raw.source_axis)
        reach = raw.source_axis * math.sin(gamma)  # the outermost ray's distance from the axis
    pixel = step * shrink
    size = size or max(2, 2 * int(reach / pixel))
    common: dict[str, Any] = {"pixel_size": pixel, "detector_spacing": step, "detector_offset": offset}
    common["unit"] = "pixel" if raw.spacing is None else "mm"
    common["truncated"] = True  # what is air at the detector's edge may lie beyond it
    if raw.spacing is None:
        common |= {"pixel_size": 1.0, "detector_spacing": 1.0, "detector_offset": offset / bin}
    if raw.source_axis is None:
        return ParallelCT((size, size), angles, channels, **common)
    ends: dict[str, Any] = {
        "source_axis": raw.source_axis, "source_detector": raw.source_detector, "curved": raw.curved,
    }  # fmt: skip
    if raw.spacing is None:
        raise InputError("fan and cone beams need the detector's spacing in mm, which the file does not give")
    if len(chosen) == 1 and raw.z is None:
        if abs(chosen[0] - (rows - 1) / 2) > 0.5:
            raise InputError(f"row {chosen[0]} of a cone beam is no plane; only the middle one, {rows // 2}, is a fan")
        return FanCT((size, size), angles, channels, **common, **ends)
    height = raw.spacing[0] * shrink
    climb = 0.0 if raw.z is None else float(np.ptp(raw.z))
    depth = rows if raw.z is None else max(1, int(climb / height))
    common |= {"pixel_size": (height, pixel, pixel), "detector_spacing": (raw.spacing[0], step)}
    common |= {"detector_offset": (raw.row_offset, offset)}
    z = None if raw.z is None else np.asarray(raw.z, np.float64)[keep] - float(np.mean(raw.z))
    if len(chosen) != rows:
        raise InputError(f"{len(chosen)} of {rows} rows of a cone beam were chosen; all are needed, or the middle one")
    return ConeCT((depth, size, size), angles, (rows, channels), z=z, **common, **ends)


def _place(operator: Tomography, raw: RawProjections, rows: list[int]) -> dict[str, str]:
    """Where slices stand about the axis, as meta; nothing where the file gives no lengths, or rows are uneven."""
    gaps = set(np.diff(rows).tolist()) or {1}
    if raw.spacing is None or len(gaps) > 1 or 0 in gaps:
        return {}
    (_, height, width), (_, dy, dx) = operator.geometry.shape, operator.geometry.spacing
    dz = raw.spacing[0] * gaps.pop()
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, dx], [0, dy, 0], [dz, 0, 0]]
    first = (rows[0] - (raw.projections.shape[1] - 1) / 2) * raw.spacing[0]
    affine[:3, 3] = -(width - 1) / 2 * dx, -(height - 1) / 2 * dy, first
    return Volume(np.broadcast_to(np.float32(0), (len(rows), height, width)), affine, "1/mm").attributes()


def _coords(operator: Tomography, rows: list[int] | None) -> dict[str, Any]:
    g = operator.geometry
    unit = operator.unit
    coords: dict[str, Any] = {}
    for name, n, step in zip("zyx", g.shape, g.spacing, strict=True):
        if name != "z" or not g.planar:
            coords[name] = ((name,), (np.arange(n) - (n - 1) / 2) * step, {"units": unit})
    if rows is not None:
        coords["problem"] = (("problem",), np.asarray(rows), {"long_name": "detector row"})
    return coords
