"""The slices of a DICOM series, sorted along their normal and checked to be one regular volume.

Names and numbers of slices decide nothing: a slice stands where ImagePositionPatient says. What makes a series no
regular volume (missing or repeated slices, several orientations, a tilted gantry) is said in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from invdiff.datasets.dicom.files import kind
from invdiff.errors import FormatError, InputError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Frame", "arrange", "field", "placed"]

# How far a slice may stand from its place, of a voxel. Scanners round positions to 0.1 mm, which is more where voxels
# are small; a missing slice moves others by a third of a gap at least.
_PASS, _ROUNDING, _LOST = 0.1, 0.1, 0.25
_TILT = 0.5  # degrees
_SPARSE = 1.5  # gap over thickness that is worth a word
_TELLING = ("EchoTime", "EchoNumbers", "InversionTime", "FlipAngle", "TriggerTime", "TemporalPositionIdentifier",
            "DiffusionBValue", "EffectiveEchoTime", "TemporalPositionIndex", "StackID", "AcquisitionNumber",
            "ImageType", "ContentTime", "InstanceNumber")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: frame `number` of the file `path`, and where it stands (mm, LPS)."""

    path: Path
    number: int
    header: Dataset
    shape: tuple[int, int]
    position: NDArray[np.float64]  # of the centre of the first voxel
    orientation: NDArray[np.float64]  # (2, 3): unit vectors along a row (columns grow), along a column (rows grow)
    spacing: NDArray[np.float64]  # between rows, between columns

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slice."""
        return np.cross(self.orientation[0], self.orientation[1])


def field(header: Dataset, number: int, name: str, sequence: str) -> Any:
    """A value of one frame: from its functional group `sequence` (enhanced objects), else from the header."""
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for group in [*groups[number : number + 1], *shared[:1]]:
        for item in (group.get(sequence) or [])[:1]:
            if item.get(name) is not None:
                return item.get(name)
    return header.get(name)


def placed(path: Path, header: Dataset) -> list[Frame]:
    """The slices of a file, with their places. Raises FormatError where the file does not say where they stand."""
    count = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if count < 1 or (count > 1 and (groups is None or len(groups) != count)):
        held = "none" if groups is None else f"{len(groups)}"
        raise FormatError(f"{path} has {count} frames and places for {held} of them; its slices cannot be placed")
    shape = int(header.Rows), int(header.Columns)

    def numbers(number: int, name: str, sequence: str, size: int) -> NDArray[np.float64]:
        value = field(header, number, name, sequence)
        if value is None or value == "":
            raise FormatError(f"{path} ({kind(header)}) has no {name}; a volume cannot be placed without it")
        array = np.array([float(v) for v in value]) if not isinstance(value, (int, float, str)) else np.zeros(0)
        if array.shape != (size,) or not np.isfinite(array).all():
            raise FormatError(f"{path} has {name} {value}; expected {size} numbers")
        return array

    frames = []
    for number in range(count):
        position = numbers(number, "ImagePositionPatient", "PlanePositionSequence", 3)
        axes = numbers(number, "ImageOrientationPatient", "PlaneOrientationSequence", 6).reshape(2, 3)
        spacing = numbers(number, "PixelSpacing", "PixelMeasuresSequence", 2)
        if np.abs(axes @ axes.T - np.eye(2)).max() > 1e-3:
            raise FormatError(f"{path} has ImageOrientationPatient {axes.ravel()}; expected orthogonal unit vectors")
        if (spacing <= 0).any() or min(shape) < 1:
            raise FormatError(f"{path} has PixelSpacing {spacing} and {shape} pixels; expected positive numbers")
        frames.append(Frame(path, number, header, shape, position, axes, spacing))
    return frames


def arrange(
    frames: Sequence[Frame], where: str, strict: bool = True, select: Mapping[str, Any] | None = None
) -> tuple[list[Frame], NDArray[np.float64], list[str]]:
    """Sort the slices of a series along their normal.

    Args:
        frames: the slices, in any order.
        where: begins the messages.
        strict: refuse uneven spacing and a tilted gantry; else note it, and place slices evenly between the outermost.
        select: header fields that slices must have, such as ``{"EchoNumbers": 1}``; of enhanced objects also those of
            functional groups, such as ``{"EffectiveEchoTime": 4.0}``.

    Returns:
        The slices, the affine of `invdiff.datasets.volume`, and notes that the user should see.

    Raises:
        FormatError: see the module. InputError: no slice is as `select` wants it.
    """
    chosen = [f for f in frames if all(_text(f, k) == str(v) for k, v in (select or {}).items())]
    if not chosen:
        held = {k: sorted({_text(f, k) for f in frames})[:10] for k in select or {}}
        raise InputError(f"{where}: no slice has {dict(select or {})}; the slices have {held}")
    first = chosen[0]
    differs: dict[str, Callable[[Frame], bool]] = {
        "ImageOrientationPatient": lambda f: bool(np.abs(f.orientation - first.orientation).max() > 1e-3),
        "PixelSpacing": lambda f: bool(np.abs(f.spacing / first.spacing - 1).max() > 1e-3),
        "Rows and Columns": lambda f: f.shape != first.shape,
        "FrameOfReferenceUID": lambda f: f.header.get("FrameOfReferenceUID") != first.header.get("FrameOfReferenceUID"),
    }
    for name, odd_one in differs.items():
        odd = [f for f in chosen if odd_one(f)]
        if odd:
            raise FormatError(
                f"{where}: {len(odd)} of {len(chosen)} slices differ from the others in {name} (such as"
                f" {odd[0].path.name}); a volume has one, choose slices with select={{...}} (--read select.NAME=VALUE)"
            )
    notes: list[str] = []
    ordered = _without_copies(sorted(chosen, key=lambda f: float(f.position @ first.normal)), where, notes)
    return ordered, _affine(ordered, where, strict, notes), notes


def _text(frame: Frame, name: str) -> str:
    value = frame.header.get(name)
    groups = frame.header.get("PerFrameFunctionalGroupsSequence") or []
    for group in groups[frame.number : frame.number + 1] if value is None else ():
        for element in group:
            if element.VR == "SQ" and element.value and element.value[0].get(name) is not None:
                value = element.value[0].get(name)
    return "\\".join(map(str, value)) if isinstance(value, (list, tuple)) or hasattr(value, "insert") else str(value)


def _without_copies(ordered: list[Frame], where: str, notes: list[str]) -> list[Frame]:
    kept: list[Frame] = []
    copies = 0
    for frame in ordered:
        before = kept[-1] if kept else None
        if before is None or np.abs(frame.position - before.position).max() > 1e-3:
            kept.append(frame)
        elif (frame.header.get("SOPInstanceUID"), frame.number) == (before.header.get("SOPInstanceUID"), before.number):
            copies += 1
        else:
            names = [n for n in _TELLING if _text(frame, n) != _text(before, n)]
            how = ", ".join(f"{n} {_text(before, n)} and {_text(frame, n)}" for n in names[:3]) or "no usual field"
            raise FormatError(
                f"{where}: several slices stand in one place ({before.path.name} and {frame.path.name}, which differ in"
                f" {how}); choose one image per place with select={{...}} (--read select.NAME=VALUE)"
            )
    if copies:
        notes.append(f"{where}: {copies} slice(s) are there twice; one was used")
    return kept


def _affine(ordered: list[Frame], where: str, strict: bool, notes: list[str]) -> NDArray[np.float64]:
    first, last = ordered[0], ordered[-1]
    affine = np.eye(4)
    affine[:3, 1], affine[:3, 2] = (
        first.orientation[1] * first.spacing[0],
        first.orientation[0] * first.spacing[1],
    )
    affine[:3, 3] = first.position
    if len(ordered) == 1:
        affine[:3, 0] = first.normal * _thickness(first, where, notes)
        return affine
    step = (last.position - first.position) / (len(ordered) - 1)
    affine[:3, 0] = step
    problems = []
    positions = np.array([f.position for f in ordered])
    gaps = np.diff(positions @ first.normal)
    off = np.linalg.norm(positions - first.position - np.arange(len(ordered))[:, None] * step, axis=1)
    if gaps.min() < 1e-3:
        raise FormatError(f"{where}: slices stand side by side in one plane; a volume needs a stack of them")
    usual, widest = float(np.median(gaps)), int(gaps.argmax())
    if off.max() > max(_PASS * min(usual, *first.spacing), min(_ROUNDING, _LOST * usual)):
        if gaps[widest] > 1.5 * usual:
            problems.append(
                f"about {round(gaps[widest] / usual) - 1} slice(s) are missing between {ordered[widest].path.name} and"
                f" {ordered[widest + 1].path.name}: {gaps[widest]:.4g} mm apart, others {usual:.4g} mm"
            )
        else:
            problems.append(f"slices are unevenly spaced, {gaps.min():.4g} to {gaps.max():.4g} mm, or shifted sideways")
    cosine = float(step @ first.normal) / float(np.linalg.norm(step) or 1)
    if cosine < np.cos(np.deg2rad(_TILT)):
        angle = np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))
        problems.append(
            f"slices are shifted along the stack by {angle:.1f} degrees (a tilted gantry): voxels are no boxes"
        )
    if problems:
        text = f"{where}: " + "; ".join(problems)
        if strict:
            raise FormatError(
                text + "; resample the series, or read it as it is with strict=False (--read strict=false)"
            )
        notes.append(text + "; read as if evenly spaced")
    thick = field(first.header, first.number, "SliceThickness", "PixelMeasuresSequence")
    if not problems and thick not in (None, "") and 0 < _SPARSE * float(thick) < usual:
        notes.append(f"{where}: slices are {float(thick):.4g} mm thick and {usual:.4g} mm apart; are some missing?")
    return affine


def _thickness(frame: Frame, where: str, notes: list[str]) -> float:
    for name in ("SliceThickness", "SpacingBetweenSlices"):
        value = field(frame.header, frame.number, name, "PixelMeasuresSequence")
        if value not in (None, "") and np.isfinite(float(value)) and float(value) > 0:
            return float(value)
    notes.append(f"{where}: SliceThickness is missing; 1 mm is assumed")
    return 1.0
