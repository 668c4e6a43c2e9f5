"""Something to measure, from a file: an image to scan, or a recorded scan to replay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.phantoms import smooth_phase
from invdiff.datasets.reading import read, read_volume
from invdiff.errors import FormatError, InputError
from invdiff.files import existing
from invdiff.linalg import cg
from invdiff.noise import Gaussian
from invdiff.operators.fourier import fft2c, ifft2c
from invdiff.operators.transforms import Fourier
from invdiff.policies import Recorded, Simulator
from invdiff.random import generator

__all__ = ["Subject", "from_file"]

BRIGHT, QUANTILE = 1.0, 0.99  # images are scaled so that this quantile of their magnitude is 1
NOISE, PHASE = 2**32 + 3, 2**32 + 4  # streams far from those of the draws


@dataclass(frozen=True)
class Subject:
    """What is measured: the instrument, and the reference that results are scored by, ``(1, H, W)``."""

    instrument: Recorded
    reference: Tensor
    meta: dict[str, Any]


def from_file(
    path: Path, size: int | None = 128, sigma: float = 0.01, slice_number: int | None = None, seed: int = 0,
    phase: bool = True,
) -> Subject:  # fmt: skip
    """Read something to measure.

    - An image (.npy ``(H, W)``, DICOM, NIfTI ...): a single-coil acquisition of it is simulated. Its k-space is cropped
      to `size`, which is a scan of lower resolution; a real image is given a smooth phase, as those of scanners have.
    - k-space (fastMRI, ISMRMRD, .npy ``(coils, ky, kx)``, measurement file): what was recorded is uncovered line by
      line; the reference is the least-squares image of all of it.

    Args:
        path: the file.
        size: largest side of a simulated scan, in pixels; None for the image's own.
        sigma: noise per real component of a simulated datum, bright tissue being 1.
        slice_number: of files with several; the middle one if not given.
        seed: of noise and phase.
        phase: whether a real image is given a phase.

    Raises:
        FileError, FormatError: it cannot be read. InputError: an option is out of its range, or there is no such slice.
    """
    image = _image(path, slice_number)
    if image is None:
        return _recorded(path, slice_number)
    if size is not None and size < 16:
        raise InputError(f"size is {size}; a scan of at least 16 pixels is expected")
    x = torch.from_numpy(image)
    is_real = not x.is_complex()
    rows, columns = (min(n, size or n) for n in x.shape)
    k = fft2c(x.to(torch.complex64))
    top, left = (n // 2 - m // 2 for n, m in zip(x.shape, (rows, columns), strict=True))
    x = ifft2c(k[top : top + rows, left : left + columns])
    if is_real and phase:
        x = torch.polar(x.abs(), smooth_phase(generator(seed, PHASE), (rows, columns)))
    bright = float(torch.quantile(x.abs().flatten(), QUANTILE))
    if not bright > 0:
        raise InputError(f"{path}: the image is zero nearly everywhere; there is nothing to measure")
    x = (x * (BRIGHT / bright))[None]
    instrument = Simulator(x, Fourier((1, rows, columns)), Gaussian(sigma), generator(seed, NOISE))
    return Subject(instrument, x, {"file": path.name, "simulated": True, "size": [rows, columns], "sigma": sigma})


def _image(path: Path, slice_number: int | None) -> np.ndarray | None:
    """The image ``(H, W)`` that a file holds; None where it holds measured data."""
    if Path(path).suffix == ".npy":
        try:
            array = np.load(existing(path), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise FormatError(f"{path} cannot be read as .npy: {error}") from error
        if array.ndim != 2:
            return None
        if slice_number not in (None, 0):
            raise InputError(f"{path} is one image; there is no slice {slice_number}")
        if array.dtype.kind not in "biufc":
            raise FormatError(f"{path} holds {array.dtype}; an image of numbers is expected")
        array = array.astype(np.complex64 if array.dtype.kind == "c" else np.float32)
        if not np.isfinite(array).all():
            raise FormatError(f"{path} holds NaN or infinity (in 32 bits); an image of finite numbers is expected")
        return array
    try:
        volume = read_volume(path)
    except FormatError as error:
        if "not images" in str(error):
            return None
        raise
    middle = len(volume.values) // 2 if slice_number is None else slice_number
    if not 0 <= middle < len(volume.values):
        raise InputError(f"{path} has {len(volume.values)} slices, counted from 0; there is no slice {middle}")
    found: np.ndarray = volume.values[middle]
    return found


def _recorded(path: Path, slice_number: int | None) -> Subject:
    chosen: dict[str, Any] = {} if slice_number is None else {"slice": slice_number}
    measurement = read(path, **chosen)
    if measurement.n_problems > 1:
        measurement = measurement.take([measurement.n_problems // 2])
    instrument = Recorded(measurement)
    op = instrument.operator
    with torch.inference_mode():
        reference = cg(op.normal, op.adjoint(instrument.y[None]), iterations=20, tolerance=1e-4)[0]
    return Subject(instrument, reference, {"file": path.name, "simulated": False})
