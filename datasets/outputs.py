"""Maps of a posterior (mean, std, draws) as image files: which format a name means, and where the voxels stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.volume import Volume, from_attributes
from invdiff.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FORMATS", "anonymous", "format_of", "save_images", "split"]

FORMATS = ("dicom", "nifti", "parametric-map", "metaimage", "nrrd", "fastmri", "bart")
_SUFFIXES = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".mha": "metaimage",
    ".nrrd": "nrrd",
    ".h5": "fastmri",
    ".cfl": "bart",
}


# What says how a result was made and nothing of whom: all else (paths, names, what a file says of itself) is left out
# of an anonymous one.
_OPEN = {
    "acceleration", "averages", "bin", "budget", "calendar", "chunk", "columns_outside_mask", "comment",
    "counts_per_photon", "data", "dead_channels", "device", "diagnostics", "draws", "estimated", "file_unit", "format",
    "holdout_fraction", "input_sha256", "invdiff_format", "invdiff_version", "linear", "method", "modality", "mode",
    "mu_water_per_mm", "operator", "options", "policy", "prior", "recon_columns", "recon_rows", "rotation_centre",
    "sampler", "scale_to_prior_unit", "scan", "seed", "sigma", "simulated", "slice", "source", "strength",
    "truth_sha256", "views", "whitened", "wrong_readings",
}  # fmt: skip


def anonymous(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that may stand in an anonymous result; of the geometry the grid alone."""
    kept = {k: v for k, v in attributes.items() if k in _OPEN or k.startswith("prior_") or k.endswith("_version")}
    place = from_attributes(attributes)
    return kept | ({} if place is None else replace(place, meta={}).attributes())


def format_of(path: str | Path) -> str | None:
    """The image format that a name asks for, by suffix; DICOM for a folder or a name without one, else None."""
    path = Path(path)
    for suffix, format in _SUFFIXES.items():
        if path.name.lower().endswith(suffix):
            return format
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
    kind: str = "posterior",
) -> list[Path]:
    """Write maps of one posterior; returns the files or folders written.

    Args:
        path: ``NAME.nii[.gz]``, ``NAME.mha`` and ``NAME.nrrd`` become ``NAME_mean.nii[.gz]`` and so on; of DICOM a
            folder, new or empty.
        format: "nifti", "metaimage", "nrrd" (as float32), "dicom" (16-bit series), "parametric-map" (float32, one
            file a map), "bart" (complex), or "fastmri": one file of the mean's magnitude, cut as a submission is.
        maps: arrays ``([problem,] channel, [z,] y, x)`` by name, with one channel; problems are slices.
        attributes: of the posterior; `Volume.attributes` in them says where x stands.
        like: a volume in the same place, instead of that.
        details: see `invdiff.datasets.dicom.writer.write`.
        anonymise: see `invdiff.datasets.dicom.writer.write`; the others hold no patient data.
        kind: what descriptions call the maps: "posterior", or the classical method that made the one.

    Raises:
        InputError: the maps are no volume, or nothing says where they stand. FileError: they cannot be written.
        MissingExtraError: a library is not installed.
    """
    path = Path(path)
    if format == "fastmri":
        from invdiff.datasets.raw import fastmri

        size = attributes.get("recon_rows"), attributes.get("recon_columns")
        cut = (int(size[0]), int(size[1])) if size[0] and size[1] else None
        images = _slices(maps["mean"], "mean")
        return [fastmri.write_submission(path, images, cut, {"reconstruction": details or "invdiff"})]
    if format == "bart":
        from invdiff.datasets.raw import bart

        arrays = {path.with_name(f"{split(path, format)[0]}_{k}.cfl"): _slices(v, k) for k, v in maps.items()}
        return [bart.write(file, values.transpose(1, 2, 0), ("x", "y", "z")) for file, values in arrays.items()]
    place = like or from_attributes(attributes)
    volumes = {name: _volume(array, place, name) for name, array in maps.items()}
    stem, suffix = split(path, format)
    named = {path.with_name(f"{stem}_{k}{suffix}"): v for k, v in volumes.items()}
    if format == "nifti":
        from invdiff.datasets import nifti

        return nifti.write_all(named, details)
    # All others are real: of complex x the magnitude.
    real = {k: v.with_values(np.abs(v.values)) if np.iscomplexobj(v.values) else v for k, v in volumes.items()}
    if any(np.iscomplexobj(v.values) for v in volumes.values()):
        details = f"{details}{', ' if details else ''}magnitude of complex values"
    if format in ("metaimage", "nrrd"):
        from invdiff.datasets import itk

        return itk.write_all({path.with_name(f"{stem}_{k}{suffix}"): v for k, v in real.items()})
    from invdiff.datasets.dicom import parametric_map, writer

    made = parametric_map if format == "parametric-map" else writer
    return [made.write(path, real, details=details, anonymise=anonymise, kind=kind)]


def split(path: Path, format: str) -> tuple[str, str]:
    """A name before its suffix, and the suffix that files of this format get."""
    for suffix, of in _SUFFIXES.items():
        if of == format and path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.name, next((suffix for suffix, of in _SUFFIXES.items() if of == format), "")


def _slices(array: xr.DataArray, name: str) -> NDArray[Any]:
    """Values as ``(slices, y, x)``; problems are slices."""
    if array.dims[-3:] not in (("channel", "y", "x"), ("z", "y", "x")) or array.sizes.get("channel", 1) != 1:
        raise InputError(
            f"{name} has dimensions {dict(array.sizes)}; images are ([problem,] channel, [z,] y, x) with one channel"
        )
    if array.sizes.get("problem", 1) > 1 and array.sizes.get("z", 1) > 1:
        raise InputError(f"{name} holds {array.sizes['problem']} volumes; save them one by one")
    values: NDArray[Any] = array.values.reshape(-1, *array.shape[-2:])
    return values


def _volume(array: xr.DataArray, place: Volume | None, name: str) -> Volume:
    values = _slices(array, name)
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
