"""Raw k-space as files hold it, and the measurement made of it: coil maps and noise level estimated where not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.volume import Volume
from invdiff.errors import FormatError, InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian

if TYPE_CHECKING:
    from invdiff.operators.mri.noise_level import NoiseLevel
    from invdiff.operators.mri.sense import MRI

__all__ = ["RawKspace", "as_kspace", "chosen_slices", "sampled", "to_measurement", "without_oversampling"]


@dataclass(frozen=True)
class RawKspace:
    """K-space on its Cartesian grid, centre at ``n // 2``, orthonormal Fourier convention.

    Attributes:
        kspace: complex64 ``(coils, H, W)``, or ``(slices, coils, H, W)`` for several slices; zero where not sampled.
        mask: bool, true where sampled: ``(W,)`` for whole columns, ``(H, W)``, or ``(slices, 1 or H, W)`` where the
            slices differ.
        meta: what the file says of itself; JSON values only.
        spacing: of the pixels, rows then columns, in mm; None if unknown.
        recon_size: rows and columns of the central part of the image that is of interest; None for all.
        truth: a reference magnitude image ``([slices,] h, w)`` that came with the data.
        sigma: noise per real component, where the file tells it.
        affine: from ``(slice, row, column, 1)`` of the whole grid to LPS in mm, as of `Volume`; None if unknown.

    Raises:
        ShapeError: ranks or sizes of kspace and mask do not fit.
    """

    kspace: Tensor
    mask: Tensor
    meta: Mapping[str, Any] = field(default_factory=dict)
    spacing: tuple[float, float] | None = None
    recon_size: tuple[int, int] | None = None
    truth: Tensor | None = None
    sigma: float | None = None
    affine: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        shape, mask = tuple(self.kspace.shape), tuple(self.mask.shape)
        if len(shape) not in (3, 4):
            raise ShapeError(f"kspace has shape {shape}; expected (coils, H, W) or (slices, coils, H, W)")
        fitting = [(shape[-1],), shape[-2:]]
        if len(shape) == 4:
            fitting += [(shape[0], 1, shape[-1]), (shape[0], *shape[-2:])]
        if mask not in fitting or self.mask.dtype != torch.bool:
            raise ShapeError(f"mask is {self.mask.dtype} {mask}; kspace {shape} needs bool, one of {fitting}")


def chosen_slices(path: Path, slice: int | Sequence[int] | None, count: int) -> int | list[int]:
    """The number of one slice, or the numbers of several. Raises InputError for one that the file does not have."""
    if slice is None:
        return 0 if count == 1 else list(range(count))
    numbers = list(slice) if isinstance(slice, Sequence) else [slice]
    if not numbers or not all(isinstance(n, (int, np.integer)) and 0 <= n < count for n in numbers):
        raise InputError(f"{path} holds {count} slice(s); slice is {slice!r}, expected a number from 0 to {count - 1}")
    return [int(n) for n in numbers] if isinstance(slice, Sequence) else int(numbers[0])


def as_kspace(values: NDArray[Any], where: str, slices: int | Sequence[int]) -> Tensor:
    """Check k-space that was read and return it as a complex64 tensor of the same shape, rank 3 or 4.

    `where` begins the messages: file and field; `slices` are the numbers in the file of the slices that were read.
    Raises FormatError for a wrong rank, real numbers, NaN, infinity, and zeros only.
    """
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise FormatError(f"{where} has shape {values.shape}; expected (coils, H, W) or (slices, coils, H, W)")
    if not np.issubdtype(values.dtype, np.complexfloating):
        raise FormatError(f"{where} is {values.dtype}; expected complex numbers (complex64), not magnitudes or images")
    with np.errstate(over="ignore"):  # found below, as infinity
        kspace = torch.from_numpy(np.array(values, dtype=np.complex64, order="C"))
    numbers = [slices] if isinstance(slices, int) else list(slices)
    finite = torch.isfinite(torch.view_as_real(kspace)).all(-1)
    if not bool(finite.all()):
        bad = torch.nonzero(~finite.reshape(-1, *finite.shape[-3:]))
        number, coil, row, column = (int(i) for i in bad[0])
        raise FormatError(
            f"{where} holds NaN or infinity (within complex64) in {len(bad)} places, the first in slice"
            f" {numbers[number]}, coil {coil}, row {row}, column {column}; expected finite values"
        )
    empty = [n for n, k in zip(numbers, kspace.reshape(-1, *kspace.shape[-3:]), strict=True) if not bool(k.any())]
    if empty:
        raise FormatError(f"{where} is zero everywhere in slice {empty[0]}; expected samples: choose other slices")
    return kspace


# Of the eigenvalue: a small or noisy calibration region lowers it at the object's rim, and a support that is too
# small spoils everything within it, while one that is too large costs little.
_CROP = 0.8


def sampled(kspace: Tensor) -> Tensor:
    """Where any coil is nonzero, in the smallest shape of `RawKspace.mask` that says it; rank 3 or 4 in."""
    mask = (kspace != 0).any(-3)
    if mask.ndim == 3 and bool((mask == mask[:1]).all()):
        mask = mask[0]
    columns = mask.any(-2, keepdim=True)
    if bool((mask == columns).all()):
        mask = columns if mask.ndim == 3 else columns[0]
    return mask


def without_oversampling(raw: RawKspace) -> RawKspace:
    """Cut the readout (rows) down to ``recon_size``: the image rows beyond are dropped, the k-space made anew.

    Possible where whole columns are sampled; returned as it is otherwise. Both transforms are unitary, so white noise
    stays white, with the same sigma.
    """
    rows, height = raw.kspace.shape[-2], raw.recon_size[0] if raw.recon_size else raw.kspace.shape[-2]
    if height >= rows or (raw.mask.ndim > 1 and raw.mask.shape[-2] != 1):
        return raw
    first = rows // 2 - height // 2  # the centre n // 2 stays the centre
    image = torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(raw.kspace, -2), dim=-2, norm="ortho"), -2)
    image = image[..., first : first + height, :]
    kspace = torch.fft.fftshift(torch.fft.fft(torch.fft.ifftshift(image, -2), dim=-2, norm="ortho"), -2)
    meta = {**raw.meta, "readout_oversampling_removed": [rows, height]}
    affine = None if raw.affine is None else raw.affine.copy()
    if affine is not None:
        affine[:3, 3] += first * affine[:3, 1]
    return replace(raw, kspace=kspace.masked_fill(~_spread(raw.mask), 0), meta=meta, affine=affine)


def to_measurement(
    raw: RawKspace,
    sigma: float | None = None,
    n_sets: int = 1,
    calibration: int | tuple[int, int] | None = None,
    *,
    coil_maps: Tensor | None = None,
    keep_oversampling: bool = False,
) -> Measurement:
    """Make the measurement ``y = M F S x + noise`` of raw k-space; several slices become as many problems.

    Args:
        raw: the acquisition.
        sigma: noise level per real component in the unit of the k-space; if None the file's, else estimated (one for
            all slices).
        n_sets: number of sets of coil maps to estimate.
        calibration: side (or sides) of the central block that maps are estimated from; None for the largest fully
            sampled one.
        coil_maps: sensitivities ``([slices,] [sets,] coils, H, W)``, H and W those of the k-space; estimated if None.
        keep_oversampling: leave the readout at its full length (see `without_oversampling`).

    Raises:
        InputError: an option cannot be used, or the calibration region is too small to estimate maps from.
        ShapeError: coil_maps do not fit the k-space.
    """
    from invdiff.operators.mri.coils import calibration_region
    from invdiff.operators.mri.sense import MRI

    where = str(raw.meta.get("file", "kspace"))
    if sigma is not None and not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma is {sigma}; expected a number above 0, in the unit of the k-space of {where}")
    sigma = raw.sigma if sigma is None else sigma
    raw = raw if keep_oversampling else without_oversampling(raw)
    batched = raw.kspace.ndim == 4
    problems = raw.kspace if batched else raw.kspace[None]
    estimated = [name for name, given in (("coil_maps", coil_maps), ("sigma", sigma)) if given is None]
    if coil_maps is None:
        coil_maps = _estimate_maps(problems, n_sets, calibration, where)
    else:
        coil_maps = _given_maps(coil_maps, problems, where)
    operator = MRI(coil_maps, raw.mask)
    meta = {**raw.meta, "estimated": estimated}
    if sigma is None:
        sigma, meta["sigma_uncertainty"] = _estimate_sigma(problems, operator, where)
    noise = Gaussian(sigma)
    meta["sigma"] = noise.sigma
    shared = raw.mask.all(0) if raw.mask.ndim == 3 else raw.mask
    region = calibration_region(shared.expand(raw.kspace.shape[-2:]))
    meta["calibration_region"] = [part.stop - part.start for part in region]
    meta["acceleration"] = raw.mask.numel() / int(raw.mask.sum())
    meta["recon_size"] = None if raw.recon_size is None else list(raw.recon_size)
    if raw.recon_size is not None:  # numbers one by one, which a Posterior's attributes keep
        meta["recon_rows"], meta["recon_columns"] = raw.recon_size
    if raw.affine is not None:
        grid = np.broadcast_to(np.float32(0), (len(problems), *raw.kspace.shape[-2:]))
        meta |= Volume(grid, raw.affine, meta={"file": where}).attributes()
    y = raw.kspace.masked_fill(~_spread(raw.mask), 0)
    return Measurement(y, operator, noise, _coords(raw), meta, batched)


def _estimate_maps(problems: Tensor, n_sets: int, calibration: int | tuple[int, int] | None, where: str) -> Tensor:
    from invdiff.operators.mri.coils import espirit

    if problems.shape[1] == 1:
        if n_sets != 1:
            raise InputError(f"{where} is of a single coil: its one set of maps is uniform; n_sets is {n_sets}")
        return torch.ones_like(problems[:1, None])
    size = (calibration, calibration) if isinstance(calibration, int) else calibration
    try:
        return espirit(problems, size, crop=_CROP, n_sets=n_sets)[0]
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _estimate_sigma(problems: Tensor, operator: MRI, where: str) -> NoiseLevel:
    """One level for all slices, the median of up to five: the receivers' noise does not change between them."""
    from invdiff.operators.mri.noise_level import noise_level, residual_noise_level

    found = []
    for i in np.unique(np.linspace(0, len(problems) - 1, 5).round().astype(int)).tolist():
        one = operator.take([i])
        try:
            try:
                found.append(residual_noise_level(problems[i], one))
            except InputError:  # too few data for the number of pixels, as of a single coil
                found.append(noise_level(problems[i], one.mask[0]))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return sorted(found)[(len(found) - 1) // 2]


def _given_maps(maps: Tensor, problems: Tensor, where: str) -> Tensor:
    """Coil maps as (problems or 1, sets, coils, H, W)."""
    maps = torch.as_tensor(maps)
    maps = maps[None] if maps.ndim == 3 else maps  # -> ([slices or sets], coils, H, W)
    if maps.ndim == 4:
        maps = maps[:, None] if len(maps) == len(problems) > 1 or len(maps) == 1 else maps[None]
    if maps.ndim != 5 or maps.shape[-3:] != problems.shape[1:] or len(maps) not in (1, len(problems)):
        raise ShapeError(
            f"{where}: coil_maps have shape {tuple(maps.shape)}; k-space {tuple(problems.shape)} (slices, coils, H, W)"
            f" needs {problems.shape[1]} coils of {problems.shape[2]} x {problems.shape[3]} pixels"
        )
    return maps.to(problems.dtype)


def _spread(mask: Tensor) -> Tensor:
    """A mask that broadcasts over the coils of (coils, H, W) or (slices, coils, H, W)."""
    return mask[:, None] if mask.ndim == 3 else mask


def _coords(raw: RawKspace) -> dict[str, Any]:
    """Positions of rows and columns in mm from the centre of the image, and the numbers of the slices."""
    coords: dict[str, Any] = {}
    if raw.kspace.ndim == 4 and "slice" in raw.meta:
        coords["problem"] = (("problem",), np.asarray(raw.meta["slice"]), {"long_name": "slice of the file"})
    if raw.spacing is None:
        return coords
    for name, n, step in zip(("y", "x"), raw.kspace.shape[-2:], raw.spacing, strict=True):
        coords[name] = ((name,), (np.arange(n) - n // 2) * step, {"units": "mm"})
    return coords
