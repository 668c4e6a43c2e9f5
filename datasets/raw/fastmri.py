"""fastMRI HDF5 files (Zbontar et al. 2018, arXiv:1811.08839), read and written.

===================================  ======================================================================
``kspace``                           complex64 ``(slice, coil, row, col)``, single coil ``(slice, row, col)``
``mask``                             ``(col,)``, true where sampled; in undersampled (test) files only
``ismrmrd_header``                   ISMRMRD XML: matrices, fields of view, encoding limits
``reconstruction_rss`` (``_esc``)    float32 ``(slice, h, w)``, reference magnitude of multi- (single-)coil data
attributes                           acquisition, max, norm, patient_id
===================================  ======================================================================

Rows are the readout, usually twofold oversampled; columns are phase encodes, zero where partial Fourier or a padding
left them out. So a position counts as sampled where the mask says so and any coil is nonzero: the padding that
follows from the header is reported in `meta`, but not relied upon. `recon_size` is the central part of the image to be
looked at; `invdiff.datasets.kspace.without_oversampling` can drop the surplus rows beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.kspace import RawKspace, as_kspace, chosen_slices, sampled
from invdiff.datasets.raw.ismrmrd_header import compose, parse
from invdiff.errors import DTypeError, FileError, FormatError, InputError, ShapeError
from invdiff.files import sha256
from invdiff.hdf5 import creating, get_array, open_hdf5, plain_attribute

if TYPE_CHECKING:
    import h5py

__all__ = ["read", "recognise", "write", "write_submission"]


def recognise(path: str | Path) -> bool:
    """Whether this is an HDF5 file with ``kspace`` at its root, and not a measurement file."""
    try:
        with open_hdf5(path) as file:
            return "kspace" in file and "invdiff_format" not in file.attrs
    except FileError:
        return False


def read(path: str | Path, slice: int | Sequence[int] | None = None) -> RawKspace:
    """Read one slice, several, or (None) all; only these are loaded.

    Returns k-space ``(coils, H, W)`` of one slice (also where the file has one only), else ``(slices, coils, H, W)``;
    `truth` is the reference reconstruction where the file has one, `spacing` follows from the encoded field of view.

    Raises:
        FileError: the file cannot be opened. FormatError: it is not HDF5, is damaged, lacks ``kspace``, or a field
            has the wrong rank, kind or size. InputError: there is no such slice.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        stored = get_array(file, "kspace", path)
        shape = tuple(stored.shape)
        if len(shape) not in (3, 4) or 0 in shape:
            raise FormatError(
                f"{path}: kspace has shape {shape}; expected (slice, coil, row, col), or (slice, row, col) of one coil"
            )
        chosen = chosen_slices(path, slice, shape[0])
        values = _slices(stored, chosen)
        header = {}
        if "ismrmrd_header" in file:
            text = np.asarray(get_array(file, "ismrmrd_header", path)[()]).reshape(-1)[0]
            header = parse(text, f"{path}: ismrmrd_header")
        declared = _mask(file, shape, path)
        truth = _truth(file, shape, chosen, path)
        attributes = {key: plain_attribute(value) for key, value in file.attrs.items() if key != "patient_id"}
    channels = header.get("receiver_channels")
    if len(shape) == 4 and channels is not None and shape[1] > channels:
        # Fewer coils than channels are usual: scanners write the number that they could have used.
        raise FormatError(
            f"{path}: kspace {shape} holds {shape[1]} coils, but ismrmrd_header names {channels} receiver channels;"
            " expected (slice, coil, row, col) with at most as many coils"
        )
    if len(shape) == 3:
        values = values[..., None, :, :]
    kspace = as_kspace(values, f"{path}: kspace", chosen)
    meta = {"file": str(path), "sha256": sha256(path), "format": "fastMRI", "slice": chosen, **attributes}
    meta["header"] = header
    if declared is not None:
        dropped = int(((kspace != 0).flatten(0, -3).any(0) & ~declared).any(0).sum())
        meta["columns_outside_mask"] = dropped
        kspace = kspace.masked_fill(~declared, 0)
        if not bool(kspace.any()):
            raise FormatError(f"{path}: kspace is zero wherever mask is true; expected samples there")
    return RawKspace(kspace, sampled(kspace), meta, _spacing(header, shape), _recon_size(header, truth, shape), truth)


def write(
    path: str | Path,
    kspace: Tensor,
    mask: Tensor | None = None,
    header: Mapping[str, Any] | str | None = None,
    reconstruction: Tensor | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Path:
    """Write a file that fastMRI's own loaders and `read` understand; the whole file appears at once.

    Args:
        path: the file, replaced if it exists.
        kspace: complex ``(slices, coils, H, W)``, or ``(slices, H, W)`` of a single coil.
        mask: ``(W,)`` or ``(H, W)``, true where sampled; kspace must be zero elsewhere. None writes no mask.
        header: ISMRMRD XML, or the mapping that `read` returns as ``meta["header"]``; what it lacks of
            ``encoded_matrix``, ``recon_matrix`` (x, y, z) and ``limits`` follows from the arrays.
        reconstruction: reference magnitude ``(slices, h, w)``.
        attrs: further attributes; acquisition and patient_id are empty and max and norm those of `reconstruction`
            where they are not given.

    Raises:
        ShapeError, DTypeError, InputError: an array does not fit. FileError: the file cannot be written.
    """
    kspace = torch.as_tensor(kspace)
    if kspace.ndim not in (3, 4) or 0 in kspace.shape:
        raise ShapeError(f"kspace has shape {tuple(kspace.shape)}; expected (slices, coils, H, W) or (slices, H, W)")
    if not kspace.is_complex():
        raise DTypeError(f"kspace is {kspace.dtype}; expected complex numbers")
    content: dict[str, Any] = {"kspace": kspace.detach().cpu().resolve_conj().to(torch.complex64).numpy()}
    if mask is not None:
        mask = torch.as_tensor(mask).cpu() != 0
        if tuple(mask.shape) not in (tuple(kspace.shape[-1:]), tuple(kspace.shape[-2:])):
            raise ShapeError(f"mask has shape {tuple(mask.shape)}; kspace {tuple(kspace.shape)} needs (W,) or (H, W)")
        if bool(kspace.cpu().masked_fill(mask, 0).any()):
            raise InputError("kspace is not zero where mask is false; set unmeasured positions to zero")
        content["mask"] = mask.numpy()
    attributes: dict[str, Any] = {"acquisition": "", "patient_id": ""}
    if reconstruction is not None:
        reference = torch.as_tensor(reconstruction).detach().cpu().to(torch.float32).numpy()
        if reference.ndim != 3 or len(reference) != len(kspace):
            raise ShapeError(f"reconstruction has shape {reference.shape}; expected ({len(kspace)}, h, w)")
        content["reconstruction_rss" if kspace.ndim == 4 else "reconstruction_esc"] = reference
        attributes |= {"max": float(reference.max()), "norm": float(np.linalg.norm(reference))}
    if not isinstance(header, str):
        recon = content.get("reconstruction_rss", content.get("reconstruction_esc"))
        header = compose(header or {}, tuple(kspace.shape), None if recon is None else recon.shape)
    content["ismrmrd_header"] = header.encode()
    with creating(path) as file:
        for name, value in content.items():
            file.create_dataset(name, data=value)
        try:
            file.attrs.update({**attributes, **(attrs or {})})
        except TypeError as error:
            raise InputError(f"attrs cannot be saved: {error}; expected numbers and text") from error
    return Path(path)


def write_submission(
    path: str | Path,
    images: NDArray[Any],
    size: tuple[int, int] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Path:
    """Write reconstructions as a submission to fastMRI: float32 ``reconstruction``, ``(slices, h, w)``.

    Args:
        path: the file; scores are taken against the acquisition of the same file name.
        images: ``(slices, H, W)``; of complex ones the magnitude is written, which for coil maps of unit norm estimates
            the root sum of squares that references are.
        size: rows and columns of the middle to write, as references are cut; None for all.
        attrs: provenance, as attributes of the file.

    Raises:
        ShapeError: images have another rank, or are smaller than `size`. InputError: NaN or infinity, or attributes
        that are neither numbers nor text. FileError: the file cannot be written.
    """
    values = np.abs(np.asarray(images)) if np.iscomplexobj(images) else np.asarray(images)
    if values.ndim != 3 or 0 in values.shape or (size and (size[0] > values.shape[1] or size[1] > values.shape[2])):
        raise ShapeError(
            f"images have shape {values.shape}; expected (slices, H, W), of {size or 'any'} pixels at least"
        )
    if not np.isfinite(values).all():
        raise InputError("images hold NaN or infinity; expected finite values")
    if size:
        top, left = ((n - m) // 2 for n, m in zip(values.shape[1:], size, strict=True))
        values = values[:, top : top + size[0], left : left + size[1]]
    with creating(path) as file:
        file.create_dataset("reconstruction", data=values.astype(np.float32))
        try:
            file.attrs.update(dict(attrs or {}))
        except TypeError as error:
            raise InputError(f"attrs cannot be saved: {error}; expected numbers and text") from error
    return Path(path)


def _slices(stored: h5py.Dataset, chosen: int | list[int]) -> NDArray[Any]:
    if isinstance(chosen, int):
        return np.asarray(stored[chosen])
    if chosen == list(range(chosen[0], chosen[-1] + 1)):
        return np.asarray(stored[chosen[0] : chosen[-1] + 1])
    return np.stack([stored[number] for number in chosen])


def _mask(file: h5py.File, shape: tuple[int, ...], path: Path) -> Tensor | None:
    if "mask" not in file:
        return None
    values = np.asarray(get_array(file, "mask", path)[()])
    if values.shape not in (shape[-1:], shape[-2:]):
        raise FormatError(
            f"{path}: mask has shape {values.shape}; kspace {shape} needs ({shape[-1]},), one entry a column"
        )
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise FormatError(f"{path}: mask ({values.dtype}) holds other values than 0 and 1; expected booleans")
    if not values.any():
        raise FormatError(f"{path}: mask is false everywhere; expected at least one sampled column")
    return torch.from_numpy(values != 0)


def _truth(file: h5py.File, shape: tuple[int, ...], chosen: int | list[int], path: Path) -> Tensor | None:
    name = "reconstruction_rss" if len(shape) == 4 else "reconstruction_esc"
    if name not in file:
        return None
    stored = get_array(file, name, path)
    if len(stored.shape) != 3 or stored.shape[0] != shape[0]:
        raise FormatError(f"{path}: {name} has shape {stored.shape}; expected ({shape[0]}, h, w), one image a slice")
    values = _slices(stored, chosen)
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise FormatError(f"{path}: {name} ({values.dtype}) is not finite floating point; expected a magnitude image")
    return torch.from_numpy(values.astype(np.float32))


def _spacing(header: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float] | None:
    fov = header.get("encoded_fov_mm")
    if fov is None or fov[0] <= 0 or fov[1] <= 0:
        return None
    return fov[0] / shape[-2], fov[1] / shape[-1]  # steps of k-space are 1 / field of view, however many there are


def _recon_size(header: Mapping[str, Any], truth: Tensor | None, shape: tuple[int, ...]) -> tuple[int, int] | None:
    size = header.get("recon_matrix") or (None if truth is None else truth.shape[-2:])
    return None if size is None else (min(int(size[0]), shape[-2]), min(int(size[1]), shape[-1]))
