"""Results to files: draws by suffix, in the unit of the file that the truth came from, with their provenance."""

from __future__ import annotations

import glob
import json
import re
from pathlib import Path
from typing import Any

from invdiff.datasets.dicom import writer
from invdiff.datasets.outputs import anonymous, format_of, split
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
    before = {} if out.exists() else {p: p.stat().st_mtime_ns for p in _images(out, format)}
    posterior.save(out, format, draws=draws, anonymise=anonymise)
    for old, when in before.items():  # a std, or draws, of an earlier run that this one lacks
        if old.stat().st_mtime_ns == when:
            old.unlink()
    written = [out] if out.exists() else _images(out, format)
    if (format or out.suffix.lower()) not in ("netcdf", *_DATASETS):
        written.append(sidecar(out))
        with replacing(written[-1]) as part:
            part.write_text(json.dumps(_plain(posterior, anonymise), indent=2) + "\n", encoding="utf-8")
    return written


def check_place(measurement: Measurement, out: Path, format: str | None) -> None:
    """See that images of x can be placed in the world, before minutes are spent on them.

    Raises:
        InputError: an image format is asked for, and nothing says how large a voxel is, or DICOM has no such images.
        FileError, FormatError: a file that DICOM images are to derive from is gone, or cannot be read.
    """
    kind = format or (None if out.suffix.lower() in _DATASETS else format_of(out))
    if kind not in ("nifti", "dicom", "parametric-map", "metaimage", "nrrd"):
        return
    place = from_attributes(measurement.meta)
    if place is not None:
        if kind in ("dicom", "parametric-map"):
            writer.check(place)
        return
    known = [name for name in "yx" if _in_mm(measurement.coords.get(name))]
    if len(known) < 2 or measurement.n_problems > 1:
        lacks = "how far apart its slices are" if len(known) == 2 else "how large its pixels are"
        raise InputError(f"the data do not say {lacks}, which {kind} has to: write {out.name.split('.')[0]}.nc instead")


def _in_mm(coordinate: Any) -> bool:
    return isinstance(coordinate, tuple) and len(coordinate) > 2 and coordinate[2].get("units") == "mm"


def _images(out: Path, format: str | None) -> list[Path]:
    """The files of images beside each other that bear our names: NAME_mean.nii.gz and so on."""
    stem, suffix = split(out, format or format_of(out) or "")
    found = out.parent.glob(f"{glob.escape(stem)}_*{suffix}")
    ours = re.compile(r"_(mean|std|draw_\d+)$")
    return sorted(p for p in found if ours.search(p.name[: len(p.name) - len(suffix)]))


def _plain(posterior: Posterior, anonymise: bool) -> dict[str, Any]:
    attributes = anonymous(posterior.dataset.attrs) if anonymise else dict(posterior.dataset.attrs)
    attributes.pop("geometry", None)
    for name, value in attributes.items():
        if isinstance(value, str) and value[:1] in ("[", "{"):
            attributes[name] = json.loads(value)
    return {**attributes, "diagnostics": posterior.diagnostics}
