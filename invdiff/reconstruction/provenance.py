"""Where a result comes from: versions, options, and hashes of what was read."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from invdiff.datasets import itk
from invdiff.files import sha256

__all__ = ["hash_of", "versions"]

_LIBRARIES = ("torch", "numpy", "scipy", "xarray", "h5py", "netCDF4", "pydicom", "nibabel", "highdicom", "SimpleITK",
              "ismrmrd")  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what took part, as attributes of a result."""
    from invdiff import __version__

    found = {"source": f"invdiff {__version__}", "python_version": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[f"{name.lower()}_version"] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hash_of(path: Path) -> str:
    """SHA-256 of a file; of a folder or of what belongs together, of the names and sums of the files in order."""
    files = _together(path)
    if files == [path]:
        return sha256(path)
    folder = path if path.is_dir() else path.parent
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _together(path: Path) -> list[Path]:
    """The files that hold the data: a header's values may be in another one, a DICOMDIR's in the folders below."""
    if path.is_dir() or path.name.upper() == "DICOMDIR":
        return sorted(p for p in (path if path.is_dir() else path.parent).rglob("*") if p.is_file())
    if path.suffix in (".hdr", ".cfl"):
        return sorted(p for p in (path.with_suffix(".cfl"), path.with_suffix(".hdr")) if p.is_file())
    if itk.recognise(path):
        return sorted({path, itk.data_file(path)})
    return [path]
