"""Simulated Cartesian multi-coil MRI of a volume, slice by slice or in three dimensions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.phantoms.coils import coil_maps
from invdiff.datasets.phantoms.fields import smooth_phase
from invdiff.datasets.volume import Volume
from invdiff.errors import InputError, UnknownNameError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.mri.masks import (
    achieved_acceleration,
    equispaced_fraction_mask,
    gaussian_mask,
    poisson_disc_mask,
    random_mask,
)
from invdiff.operators.mri.sense import MRI
from invdiff.operators.mri.volumes import MRI3D
from invdiff.random import generator
from invdiff.simulation.case import COILS, MASK, NOISE, PHASE, Case, coordinates

__all__ = ["MASKS", "MRIScan", "bright", "simulate_mri"]

MASKS = ("equispaced", "random", "gaussian", "poisson")


@dataclass(frozen=True)
class MRIScan:
    """How to simulate.

    Attributes:
        coils: number of receive coils in a ring around the slices.
        acceleration: positions of k-space over those sampled.
        mask: columns that are "equispaced", "random" or "gaussian" (denser in the centre); or points, "poisson".
        centre: fraction of the columns in the middle that are all sampled.
        noise: standard deviation per real component of k-space, as a fraction of the bright tissue in the image (its
            0.99 quantile; the transform is orthonormal).
        phase: give the magnitudes of the truth a smooth phase; else they are real.
        volume: one acquisition in three dimensions, undersampled across the readout, instead of slices.
    """

    coils: int = 8
    acceleration: float = 4.0
    mask: str = "equispaced"
    centre: float = 0.08
    noise: float = 0.02
    phase: bool = True
    volume: bool = False


def bright(truth: Volume) -> float:
    """The 0.99 quantile of the magnitude. Raises InputError where it is zero."""
    values = np.abs(truth.values.reshape(-1)[:: 1 + truth.values.size // 2**22])
    found = float(np.quantile(values, 0.99))
    if not found > 0:
        raise InputError("the truth is zero nearly everywhere; an image was expected")
    return found


def simulate_mri(part: Volume, scan: MRIScan, slices: list[int], several: bool, seed: int, brightness: float) -> Case:
    """Simulate the given slices (their numbers in `slices`); see `invdiff.simulation.simulate`.

    The noise is relative to `brightness`, that of the whole volume, so that it is the same for each choice of slices.
    x is complex in the unit of the file. Coil maps are the same in each slice, and so is the mask.

    Raises:
        InputError, UnknownNameError: an option is out of range.
    """
    if scan.noise <= 0 or scan.coils < 1:
        raise InputError(f"noise is {scan.noise} and coils {scan.coils}; they expect numbers above 0")
    if part.units == "HU":
        raise InputError("the truth is in HU, which CT measures; simulate ct, or give images without that unit")
    truth = torch.from_numpy(part.values).to(torch.complex64)
    if scan.phase and not np.iscomplexobj(part.values):
        size = (truth.shape[-2], truth.shape[-1])
        if scan.volume:  # one smooth phase, not one a slice
            truth = torch.polar(truth.real, smooth_phase(generator(seed, PHASE), size))
        else:
            turns = torch.stack([smooth_phase(generator(seed, PHASE + k), size) for k in slices])
            truth = torch.polar(truth.real, turns)
    sigma = scan.noise * brightness
    maps = coil_maps(generator(seed, COILS), scan.coils, (truth.shape[-2], truth.shape[-1]))
    mask = _mask(scan, tuple(truth.shape), seed)
    x = truth[None, None] if scan.volume else truth[:, None]  # (problems, 1, [D,] H, W)
    operator: LinearOperator
    if scan.volume:
        operator = MRI3D(maps[:, None].expand(-1, len(truth), -1, -1), mask)
    else:
        operator = MRI(maps, mask)
    y = torch.cat(
        [_noisy(operator, x[i : i + 1], sigma, seed, slices[0] if scan.volume else slices[i]) for i in range(len(x))]
    )
    meta = {
        **part.attributes(), "modality": "mri", "simulated": 1, "seed": seed, "sigma": sigma, "slice": slices,
        "acceleration": achieved_acceleration(mask), "scan": json.dumps(asdict(scan)), "estimated": [],
    }  # fmt: skip
    batched = several and not scan.volume
    measurement = Measurement(
        y if batched else y[0],
        operator,
        Gaussian(sigma),
        coordinates(part, slices, several, scan.volume),
        meta,
        batched,
    )
    return Case(measurement, x, "ground truth", slices)


def _noisy(operator: LinearOperator, x: Tensor, sigma: float, seed: int, number: int) -> Tensor:
    clean = operator.forward(x)
    assert operator.range_mask is not None
    return Gaussian(sigma).sample(clean, generator(seed, NOISE + number)) * operator.range_mask


def _mask(scan: MRIScan, shape: tuple[int, ...], seed: int) -> Tensor:
    """Of columns ``(W,)`` or points ``(H, W)``; in three dimensions ``(D or 1, H, 1)``, the readout along rows."""
    depth, height, width = shape
    number = (seed + MASK) % 2**32
    if scan.mask not in MASKS:
        raise UnknownNameError(f"mask {scan.mask!r} is not known; there are {', '.join(MASKS)}")
    plane = (depth, height) if scan.volume else (height, width)
    middle = [max(1, round(n * scan.centre)) for n in plane]
    if scan.mask == "poisson" or (scan.mask == "gaussian" and scan.volume and depth > 1):
        points = poisson_disc_mask if scan.mask == "poisson" else gaussian_mask
        if scan.volume:  # thin slabs need a centre as well
            middle = [min(n, max(4, m)) for n, m in zip(plane, middle, strict=True)]
        mask = points(plane, scan.acceleration, (middle[0], middle[1]), seed=number)
    else:
        along = plane[1]
        if scan.mask == "gaussian":
            mask = gaussian_mask(along, scan.acceleration, middle[1], seed=number)
        else:
            columns = equispaced_fraction_mask if scan.mask == "equispaced" else random_mask
            mask = columns(along, scan.acceleration, scan.centre, seed=number)
        mask = mask[None] if scan.volume else mask
    return mask[..., None] if scan.volume else mask
