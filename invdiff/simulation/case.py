"""A measurement with the truth beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from invdiff.datasets.volume import Volume
from invdiff.measurement import Measurement

__all__ = ["Case", "COILS", "MASK", "NOISE", "PHASE", "coordinates"]

# Streams of random numbers, far from those of the draws, which count from 0; slice k adds k.
COILS, MASK, NOISE, PHASE = (2**40 + i * 2**32 for i in range(4))


@dataclass
class Case:
    """A measurement to reconstruct from.

    Attributes:
        measurement: the data.
        truth: what they were made from, or what stands for it, ``(problems, *event)`` in the unit of x; None if
            unknown.
        reference: what `truth` is, in words.
        slices: number of each slice in the file it came from, one a problem (or a slice of the one volume).
    """

    measurement: Measurement
    truth: Tensor | None = None
    reference: str = ""
    slices: list[int] | None = None


def coordinates(part: Volume, slices: list[int], several: bool, volume: bool) -> dict[str, Any]:
    """Coordinates of x for slices of a volume as problems, or (volume) as one."""
    coords = part.coords()
    if not volume:
        del coords["z"]
        if several:
            coords["problem"] = (("problem",), np.asarray(slices), {"long_name": "slice of the truth"})
    return coords
