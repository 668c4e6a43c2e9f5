"""Results to files: draws by suffix, in the unit of the file that the truth came from, with their provenance."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from invdiff.datasets.outputs import format_of
from invdiff.datasets.volume import from_attributes
from invdiff.errors import InputError
from invdiff.files import replacing
from invdiff.measurement import Measurement
from invdiff.posterior import Posterior
from invdiff.reconstruction.result import Reconstruction
from invdiff.simulation.file_unit import in_file_unit

__all__ = ["check_place", "sidecar", "write"]

_DATASETS = (".nc", ".nc4", ".h5", ".hdf5")  # which hold their provenance themselves


def sidecar(out: Path) -> Path:
    """Where the provenance of image files stands, which cannot hold it all themselves."""
    return out.with_name(f"{out.name}.provenance.json")


def write(
    done: Reconstruction, out: Path, format: str | None = None, *, draws: bool = False, anonymise: bool = False
) -> list[Path]:
    """Write the draws (NetCDF), or mean and std of them (images); returns what was written.

    Args:
        done: what `reconstruct` made.
        out, format, draws, anonymise: as `Posterior.save` takes them. The source's file names, too, are left out of
            an anonymous result.

    Raises:
        What `Posterior.save` raises; FileError where the provenance cannot be written.
    """
    posterior = in_file_unit(done.posterior, done.measurement.meta)
    posterior.save(out, format, draws=draws, anonymise=anonymise)
    written = [out] if out.exists() else sorted(out.parent.glob(_pattern(out)))
    if (format or out.suffix.lower()) not in ("netcdf", *_DATASETS):
        written.append(sidecar(out))
        with replacing(written[-1]) as part:
            part.write_text(json.dumps(_plain(posterior, anonymise), indent=2) + "\n", encoding="utf-8")
    return written


def check_place(measurement: Measurement, out: Path, format: str | None) -> None:
    """See that images of x can be placed in the world, before minutes are spent on them.

    Raises:
        InputError: an image format is asked for, and nothing says how large a voxel is.
    """
    kind = format or (None if out.suffix.lower() in _DATASETS else format_of(out))
    if kind not in ("nifti", "dicom", "parametric-map", "metaimage", "nrrd"):
        return
    if from_attributes(measurement.meta) is not None:
        return
    known = [name for name in "yx" if _in_mm(measurement.coords.get(name))]
    if len(known) < 2 or measurement.n_problems > 1:
        lacks = "how far apart its slices are" if len(known) == 2 else "how large its pixels are"
        raise InputError(f"the data do not say {lacks}, which {kind} has to: write {out.stem}.nc instead")


def _in_mm(coordinate: Any) -> bool:
    return isinstance(coordinate, tuple) and len(coordinate) > 2 and coordinate[2].get("units") == "mm"


def _pattern(out: Path) -> str:
    """The names that images get: NAME_mean.nii.gz and so on."""
    suffix = "".join(out.suffixes[-2:]) if out.suffix == ".gz" else out.suffix
    return f"{glob.escape(out.name.removesuffix(suffix))}_*{suffix}"


def _plain(posterior: Posterior, anonymise: bool) -> dict[str, Any]:
    hidden = {"geometry", *(("input", "file") if anonymise else ())}
    attributes = {k: v for k, v in posterior.dataset.attrs.items() if k not in hidden}
    for name in ("options", "scan"):
        if isinstance(attributes.get(name), str):
            attributes[name] = json.loads(attributes[name])
    return {**attributes, "diagnostics": posterior.diagnostics}
