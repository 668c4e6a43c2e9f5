"""Where a result comes from: versions, options, and hashes of what was read."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from invdiff.files import sha256

__all__ = ["hash_of", "versions"]

_LIBRARIES = ("torch", "numpy", "scipy", "xarray", "h5py", "netCDF4", "pydicom", "nibabel", "highdicom")


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
    """SHA-256 of a file; of a folder, of the names and sums of its files in order."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()
