"""A volume of images: values on a regular grid of voxels that stands somewhere in the world."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from invdiff.errors import FormatError, InputError, ShapeError

__all__ = ["ATTRIBUTE", "MILLIMETRES", "Volume", "from_attributes", "lengths", "without_lengths"]

MILLIMETRES = {
    "m": 1e3, "cm": 10.0, "mm": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3, "nm": 1e-6,
}  # fmt: skip
ATTRIBUTE = "geometry"  # under which a Measurement's meta and a Posterior's attributes carry it, as JSON


@dataclass(frozen=True)
class Volume:
    """Images on a regular grid, a ground truth read from a file or an answer to be written.

    The world is DICOM's patient system, LPS in mm: x grows to the patient's left, y to the back, z to the head.

    Attributes:
        values: float32 or complex64 ``(slices, rows, columns)``.
        affine: float64 ``(4, 4)``, from ``(slice, row, column, 1)`` to ``(x, y, z, 1)``; centres of voxels.
        units: of the values ("HU"); empty where arbitrary.
        mask: bool, as `values`, false where the file holds padding instead of an image; None where all is image.
        meta: what the file says of itself, no patient data; JSON values only.

    Raises:
        ShapeError: ranks or sizes do not fit. InputError: the affine is not finite, or maps the grid to a plane.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    units: str = ""
    mask: NDArray[np.bool_] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = np.complex64 if np.iscomplexobj(self.values) else np.float32
        object.__setattr__(self, "values", np.asarray(self.values, kind))
        object.__setattr__(self, "affine", np.asarray(self.affine, np.float64))
        if self.values.ndim != 3 or 0 in self.values.shape:
            raise ShapeError(f"values has shape {self.values.shape}; a Volume expects (slices, rows, columns)")
        if self.affine.shape != (4, 4):
            raise ShapeError(f"affine has shape {self.affine.shape}; a Volume expects (4, 4)")
        if not np.isfinite(self.affine).all() or not np.array_equal(self.affine[3], (0, 0, 0, 1)):
            raise InputError(f"affine is {self.affine.tolist()}; expected finite numbers and a last row 0 0 0 1")
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        if (lengths == 0).any() or abs(np.linalg.det(self.affine[:3, :3] / lengths)) < 1e-3:
            raise InputError(f"affine {self.affine.tolist()} maps the grid to a plane; expected three directions")
        if self.mask is not None and (self.mask.shape != self.values.shape or self.mask.dtype != bool):
            raise ShapeError(f"mask is {self.mask.dtype} {self.mask.shape}; expected bool {self.values.shape}")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distances between slices, rows and columns in mm."""
        dz, dy, dx = (float(d) for d in np.linalg.norm(self.affine[:3, :3], axis=0))
        return dz, dy, dx

    def world(self, index: ArrayLike) -> NDArray[np.float64]:
        """LPS coordinates in mm of voxels ``(..., 3)`` given as slice, row, column."""
        found: NDArray[np.float64] = np.asarray(index, float) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return found

    def coords(self) -> dict[str, Any]:
        """Coordinates for a Measurement: mm along each axis of the grid, from its first voxel."""
        return {
            name: ((name,), d * np.arange(n), {"units": "mm"})
            for name, n, d in zip("zyx", self.values.shape, self.spacing, strict=True)
        }

    def take(self, slices: Sequence[int]) -> Volume:
        """Some neighbouring slices, evenly spaced, in that order. Raises InputError for others."""
        chosen = list(slices)
        steps = set(np.diff(chosen).tolist()) or {1}
        if not chosen or min(chosen) < 0 or max(chosen) >= len(self.values) or len(steps) > 1 or 0 in steps:
            raise InputError(f"slices are {chosen}; expected evenly spaced numbers from 0 to {len(self.values) - 1}")
        affine = self.affine.copy()
        affine[:3, 3], affine[:3, 0] = self.world((chosen[0], 0, 0)), affine[:3, 0] * steps.pop()
        meta = dict(self.meta)
        if "files" in meta:
            meta["files"] = [meta["files"][i] for i in chosen]
        mask = None if self.mask is None else self.mask[chosen]
        return Volume(self.values[chosen], affine, self.units, mask, meta)

    def with_values(self, values: NDArray[Any], units: str | None = None) -> Volume:
        """Other values in the same place; `units` None keeps the unit. Raises ShapeError for another shape."""
        if values.shape != self.values.shape:
            raise ShapeError(f"values has shape {values.shape}; this volume holds {self.values.shape}")
        return replace(self, values=values, units=self.units if units is None else units, mask=None)

    def attributes(self) -> dict[str, str]:
        """The geometry and where it came from as one JSON text, to go into a Measurement's ``meta``.

        ``units`` must be the unit of the x that is reconstructed: convert with `with_values` before.
        """
        geometry = {"shape": self.values.shape, "affine": self.affine.tolist(), "units": self.units, "meta": self.meta}
        return {ATTRIBUTE: json.dumps(geometry)}


def from_attributes(attributes: Mapping[str, Any]) -> Volume | None:
    """The geometry that `Volume.attributes` wrote, with values of 0; None where there is none.

    Raises FormatError where it cannot be read.
    """
    if ATTRIBUTE not in attributes:
        return None
    try:
        found = json.loads(attributes[ATTRIBUTE])
        values = np.broadcast_to(np.float32(0), [int(n) for n in found["shape"]])
        return Volume(values, np.array(found["affine"]), str(found["units"]), meta=dict(found["meta"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"attribute {ATTRIBUTE} cannot be read: {error}; expected what Volume.attributes wrote"
        ) from error


def without_lengths(path: Path) -> FormatError:
    """What to raise of a file that does not say how large its voxels are, where no `spacing` is given."""
    return FormatError(
        f"{path} says not how large a voxel is; give it in mm, of slices, rows and columns: spacing=..."
        " (--read spacing=1 or --read spacing=[3,1,1])"
    )


def lengths(spacing: float | Sequence[float] | None) -> list[float]:
    """Distances of slices, rows and columns from one number or three. Raises InputError for what is no length."""
    given = list(spacing) if isinstance(spacing, Sequence) else [spacing] * 3
    if len(given) != 3 or not all(isinstance(d, (int, float)) and 0 < d < float("inf") for d in given):
        raise InputError(f"spacing is {spacing!r}; expected one number or three (slices, rows, columns), in mm")
    return [float(d) for d in given]  # type: ignore[arg-type]
