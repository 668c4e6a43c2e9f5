"""Simulated X-ray tomography of a volume, slice by slice or in three dimensions."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.volume import Volume
from invdiff.errors import InputError, UnknownNameError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian, Transmission
from invdiff.operators.ct import ConeCT, FanCT, ParallelCT
from invdiff.operators.ct.tomography import Tomography
from invdiff.operators.ct.units import MU_WATER
from invdiff.random import generator
from invdiff.simulation.case import NOISE, Case, coordinates
from invdiff.simulation.file_unit import file_unit

__all__ = ["BEAMS", "CTScan", "simulate_ct"]

BEAMS = ("parallel", "fan", "cone")
_NO_MATTER = -1100  # HU: air is -1000, and its noise seldom -1100; scanners fill what they did not see with -2000 or so


@dataclass(frozen=True)
class CTScan:
    """How to simulate.

    Attributes:
        views: number of views, evenly spread over the arc.
        arc: degrees that the views span; None for 180 with parallel beams, else 360.
        beam: "parallel", "fan" (slices) or "cone" (one volume).
        counts: photons that reach a channel through air.
        noise: instead of counting noise, this standard deviation of all line integrals (they have no unit).
        water: value of water in a file whose values have no unit, air being 0.
        volume: one problem in three dimensions instead of slices.
    """

    views: int = 60
    arc: float | None = None
    beam: str = "parallel"
    counts: float = 1e5
    noise: float | None = None
    water: float = 1000.0
    volume: bool = False


def simulate_ct(part: Volume, scan: CTScan, slices: list[int], several: bool, seed: int) -> Case:
    """Simulate the given slices (their numbers in `slices`); see `invdiff.simulation.simulate`.

    x is mu in 1/mm, air 0; ``meta`` says how it becomes a value in the unit of the file again. Voxels that the file
    marks as padding are air.

    Raises:
        InputError, UnknownNameError: an option is out of range, or the values of the file are no attenuation.
    """
    _check(scan)
    slope, intercept, units = _file_unit(part, scan)
    values = (part.values - intercept) / slope
    if part.mask is not None:
        values = np.where(part.mask, values, 0)
    if units == "HU" and (part.values < _NO_MATTER).any():
        low = part.values < _NO_MATTER
        values = np.where(low, 0, values)
        warnings.warn(f"{int(low.sum())} voxels below {_NO_MATTER} HU are padding, taken for air", stacklevel=2)
    if part.meta.get("modality") == "MR":
        warnings.warn("the truth is an MR image, whose values are no attenuation", stacklevel=2)
    mu = torch.from_numpy(np.asarray(values, np.float32))
    whole = scan.volume or scan.beam == "cone"
    operator = _tomograph(part, scan, whole)
    x = mu[None, None] if whole else mu[:, None]
    clean = [operator.forward(x[i : i + 1]) for i in range(len(x))]
    numbers = slices[:1] if whole else slices
    if scan.noise is not None:
        noise: Gaussian = Gaussian(scan.noise)
        y = torch.cat([noise.sample(c, generator(seed, NOISE + k)) for c, k in zip(clean, numbers, strict=True)])
    else:
        photons = Transmission(scan.counts)
        y = torch.cat([photons.sample(c, generator(seed, NOISE + k)) for c, k in zip(clean, numbers, strict=True)])
        noise = photons.gaussian(y)
    batched = several and not whole
    if not batched:
        y = y[0]
        noise = Gaussian(noise.sigma[0]) if isinstance(noise.sigma, Tensor) else noise
    meta: dict[str, Any] = {
        **part.with_values(values, "1/mm").attributes(), "modality": "ct", "simulated": 1, "seed": seed,
        "slice": slices, "views": scan.views, "scan": json.dumps(asdict(scan)), "estimated": [],
        **file_unit(slope, intercept, units),
    }  # fmt: skip
    if isinstance(noise.sigma, float):
        meta["sigma"] = noise.sigma
    if units in ("HU", ""):  # the file's own value of water was mapped to it
        meta["mu_water_per_mm"] = MU_WATER
    measurement = Measurement(y, operator, noise, coordinates(part, slices, several, whole), meta, batched)
    return Case(measurement, x, "ground truth", slices)


def _check(scan: CTScan) -> None:
    if scan.beam not in BEAMS:
        raise UnknownNameError(f"beam {scan.beam!r} is not known; there are {', '.join(BEAMS)}")
    if scan.beam == "fan" and scan.volume:
        raise InputError("a fan beam scans slices, not a volume; for one use beam 'cone' or 'parallel'")
    if scan.views < 1 or (scan.arc is not None and not 0 < scan.arc <= 360):
        raise InputError(f"views is {scan.views} and arc {scan.arc}; expected at least 1 view over 0 to 360 degrees")
    if not scan.counts > 0 or (scan.noise is not None and not scan.noise > 0):
        raise InputError(f"counts is {scan.counts} and noise {scan.noise}; they expect numbers above 0")


def _file_unit(part: Volume, scan: CTScan) -> tuple[float, float, str]:
    """What an attenuation in 1/mm is multiplied by, and what is added, to give a value of the file."""
    if np.iscomplexobj(part.values):
        raise InputError("the truth is complex; computed tomography images real attenuation")
    if part.units == "HU":
        return 1000 / MU_WATER, -1000.0, "HU"
    if part.units in ("1/mm", "mm-1", "mm^-1"):
        return 1.0, 0.0, part.units
    if part.units in ("1/cm", "cm-1", "cm^-1"):
        return 10.0, 0.0, part.units
    if part.units:
        raise InputError(
            f"the truth is in {part.units!r}, which is no attenuation; CT expects HU, 1/mm, 1/cm, or values without"
            " a unit where air is 0"
        )
    if not scan.water > 0:
        raise InputError(f"water is {scan.water}; it expects the value of water in the file, above 0")
    low = float(part.values.min())
    if low < -0.1 * scan.water:
        raise InputError(
            f"the truth has no unit and goes down to {low:.6g}; values without a unit are taken for attenuation, air"
            " being 0: add what is missing, or say the file's unit (--read units=HU, in Python units='HU')"
        )
    return scan.water / MU_WATER, 0.0, ""


def _tomograph(part: Volume, scan: CTScan, whole: bool) -> Tomography:
    dz, dy, dx = part.spacing
    depth, height, width = part.values.shape
    arc = math.radians(scan.arc or (180.0 if scan.beam == "parallel" else 360.0))
    angles = torch.arange(scan.views, dtype=torch.float64) * (arc / scan.views)
    pixel, reach = min(dy, dx), math.hypot(height * dy, width * dx) / 2
    shape = (depth, height, width) if whole else (height, width)
    size = (dz, dy, dx) if whole else (dy, dx)
    if scan.beam == "parallel":
        channels = math.ceil(2 * reach / pixel)
        detector: Any = (depth, channels) if whole else channels
        spacing: Any = (dz, pixel) if whole else pixel
        return ParallelCT(shape, angles, detector, pixel_size=size, detector_spacing=spacing)
    # The source three times as far as the corners, the detector at 1.8 of its distance: a clinical scanner's ratios.
    near, far = 3 * reach, 1.8 * 3 * reach
    step = pixel * far / near
    channels = math.ceil(2 * far * math.tan(math.asin(reach / near)) / step)
    ends: dict[str, Any] = {"source_axis": near, "source_detector": far}
    if scan.beam == "fan":
        return FanCT(shape, angles, channels, pixel_size=size, detector_spacing=step, **ends)
    rise = dz * far / near
    rows = math.ceil(depth * dz * far / (near - reach) / rise)
    return ConeCT(shape, angles, (rows, channels), pixel_size=size, detector_spacing=(rise, step), **ends)
