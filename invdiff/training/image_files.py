"""Images out of a folder of anything `invdiff.datasets` reads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.errors import FileError, FormatError, InvdiffError

__all__ = ["Images", "find_images"]


@dataclass(frozen=True)
class Images:
    """Slices of one file or series, float32 or complex64 ``(slices, rows, columns)``, and their unit."""

    name: str
    values: Tensor
    units: str = ""


def find_images(paths: Sequence[str | Path]) -> tuple[list[Images], list[str]]:
    """Read every image in files and (with all they contain) folders; also return why others could not be read.

    A folder of DICOM files is one series. Volumes (DICOM, NIfTI, what is installed) give their slices, raw k-space its
    least-squares image (ten conjugate-gradient steps: fully sampled data give the image itself), a plain ``.npy`` of
    two or three axes of real numbers its slices.

    Raises:
        FileError: a path does not exist. FormatError: nothing could be read; the message says why for the first.
    """
    found: list[Images] = []
    refused: list[str] = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise FileError(f"{path} does not exist; paths expects files or folders of images")
        for candidate in _candidates(path):
            try:
                found.append(Images(str(candidate.relative_to(path)) or path.name, *_read(candidate)))
            except InvdiffError as error:
                refused.append(str(error))
    if not found:
        raise FormatError(f"no image could be read in {', '.join(map(str, paths))}: {(refused or ['no file'])[0]}")
    return found, refused


def _candidates(path: Path) -> list[Path]:
    """Files, and folders that are one DICOM series."""
    if path.is_file():
        return [path]
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    files = [p for p in entries if p.is_file()]
    out: list[Path] = []
    dicom = [p for p in files if p.suffix.lower() in (".dcm", "") and _is_dicom(p)]
    if len(dicom) > 1 and len(dicom) == len(files):
        out.append(path)
    else:
        out += files
    for folder in entries:
        if folder.is_dir():
            out += _candidates(folder)
    return out


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read(path: Path) -> tuple[Tensor, str]:
    from invdiff.datasets.reading import read, read_volume

    if path.suffix == ".npy":
        plain = _plain_array(path)
        if plain is not None:
            return torch.from_numpy(plain), ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of readers: what is missing matters to a reconstruction, not to training
        try:
            volume = read_volume(path)
        except FormatError as error:
            if "measured data" not in str(error):
                raise
            return _least_squares(read(path), path), ""
    return torch.from_numpy(np.ascontiguousarray(volume.values)), volume.units


def _plain_array(path: Path) -> NDArray[np.float32] | None:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} is not a plain array: {error}") from error
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiu" or min(array.shape[-2:]) < 16:
        return None
    return np.array(array if array.ndim == 3 else array[None], dtype=np.float32)


def _least_squares(measurement: Any, where: Path) -> Tensor:
    from invdiff.linalg import cg
    from invdiff.operators import MRI

    op = measurement.operator
    if not isinstance(op, MRI):
        raise FormatError(f"{where} holds data of {op!r}, not images; reconstruct them, or train from measurements")
    sampled = float(op.mask.float().mean())
    if sampled < 0.9:
        raise FormatError(f"{where} is {100 * sampled:.0f} % of k-space, which is no image; train from measurements")
    with torch.inference_mode():
        x = cg(op.normal, op.adjoint(measurement.data), iterations=10)
    return x[:, 0].clone()
