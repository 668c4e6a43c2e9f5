"""From files to a case: read a measurement, or simulate one of a ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from invdiff.datasets.reading import read, read_volume
from invdiff.errors import InputError
from invdiff.operators.ct import fbp
from invdiff.operators.ct.tomography import Tomography
from invdiff.reconstruction.provenance import hash_of
from invdiff.simulation import Case, CTScan, MRIScan, simulate

__all__ = ["read_case"]


def read_case(
    file: Path,
    scan: MRIScan | CTScan | None = None,
    slices: int | list[int] | None = None,
    seed: int = 0,
    **options: Any,
) -> Case:
    """Read what is to be reconstructed from.

    Args:
        file: raw data or a measurement; with `scan`, images.
        scan: simulate a measurement of the images in the file.
        slices: one slice, several, or all.
        seed: of the simulation.
        options: of the reader, such as ``sigma``, ``views``, ``bin``.

    Returns:
        The case. Where some of a scan's views were asked for (``views``), filtered backprojection of all of them
        stands for the truth.

    Raises:
        InvdiffError: the file cannot be read, an option does not fit it.
    """
    if scan is not None:
        volume = read_volume(file, **options)
        case = simulate(volume, scan, slices, seed)
    else:
        given: dict[str, Any] = {} if slices is None else {"slice": slices}
        case = Case(read(file, **given, **options))
        if "views" in options and isinstance(case.measurement.operator, Tomography):
            _with_reference(case, file, given | options)
    case.measurement.meta |= {"input": str(file), "input_sha256": hash_of(file)}
    numbers = case.measurement.meta.get("slice")
    if case.slices is None and numbers is not None:
        case.slices = [int(k) for k in numbers] if isinstance(numbers, Sequence) else [int(numbers)]
    return case


def _with_reference(case: Case, file: Path, options: dict[str, Any]) -> None:
    options = {name: value for name, value in options.items() if name != "views"}
    full = read(file, **options)
    if full.y.shape == case.measurement.y.shape:
        return  # all views were asked for
    assert isinstance(full.operator, Tomography)
    try:
        case.truth = fbp(full.operator, full.data)
    except InputError:  # the views do not go round
        return
    case.reference = f"filtered backprojection of all {full.meta['views']} views"
