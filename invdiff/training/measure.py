"""How well priors denoise images of a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from invdiff.priors.base import Hounsfield, Prior, Units
from invdiff.training.image_files import find_images
from invdiff.training.images import relative
from invdiff.training.validate import VALIDATION_SIGMAS, psnr_by_sigma

__all__ = ["as_event", "denoising_table", "slices_of"]

Denoise = Callable[[Tensor, Tensor], Tensor]


def slices_of(
    path: str | Path,
    per_file: int = 3,
    largest: int = 256,
    units: Units | Hounsfield | None = None,
    water: float | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """A few slices ``(n, rows, columns)`` of every image file in a folder, by name, in a prior's unit.

    Slices are evenly spaced within a volume and cut to the central `largest` pixels. Their 99 % magnitude becomes 0.8,
    Hounsfield units first ``HU + 1024``, not below 0: what priors of non-negative images can be asked about. For a
    prior in Hounsfield units there are the files in this unit alone, and those without a unit if `water` says its
    value in them (air being 0).

    Raises FileError, FormatError where the folder holds no image.
    """
    found, _ = find_images([path])
    for image in found:
        if isinstance(units, Hounsfield):
            if image.units != "HU" and (image.units or water is None or image.values.is_complex()):
                continue
            values = units.water * (
                1 + image.values / 1000 if image.units == "HU" else image.values / float(water or 1)
            )
        else:
            values = (image.values + 1024).clamp_min(0) if image.units == "HU" else image.values
        picked = torch.linspace(0.25, 0.75, per_file).mul(len(values) - 1).round().long().unique()
        chosen = values[picked]
        top, left = (max(0, (n - largest) // 2) for n in chosen.shape[1:])
        chosen = chosen[:, top : top + largest, left : left + largest]
        if float(chosen.abs().max()) > 0 and min(chosen.shape[1:]) >= 16:
            yield image.name, chosen.float() if isinstance(units, Hounsfield) else relative(chosen)


def as_event(images: Tensor, domain: str) -> Tensor:
    """Slices ``(n, rows, columns)`` as a prior's events ``(n, 1, rows, columns)``: magnitude, or complex of phase 0."""
    if domain == "complex":
        return images.to(torch.complex64)[:, None]
    return (images.abs() if images.is_complex() else images)[:, None].float()


def denoising_table(
    prior: Prior | Denoise,
    images: Iterable[tuple[str, Tensor]],
    domain: str,
    sigmas: Sequence[float] = VALIDATION_SIGMAS,
) -> dict[str, dict[str, float]]:
    """PSNR in dB (peak 1, per real component) by file and sigma, and under "mean" the mean over files."""
    denoise = prior.denoise if isinstance(prior, Prior) else prior
    table = {name: psnr_by_sigma(denoise, as_event(x, domain), tuple(sigmas)) for name, x in images}
    table["mean"] = {str(s): round(math.fsum(row[str(s)] for row in table.values()) / len(table), 3) for s in sigmas}
    return table
