"""Results to files: draws by suffix, in the unit of the file that the truth came from, with their provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from invdiff.files import replacing
from invdiff.posterior import Posterior
from invdiff.reconstruction.result import Reconstruction
from invdiff.simulation.file_unit import in_file_unit

__all__ = ["sidecar", "write"]


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
    written = [posterior.save(out, format, draws=draws, anonymise=anonymise)]
    if (format or out.suffix.lower()) not in ("netcdf", ".nc", ".nc4", ".h5", ".hdf5"):
        written.append(sidecar(out))
        with replacing(written[-1]) as part:
            part.write_text(json.dumps(_plain(posterior, anonymise), indent=2) + "\n", encoding="utf-8")
    return written


def _plain(posterior: Posterior, anonymise: bool) -> dict[str, Any]:
    hidden = {"geometry", *(("input", "file") if anonymise else ())}
    attributes = {k: v for k, v in posterior.dataset.attrs.items() if k not in hidden}
    for name in ("options", "scan"):
        if isinstance(attributes.get(name), str):
            attributes[name] = json.loads(attributes[name])
    return {**attributes, "diagnostics": posterior.diagnostics}
