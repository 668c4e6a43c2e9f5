"""ISMRMRD raw data (Inati et al. 2017, doi:10.1002/mrm.26089), version 1: HDF5 with an XML header and readouts.

A group (``dataset``) holds ``xml`` and ``data``, the readouts one by one: counters, flags, and samples of all coils.
They are sorted onto the encoded grid, with the centre of k-space where the header and each readout say it is. Readouts
that are not of the image (noise, navigators, phase correction, separate calibration) are left out; a noise scan
whitens the others, whose noise then has a standard deviation of 1.

A volume encoded in two directions becomes one problem for each position along the readout, which a Fourier transform
separates exactly: slices (ky, kz).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.datasets.kspace import RawKspace, as_kspace, chosen_slices, sampled
from invdiff.datasets.raw.ismrmrd_grid import flag, gridded
from invdiff.datasets.raw.ismrmrd_header import parse
from invdiff.errors import FileError, FormatError, InputError
from invdiff.files import sha256
from invdiff.hdf5 import get_array, get_group, open_hdf5
from invdiff.operators.mri.whitening import noise_covariance, whitening_matrix

if TYPE_CHECKING:
    import h5py

__all__ = ["image_of", "read", "recognise"]

_NOISE, _CALIBRATION, _CALIBRATION_AND_IMAGE = 19, 20, 21
_NOT_IMAGE = {23: "navigator", 24: "phase correction", 26: "feedback", 27: "dummy", 28: "feedback",
              29: "surface coil correction", 30: "phase stabilisation", 31: "phase stabilisation"}  # fmt: skip
_COUNTERS = ("contrast", "phase", "repetition", "set", "average")
_Readouts = tuple[NDArray[Any], NDArray[Any]]  # heads, and samples (readouts, coils, samples) or objects


def recognise(path: str | Path) -> bool:
    """Whether this is HDF5 with a group that holds ``xml`` and ``data``."""
    try:
        with open_hdf5(path) as file:
            return bool(_groups(file))
    except FileError:
        return False


def _groups(file: h5py.File) -> list[str]:
    return [name for name, item in file.items() if hasattr(item, "items") and "xml" in item and "data" in item]


def read(
    path: str | Path,
    slice: int | Sequence[int] | None = None,
    *,
    select: Mapping[str, int] | None = None,
    whiten: bool = True,
) -> RawKspace:
    """Read the slices of one image.

    Args:
        path: the file.
        slice: number of the slice along their normal, or slices (of a volume: position along the readout); None for
            all.
        select: counters of the readouts to take, where there are several of ``contrast``, ``phase``, ``repetition``,
            ``set``, ``average`` or ``encoding``: ``{"repetition": 0}``.
        whiten: decorrelate the coils by the noise scan, if there is one.

    Returns:
        Rows are the readout (of a volume the first phase encoding), columns the (second) phase encoding. Repeated
        positions are averaged. `meta` counts what was left out.

    Raises:
        FileError: the file cannot be opened. FormatError: it is damaged, not Cartesian, or readouts do not fit the
        grid or each other. InputError: several images and none selected, or no such slice.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        names = _groups(file)
        if not names:
            raise FormatError(f"{path} holds {', '.join(file) or 'nothing'}; expected a group with xml and data")
        group = get_group(file, "dataset" if "dataset" in names else names[0], path)
        text = np.asarray(get_array(group, "xml", path)[()]).reshape(-1)[0]
        heads, samples = _stored(get_array(group, "data", path), path)
    header = parse(text, f"{path}: xml", int((select or {}).get("encoding", 0)))
    return image_of(path, "ismrmrd", heads, samples, header, slice, select or {}, whiten)


def image_of(
    path: Path,
    format: str,
    heads: NDArray[Any],
    samples: NDArray[Any],
    header: Mapping[str, Any],
    slice: int | Sequence[int] | None,
    select: Mapping[str, int],
    whiten: bool,
) -> RawKspace:
    """What `read` returns, of readouts with the heads of this format and a header as `parse` gives it."""
    chosen, left_out = _of_image(heads, header, select, path)
    noise = flag(heads, _NOISE)
    data = samples[chosen]
    meta: dict[str, Any] = {"format": format, "header": header, "left_out": left_out}
    grid = header.get("encoded_matrix")
    if grid is None or min(grid) < 1 or np.prod(np.array(grid, object)) > 1 << 31:
        raise FormatError(f"{path}: the header's encoded matrix is {grid}; expected sizes x, y, z")
    coils = {len(d) for d in data}
    if len(coils) != 1:
        raise FormatError(f"{path}: readouts have {sorted(coils)} coils; expected one number of them")
    mixing, sigma = None, None
    if whiten and noise.any():
        mixing, sigma = _whitening(heads[noise], samples[noise], heads[chosen], coils.pop(), header, path), 1.0
    kspace, counts, places = gridded(heads[chosen], data, header, mixing, path)
    repeats = {int(n) for n in np.unique(counts[counts > 0])}
    if sigma is not None and len(repeats) > 1:
        raise FormatError(
            f"{path}: positions were measured {sorted(repeats)} times, so their noise differs; choose readouts with"
            " select={'average': 0} (--read select.average=0), or read with whiten=False (--read whiten=false)"
        )
    kspace /= np.maximum(counts, 1)[:, None]
    meta |= {"averages": max(repeats), "whitened": sigma is not None}
    return _raw(path, kspace, counts > 0, None if sigma is None else sigma / max(repeats) ** 0.5, header, meta, slice,
                heads[chosen], places)  # fmt: skip


def _stored(data: h5py.Dataset, path: Path) -> _Readouts:
    """Heads of all readouts, and their samples as complex64 (coils, samples) each."""
    fields = data.dtype.names or ()
    if not {"head", "data"} <= set(fields) or data.ndim != 1 or len(data) == 0:
        raise FormatError(f"{path}: data is {data.dtype} {data.shape}; expected readouts with head and data")
    everything = data[()]  # one by one takes thirty times as long
    heads = everything["head"]
    needed = {"flags", "number_of_samples", "active_channels", "center_sample", "idx", "discard_pre", "discard_post",
              "encoding_space_ref", "sample_time_us", "position", "read_dir", "phase_dir", "slice_dir"}  # fmt: skip
    if not needed <= set(heads.dtype.names or ()):
        raise FormatError(f"{path}: heads of readouts lack {sorted(needed - set(heads.dtype.names or ()))}")
    samples = np.empty(len(heads), object)
    for i, (head, values) in enumerate(zip(heads, everything["data"], strict=True)):
        shape = int(head["active_channels"]), int(head["number_of_samples"])
        values = np.asarray(values)
        if values.dtype != np.float32 or values.size != 2 * shape[0] * shape[1] or 0 in shape:
            raise FormatError(
                f"{path}: readout {i} holds {values.size} numbers; expected 2 x {shape[0]} coils x {shape[1]} samples"
            )
        samples[i] = values.view(np.complex64).reshape(shape)
    return heads, samples


def _of_image(
    heads: NDArray[Any], header: Mapping[str, Any], select: Mapping[str, int], path: Path
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which readouts are of the image, and how many of what else there are."""
    if header.get("trajectory") not in (None, "cartesian"):
        raise FormatError(f"{path}: the trajectory is {header['trajectory']!r}; expected cartesian")
    others = {name: flag(heads, bit) for bit, name in _NOT_IMAGE.items()} | {"noise": flag(heads, _NOISE)}
    if header.get("calibration") != "embedded":  # else its lines are of the image as well
        others["calibration"] = flag(heads, _CALIBRATION) & ~flag(heads, _CALIBRATION_AND_IMAGE)
    chosen = ~np.any(list(others.values()), axis=0)
    left_out = {name: int(found.sum()) for name, found in others.items() if found.any()}
    unknown = set(select) - {*_COUNTERS, "encoding", "segment"}
    if unknown:
        raise InputError(f"select names {sorted(unknown)}; expected {', '.join(_COUNTERS)}, segment or encoding")
    for name in (*_COUNTERS, "segment", "encoding"):
        held = heads["encoding_space_ref"] if name == "encoding" else heads["idx"][name]
        values = np.unique(held[chosen])
        if name in select:
            chosen &= held == int(select[name])
        elif len(values) > 1 and name not in ("average", "segment"):
            raise InputError(
                f"{path} holds several images, {name} {values[:10].tolist()}; choose one with"
                f" select={{'{name}': {values[0]}}} (--read select.{name}={values[0]})"
            )
        if not chosen.any():
            raise InputError(f"{path} has no readout of an image with {dict(select)}; {name} is {values[:10].tolist()}")
    return chosen, left_out


def _whitening(
    noise_heads: NDArray[Any],
    noise: NDArray[Any],
    heads: NDArray[Any],
    coils: int,
    header: Mapping[str, Any],
    path: Path,
) -> NDArray[np.complex64]:
    if {len(n) for n in noise} != {coils}:
        raise FormatError(f"{path}: the noise scan has {sorted({len(n) for n in noise})} coils, the image {coils}")
    dwell = float(np.median(noise_heads["sample_time_us"])), float(np.median(heads["sample_time_us"]))
    ratio = dwell[0] / dwell[1] if dwell[0] > 0 and dwell[1] > 0 else 1.0
    ratio *= header.get("noise_bandwidth") or 1.0
    try:
        scan = torch.from_numpy(np.concatenate(list(noise), axis=1))
        found: NDArray[np.complex64] = whitening_matrix(noise_covariance(scan), ratio).numpy().astype(np.complex64)
    except InputError as error:
        raise FormatError(f"{path}: {error}; or read it with whiten=False (--read whiten=false)") from error
    return found


def _raw(
    path: Path,
    kspace: NDArray[np.complex64],
    acquired: NDArray[np.bool_],
    sigma: float | None,
    header: Mapping[str, Any],
    meta: dict[str, Any],
    slice: int | Sequence[int] | None,
    heads: NDArray[Any],
    numbers: list[int],
) -> RawKspace:
    """Slices (slices, coils, rows, columns) of the grid (slices, coils, z, x, y), and where they stand."""
    nx, ny, nz = header["encoded_matrix"]
    fov, recon = header.get("encoded_fov_mm"), _wanted(header)
    steps = [f / n for f, n in zip(fov, (nx, ny, nz), strict=True)] if fov and min(fov) > 0 else None
    meta |= {"file": str(path), "sha256": sha256(path)}
    axes = [np.asarray(heads[0][f"{name}_dir"], float) for name in ("read", "phase", "slice")]
    upright = bool(np.abs(np.array(axes) @ np.array(axes).T - np.eye(3)).max() < 1e-3)
    if nz == 1:
        if upright:  # interleaved slices are counted as they were acquired
            order = _along(heads, numbers, axes[2])
            kspace, acquired, numbers = kspace[order], acquired[order], [numbers[i] for i in order]
        chosen = chosen_slices(path, slice, len(numbers))
        kept = [chosen] if isinstance(chosen, int) else chosen
        centres = np.array([heads["position"][heads["idx"]["slice"] == numbers[k]][0] for k in kept], float)
        step = (centres[-1] - centres[0]) / max(1, len(kept) - 1)
        even = np.abs(centres - centres[0] - np.arange(len(kept))[:, None] * step).max() < 0.1
        if steps and upright and even:
            columns = [step if len(kept) > 1 else axes[2] * steps[2], axes[0] * steps[0], axes[1] * steps[1]]
            affine = _affine(columns, centres[0], (0, nx // 2, ny // 2))
        else:
            affine = None
        values, sampled_at = kspace[chosen, :, 0], acquired[chosen, 0]
        spacing, size = (steps[0], steps[1]) if steps else None, (recon[0], recon[1])
    else:
        if len(numbers) > 1:
            raise FormatError(f"{path} holds {len(numbers)} slabs; expected one volume")
        if (acquired.any(2, keepdims=True) != acquired)[
            np.broadcast_to(acquired.any(2, keepdims=True), acquired.shape)
        ].any():
            raise FormatError(f"{path}: readouts of a volume are incomplete (asymmetric echoes); expected whole ones")
        first = nx // 2 - recon[0] // 2
        hybrid = torch.fft.ifft(torch.fft.ifftshift(torch.from_numpy(kspace[0]), 2), dim=2, norm="ortho")
        hybrid = torch.fft.fftshift(hybrid, 2)[:, :, first : first + recon[0]]
        chosen = chosen_slices(path, slice, recon[0])
        kept = [chosen] if isinstance(chosen, int) else chosen
        values = hybrid.permute(2, 0, 3, 1).numpy()[chosen]
        lines = np.swapaxes(acquired[0].any(1), 0, 1)
        sampled_at = lines if isinstance(chosen, int) else np.broadcast_to(lines, (len(kept), *lines.shape))
        gaps = set(np.diff(kept).tolist()) or {1}
        affine = None
        if steps and upright and len(gaps) == 1:
            columns = [axes[0] * steps[0] * gaps.pop(), axes[1] * steps[1], axes[2] * steps[2]]
            start = np.asarray(heads[0]["position"], float) + axes[0] * steps[0] * (first + kept[0] - nx // 2)
            affine = _affine(columns, start, (0, ny // 2, nz // 2))
        spacing, size = (steps[1], steps[2]) if steps else None, (recon[1], recon[2])
        meta["slices_along"] = "readout"
    meta["slice"] = chosen if nz > 1 else [numbers[k] for k in kept] if not isinstance(chosen, int) else numbers[chosen]
    tensor = as_kspace(values, f"{path}: data", chosen)
    # A sample may be 0 by chance: what counts is where readouts stand.
    mask = sampled(torch.from_numpy(np.ascontiguousarray(sampled_at))[..., None, :, :])
    return RawKspace(tensor, mask, meta, spacing, size, sigma=sigma, affine=affine)


def _along(heads: NDArray[Any], numbers: list[int], normal: NDArray[np.float64]) -> list[int]:
    """The order in which slices stand along their normal; as they are numbered where that is even or says nothing."""
    places = np.array([heads["position"][heads["idx"]["slice"] == n][0] for n in numbers], float) @ normal
    gaps = np.diff(places)
    if (gaps > 0).all() or (gaps < 0).all() or np.diff(np.sort(places)).min() < 1e-3:
        return list(range(len(numbers)))
    return [int(i) for i in np.argsort(places)]


def _wanted(header: Mapping[str, Any]) -> tuple[int, int, int]:
    """The central part of the encoded grid that is of interest: the reconstructed field of view."""
    grid, fov, wanted = header["encoded_matrix"], header.get("encoded_fov_mm"), header.get("recon_fov_mm")
    if fov and wanted and min(*fov, *wanted) > 0:
        sizes = [round(n * w / f) for n, w, f in zip(grid, wanted, fov, strict=True)]
    else:
        sizes = header.get("recon_matrix") or grid
    x, y, z = (max(1, min(int(s), n)) for s, n in zip(sizes, grid, strict=True))
    return x, y, z


def _affine(columns: Sequence[NDArray[Any]], centre: NDArray[Any], index: Sequence[int]) -> NDArray[np.float64]:
    """The map from (slice, row, column) to mm that puts `index` at `centre`."""
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1)
    affine[:3, 3] = centre - affine[:3, :3] @ np.asarray(index, float)
    return affine
