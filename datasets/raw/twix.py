"""Siemens raw data (twix, ``.dat``, software VB to XA) by pymapvbvd: Cartesian k-space, whitened by its noise scan.

The chain of readouts is walked before the library follows it, which it would do for ever in some damaged files. Of
several measurements in a file the last one with an image counts. Where the image stands in the patient is not read.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.kspace import RawKspace
from invdiff.datasets.raw.ismrmrd import image_of
from invdiff.errors import FileError, FormatError, missing_extra
from invdiff.files import existing, head, parsing

__all__ = ["read", "recognise"]

_END, _SYNC = 1, 1 << 5  # bits of a readout's flags: the last one; no readout but other data
_NOISE, _CALIBRATION, _REVERSE = (1 << 18, 1 << 19, 1 << 21)  # as ISMRMRD has them
_BANDWIDTH = 0.79  # of Siemens noise scans, relative to their sampling rate
_COUNTERS = {
    "kspace_encode_step_1": "Lin", "kspace_encode_step_2": "Par", "slice": "Sli", "average": "Ave", "contrast": "Eco",
    "phase": "Phs", "repetition": "Rep", "set": "Set", "segment": "Seg",
}  # fmt: skip
_HEAD = np.dtype([
    ("flags", "u8"), ("center_sample", "i8"), ("discard_pre", "i8"), ("discard_post", "i8"), ("sample_time_us", "f8"),
    ("encoding_space_ref", "i8"), *((name, "f8", (3,)) for name in ("position", "read_dir", "phase_dir", "slice_dir")),
    ("idx", [(name, "i8") for name in _COUNTERS]),
])  # fmt: skip


def recognise(path: str | Path) -> bool:
    """Whether the file begins with the table of measurements of VD and later, or with a VB header."""
    path = Path(path)
    try:
        return path.is_file() and bool(_measurements(path))
    except FileError:
        return False


def _measurements(path: Path) -> list[tuple[bool, int, int]]:
    """Of each measurement whether it is VD or later, where it begins, and how long its header is."""
    size, first = path.stat().st_size, head(path, 8 + 64 * 152)
    if len(first) < 64:
        raise FormatError(f"{path} has {size} bytes; expected Siemens raw data")
    one, count = struct.unpack_from("<II", first)
    modern = one < 10000 and 1 <= count <= 64
    starts = [struct.unpack_from("<Q", first, 16 + 152 * i)[0] for i in range(count)] if modern else [0]
    found = []
    for start in starts:
        with path.open("rb") as file:
            file.seek(min(start, size))
            begin = file.read(28)
        length, buffers = struct.unpack_from("<II", begin) if len(begin) == 28 else (0, 0)
        name = begin[8:].partition(b"\0")[0]
        if not (name.isalpha() and 1 <= buffers <= 32 and 32 <= length <= size - start):
            raise FormatError(f"{path} begins with {first[:16]!r}; expected Siemens raw data")
        found.append((modern, start, length))
    return found


def read(
    path: str | Path,
    slice: int | Sequence[int] | None = None,
    *,
    select: Mapping[str, int] | None = None,
    whiten: bool = True,
) -> RawKspace:
    """Read the slices of one image; arguments and result are those of `invdiff.datasets.raw.ismrmrd.read`.

    Raises:
        What that function raises; MissingExtraError: pymapvbvd is not installed.
    """
    path = existing(path)
    for modern, start, length in _measurements(path):
        _walk(path, modern, start + length)
    library = _library()
    with parsing(path, "Siemens raw data"):
        scans = library(str(path), quiet=True, removeOS=False, regrid=False, disableReflect=True)
        scans = scans if isinstance(scans, list) else [scans]
        images = [s for s in scans if "image" in s]
        if not images:
            raise FormatError(f"{path} holds no readout of an image; expected Cartesian k-space")
        header, dwell = _header(images[-1], path)
        parts = [_readouts(images[-1]["image"], 0, dwell)]
        if header["calibration"] == "embedded" and "refscan" in images[-1]:
            known = set(images[-1]["image"].memPos.tolist())  # lines of both are there twice
            parts.append(_readouts(images[-1]["refscan"], _CALIBRATION, dwell, known))
        for scan in scans if whiten else ():
            if "noise" in scan:
                parts.append(_readouts(scan["noise"], _NOISE, _header(scan, path)[1]))
                break
    heads, samples = (np.concatenate(part) for part in zip(*parts, strict=True))
    return image_of(path, "twix", heads, samples, header, slice, select or {}, whiten)


def _walk(path: Path, modern: bool, at: int) -> None:
    """Raise FormatError unless the readouts follow each other, each within the file, to the last one."""
    size = path.stat().st_size
    wide, channel_head, shift = (192, 32, 20) if modern else (128, 128, 0)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while True:
            if at + wide > size:
                raise FormatError(f"{path} ends in the middle of its readouts, at {at} bytes; copy it again")
            length = struct.unpack_from("<I", data, at)[0] & 0x1FFFFFF
            flags = data[at + 20 + shift]
            if flags & _END or not length:
                return
            if not flags & _SYNC:
                samples, coils = struct.unpack_from("<HH", data, at + 28 + shift)
                length = (wide if modern else 0) + (8 * samples + channel_head) * coils
                if not samples or not coils:
                    raise FormatError(f"{path} has a readout of {samples} samples and {coils} coils at {at} bytes")
            if length < wide or at + length > size:
                raise FormatError(
                    f"{path} has a readout of {length} bytes at {at} of {size}; it is damaged or cut short"
                )
            at += length


def _readouts(
    found: Any, flags: int, dwell: float, known: set[float] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Heads and samples of one kind of readout, as `image_of` takes them."""
    keep = [i for i, place in enumerate(found.memPos.tolist()) if not known or place not in known]
    heads = np.zeros(len(keep), _HEAD)
    values = found.unsorted()  # (samples, coils, readouts)
    samples = np.empty(len(keep), object)
    for k, i in enumerate(keep):
        samples[k] = np.ascontiguousarray(values[:, :, i].T.astype(np.complex64))
    for name, theirs in _COUNTERS.items():
        heads["idx"][name] = np.asarray(getattr(found, theirs))[keep]
    for name, theirs in (("kspace_encode_step_1", "centerLin"), ("kspace_encode_step_2", "centerPar")):
        heads["idx"][name] -= np.asarray(getattr(found, theirs)).astype(int)[keep]  # counted from the centre
    heads["flags"] = flags | np.where(np.asarray(found.IsReflected)[keep], _REVERSE, 0)
    heads["center_sample"] = np.asarray(found.centerCol)[keep]
    heads["discard_pre"], heads["discard_post"] = np.asarray(found.cutOff)[keep].T
    heads["sample_time_us"] = dwell
    return heads, samples


def _header(scan: Any, path: Path) -> tuple[dict[str, Any], float]:
    """The entries of `ismrmrd_header.parse`, and the time of one sample, us."""
    protocol = scan["hdr"].get("MeasYaps", {})

    def number(*key: str, default: float = 0.0) -> float:
        value = protocol.get(key, default)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else default

    dwell = number("sRXSPEC", "alDwellTime", "0") / 1e3
    if "image" not in scan:
        return {"calibration": None}, dwell
    image = scan["image"]
    samples, base = int(np.max(image.NCol)), int(number("sKSpace", "lBaseResolution"))
    grid = [2 * base if samples <= 2 * base else samples]
    for lines, centre, known in (
        (image.Lin, image.centerLin, "lPhaseEncodingLines"),
        (image.Par, image.centerPar, "lPartitions"),
    ):
        offset = np.asarray(lines) - np.asarray(centre)
        needed = int(max(1, -2 * offset.min(), 2 * offset.max() + 1))
        flat = known == "lPartitions" and number("sKSpace", "ucDimension", default=2) != 4
        grid.append(needed if flat else max(needed, int(number("sKSpace", known))))
    read_out, phase, thick = (
        number("sSliceArray", "asSlice", "0", name) for name in ("dReadoutFOV", "dPhaseFOV", "dThickness")
    )
    over = [1 + number("sKSpace", f"d{name}OversamplingForDialog") for name in ("Phase", "Slice")]
    header: dict[str, Any] = {
        "encoded_matrix": grid,
        "recon_matrix": [grid[0] // 2 if base else grid[0], *grid[1:]],
        "limits": {"minimum": -grid[1], "maximum": grid[1], "center": 0},
        "limits_2": {"minimum": -grid[2], "maximum": grid[2], "center": 0},
        "trajectory": "cartesian" if number("sKSpace", "ucTrajectory", default=1) == 1 else "not cartesian",
        "calibration": "embedded" if number("sPat", "ucRefScanMode") == 2 else "separate",
        "noise_bandwidth": _BANDWIDTH,
    }
    if min(read_out, phase, thick) > 0:
        header["encoded_fov_mm"] = [2 * read_out if base else read_out, phase * over[0], thick * over[1]]
        header["recon_fov_mm"] = [read_out, phase, thick]
    return header, dwell


def _library() -> Any:
    try:
        from mapvbvd import mapVBVD
    except ImportError as error:
        raise missing_extra("pymapvbvd", "twix", "Siemens raw data") from error
    return mapVBVD
