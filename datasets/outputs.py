"""Maps of a posterior (mean, std, draws) as image files: which format a name means, and where the voxels stand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invdiff.datasets.volume import Volume, from_attributes
from invdiff.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FORMATS", "format_of", "save_images"]

FORMATS = ("dicom", "nifti", "parametric-map")


def format_of(path: str | Path) -> str | None:
    """The image format that a name asks for: NIfTI by suffix, DICOM for a folder or a name without one, else None."""
    path = Path(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return "nifti"
    return "dicom" if path.is_dir() or not path.suffix else None


def save_images(
    path: str | Path,
    format: str,
    maps: Mapping[str, xr.DataArray],
    attributes: Mapping[str, Any],
    *,
    like: Volume | None = None,
    details: str = "",
    anonymise: bool = False,
) -> list[Path]:
    """Write maps of one posterior; returns the files or folders written.

    Args:
        path: of NIfTI, ``NAME.nii[.gz]`` becomes ``NAME_mean.nii[.gz]`` and so on; else a folder, new or empty.
        format: "nifti", "dicom" (16-bit series) or "parametric-map" (float32, one file a map).
        maps: arrays ``([problem,] channel, [z,] y, x)`` by name, with one channel; problems are slices.
        attributes: of the posterior; `Volume.attributes` in them says where x stands.
        like: a volume in the same place, instead of that.
        details: see `dicom_write.write`.
        anonymise: see `dicom_write.write`; NIfTI holds no patient data.

    Raises:
        InputError: the maps are no volume, or nothing says where they stand. FileError: they cannot be written.
        MissingExtraError: a library is not installed.
    """
    path = Path(path)
    place = like or from_attributes(attributes)
    volumes = {name: _volume(array, place, name) for name, array in maps.items()}
    if format == "nifti":
        from invdiff.datasets import nifti

        stem, suffix = _split(path)
        return nifti.write_all({path.with_name(f"{stem}_{k}{suffix}"): v for k, v in volumes.items()}, details)
    # DICOM images are real: of complex x the magnitude.
    real = {k: v.with_values(np.abs(v.values)) if np.iscomplexobj(v.values) else v for k, v in volumes.items()}
    if any(np.iscomplexobj(v.values) for v in volumes.values()):
        details = f"{details}{', ' if details else ''}magnitude of complex values"
    from invdiff.datasets import dicom_map, dicom_write

    writer = dicom_map if format == "parametric-map" else dicom_write
    return [writer.write(path, real, details=details, anonymise=anonymise)]


def _split(path: Path) -> tuple[str, str]:
    for suffix in (".nii.gz", ".nii"):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.name, ".nii.gz"


def _volume(array: xr.DataArray, place: Volume | None, name: str) -> Volume:
    if array.dims[-3:] not in (("channel", "y", "x"), ("z", "y", "x")) or array.sizes.get("channel", 1) != 1:
        raise InputError(
            f"{name} has dimensions {dict(array.sizes)}; images are ([problem,] channel, [z,] y, x) with one channel"
        )
    if array.sizes.get("problem", 1) > 1 and array.sizes.get("z", 1) > 1:
        raise InputError(f"{name} holds {array.sizes['problem']} volumes; save them one by one")
    values = array.values.reshape(-1, *array.shape[-2:])
    if place is not None:
        if place.values.shape != values.shape:
            raise InputError(f"{name} has shape {values.shape}, the place that it is to be in {place.values.shape}")
        return place.with_values(values, str(array.attrs.get("units", place.units)))
    steps = [_step(array, axis, name) for axis in "yx"]
    depth = _step(array, "z", name) if "z" in array.dims else None
    if depth is None:
        if len(values) > 1:
            raise InputError(f"{name} holds {len(values)} slices, and nothing says how far apart; pass like=volume")
        depth = steps[0]
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, steps[1]], [0, steps[0], 0], [depth, 0, 0]]  # axial: columns to the left, rows to the back
    return Volume(values, affine, str(array.attrs.get("units", "")))


def _step(array: xr.DataArray, axis: str, name: str) -> float:
    """Distance of voxels in mm from the coordinates."""
    known = axis in array.coords and array.coords[axis].attrs.get("units") == "mm" and array.sizes[axis] > 1
    steps = np.diff(array.coords[axis].values) if known else np.zeros(1)
    if steps[0] <= 0 or np.abs(steps - steps[0]).max() > 1e-3 * abs(steps[0]):
        raise InputError(f"{name}: {axis} has no even coordinates in mm, so its voxels have no place; pass like=volume")
    return float(steps.mean())
