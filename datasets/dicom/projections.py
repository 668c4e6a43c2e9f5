"""DICOM-CT-PD (Chen et al. 2015, doi:10.1118/1.4935406): projections of a clinical CT scanner, one file a view.

Values are ``stored * RescaleSlope + RescaleIntercept``, line integrals. Geometry is in private elements:

=============  ==================================================  ==========================================
(7029,1010)    detector rows, (7029,1011) columns                  rows across the patient's axis
(7029,1002)    spacing of columns, (7029,1006) of rows, mm         (7029,100B) CYLINDRICAL or FLAT
(7031,1001)    angle phi0 of the detector's focal centre, rad      (7031,1002) its height z0, mm
(7031,1003)    its distance rho0 from the axis, mm                 (7031,1031) its distance d0 from the detector
(7031,1033)    element (column, row) on the central ray, from 1
(7033,100B)    shift of the source in angle, (7033,100C) in z, (7033,100D) in radius; (7033,100E) flying focal spot
(7033,1065)    photons behind air, a number or one a column        (7041,1001) attenuation of water, 1/mm
=============  ==================================================  ==========================================

Pixels stand as columns by rows, rows growing against z. Our angle is ``pi - phi0``: right against the order of the
columns, which is what a reconstruction needs; whether left and right are the patient's, the standard leaves to the
scanner.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.dicom.files import is_dicom, is_projection, load, parsing
from invdiff.datasets.projections import RawProjections
from invdiff.errors import FormatError, InputError
from invdiff.files import existing

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read", "recognise"]


def recognise(path: str | Path) -> bool:
    """Whether the first DICOM file (of a folder) is a projection."""
    path = Path(path)
    if path.is_file():
        return is_projection(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())[:100]
    return next((is_projection(p) for p in files if is_dicom(p)), False)


def read(
    path: str | Path, *, start: int = 0, count: int | None = None, focal_spot: int | None = None
) -> RawProjections:
    """Read a scan, or a part of it.

    Args:
        path: the folder, or the file of one view.
        start: the first view to read, in the order of InstanceNumber.
        count: number of views to read; None for all.
        focal_spot: which position of a flying focal spot, from 0; the views of one position make a scan.

    Raises:
        FileError: there is no such folder. FormatError: damaged files, views that differ in their detector, elements
        that are missing. InputError: no view is left, or the focal spot flies and none of its positions was chosen.
    """
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [existing(path)]
    views: list[tuple[int, Path]] = []
    for part in files:
        if is_dicom(part):
            with parsing(part):
                views.append((int(load(part).get("InstanceNumber") or len(views)), part))
    if not views:
        raise FormatError(f"{path} holds no DICOM file; expected projections (DICOM-CT-PD)")
    chosen = [p for _, p in sorted(views)][start : None if count is None else start + count]
    if not chosen or start < 0:
        raise InputError(f"{path} holds {len(views)} view(s); start is {start} and count {count}")
    read_views = [_view(part) for part in chosen]
    first = read_views[0]
    for part, view in zip(chosen, read_views, strict=True):
        odd = [k for k in ("shape", "spacing", "kind", "radius", "distance", "centre") if view[k] != first[k]]
        if odd:
            raise FormatError(f"{part} differs from {chosen[0].name} in the detector's {odd[0]}; expected one scanner")
    spots = sorted({v["shift"] for v in read_views})
    if len(spots) > 1 and (focal_spot is None or not 0 <= focal_spot < len(spots)):
        raise InputError(
            f"{path}: the focal spot flies between {len(spots)} positions; read the views of one with"
            f" focal_spot=0 to {len(spots) - 1} (--read focal_spot=0; it is {focal_spot})"
        )
    spot = spots[focal_spot or 0]
    kept = [v for v in read_views if v["shift"] == spot]
    return _scan(path, kept, spot, len(spots))


def _scan(path: Path, views: list[dict[str, Any]], spot: tuple[float, float, float], spots: int) -> RawProjections:
    first = views[0]
    turned, lifted, moved = spot
    rows, columns = first["shape"]
    d_row, d_column = first["spacing"]
    column, row = first["centre"]
    # Seen from the source, the detector stands where it was built for the nominal focus: beside and below.
    beside = ((columns - 1) / 2 - (column - 1)) * d_column - (first["distance"] - first["radius"]) * turned
    above = ((rows - 1) / 2 - (rows - row)) * d_row - lifted
    z = np.array([v["z"] for v in views]) + lifted
    angles = np.pi - np.unwrap([v["angle"] for v in views]) - turned
    photons = [v["photons"] for v in views]
    blank = None
    if all(p is not None for p in photons):
        blank = np.broadcast_to(np.array(photons)[:, None, :], (len(views), rows, columns))
    meta = {"file": str(path), "format": "dicom-ct-pd", "focal_spots": spots, "modality": "CT"}
    if first["water"] is not None:
        meta["mu_water_per_mm"] = first["water"]
    return RawProjections(
        np.stack([v["values"] for v in views]),
        angles,
        spacing=(d_row, d_column),
        source_axis=first["radius"] + moved,
        source_detector=first["distance"] + moved,
        curved=first["kind"] == "CYLINDRICAL",
        z=z if np.ptp(z) > 1e-3 else None,
        offset=beside,
        row_offset=above,
        blank=blank,
        meta=meta,
    )


def _view(path: Path) -> dict[str, Any]:
    """Values ``(rows, columns)``, rows growing with z, and geometry of one file."""
    with parsing(path):
        header = load(path, pixels=True)
        if (0x7029, 0x1010) not in header:
            raise FormatError(f"{path} has no (7029,1010); expected a projection (DICOM-CT-PD)")
        rows, columns = int(_number(header, 0x70291010, path)), int(_number(header, 0x70291011, path))
        stored = header.pixel_array
        if stored.shape == (columns, rows):
            stored = stored.T
        if stored.shape != (rows, columns) or 0 in stored.shape:
            raise FormatError(f"{path} has pixels {stored.shape}; its detector has {rows} rows and {columns} columns")
        slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
        values = (stored[::-1] * slope + intercept).astype(np.float32)
        kind = str(_text(header, 0x7029100B) or "").strip().upper()
        if kind not in ("CYLINDRICAL", "FLAT"):
            raise FormatError(f"{path} has a detector of shape {kind or 'unknown'!r}; expected CYLINDRICAL or FLAT")
        found: dict[str, Any] = {
            "shape": (rows, columns), "values": values, "kind": kind,
            "spacing": (_number(header, 0x70291006, path, 0), _number(header, 0x70291002, path, 0)),
            "angle": _number(header, 0x70311001, path), "z": _number(header, 0x70311002, path),
            "radius": _number(header, 0x70311003, path, 0), "distance": _number(header, 0x70311031, path, 0),
            "shift": tuple(round(_number(header, tag, path, default=0.0), 6)
                           for tag in (0x7033100B, 0x7033100C, 0x7033100D)),
        }  # fmt: skip
        centre = _numbers(header, 0x70311033)
        if centre is None or len(centre) != 2 or not np.isfinite(centre).all():
            raise FormatError(f"{path} has (7031,1033) {centre}; expected the central column and row")
        found["centre"] = tuple(centre.tolist())
        photons, water = _numbers(header, 0x70331065), _numbers(header, 0x70411001)
        usable = (
            photons is not None and len(photons) in (1, columns) and np.isfinite(photons).all() and photons.min() > 0
        )
        found["photons"] = np.broadcast_to(photons, columns) if usable and photons is not None else None
        found["water"] = float(water[0]) if water is not None and len(water) == 1 and water[0] > 0 else None
        if not found["distance"] > found["radius"]:
            raise FormatError(f"{path}: the detector is {found['distance']} mm from a source at {found['radius']} mm")
    return found


def _numbers(header: Dataset, tag: int) -> NDArray[np.float64] | None:
    """The numbers of a private element, which a file without their type holds as bytes."""
    if tag not in header:
        return None
    value = header[tag].value
    if isinstance(value, bytes):
        short = tag in (0x70291010, 0x70291011)
        if tag == 0x70411001 and not len(value) % 4 == 0:
            value = value.decode("ascii", "replace")
        else:
            kind, size = ("H", 2) if short else ("f", 4)
            value = struct.unpack(f"<{len(value) // size}{kind}", value[: len(value) // size * size])
    if isinstance(value, (str, int, float)):
        value = [value]
    try:
        found = np.array([float(v) for v in value or ()])
    except (TypeError, ValueError):
        return None
    return found if len(found) else None


def _number(header: Dataset, tag: int, path: Path, above: float = -np.inf, default: float | None = None) -> float:
    found = _numbers(header, tag)
    if found is None and default is not None and tag not in header:
        return default
    if found is None or len(found) != 1 or not above < found[0] < np.inf:
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        raise FormatError(f"{path} has {name} {None if found is None else found.tolist()}; expected one number")
    return float(found[0])


def _text(header: Dataset, tag: int) -> str | None:
    value = header[tag].value if tag in header else None
    return value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else value
