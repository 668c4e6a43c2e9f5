"""Training patches from image files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.priors.adapters.network import positions
from invdiff.random import generator
from invdiff.training.data_config import ImagesConfig
from invdiff.training.image_files import Images, find_images
from invdiff.training.source import Batch

__all__ = ["ImageSource", "relative"]

_HELD_OUT = 1 << 40  # batches of held-out data have numbers that training never reaches


def relative(values: Tensor, quantile: float = 0.99, value: float = 0.8) -> Tensor:
    """Scale images so that the quantile of their magnitude is `value`, as priors in relative units expect."""
    size = values.abs().flatten().float()
    size = size[:: max(1, size.numel() // 2**22)]
    return values * (value / float(torch.quantile(size, quantile)))


class ImageSource:
    """Patches ``(n, C, patch, patch)`` of slices drawn at random, each slice as likely as any other.

    Complex images of a real prior are taken by their magnitude; real images of a complex prior have phase 0.
    Whole files are held out; of a single file, the last slices.

    Raises:
        ShapeError: images are smaller than the patch. InputError: too little data to hold any of it out.
    """

    def __init__(self, config: ImagesConfig, domain: str, seed: int) -> None:
        found, _ = find_images(config.paths)
        self.config, self.domain, self.seed = config, domain, seed
        self.channels, self.conditions = (2 if domain == "complex" else 1), (2 if config.position else 0)
        self.card: dict[str, Any] = {"units": {"kind": "relative", "quantile": 0.99, "value": 0.8}}
        if config.factor is not None:
            self.card = {"units": None, "affine": {"shift": config.shift, "factor": config.factor}}
        if config.position:
            self.card["condition"] = {"kind": "position"}
        slices = [[self._prepared(image, s) for s in self._scaled(image)] for image in found]
        if len(slices) > 1:
            count = max(1, round(config.held_out * len(slices)))
            self.training, self.rest = sum(slices[:-count], []), sum(slices[-count:], [])
        else:
            count = max(1, round(config.held_out * len(slices[0])))
            self.training, self.rest = slices[0][:-count], slices[0][-count:]
        if not self.training:
            raise InputError(f"data.paths holds {len(self.rest)} slice(s); at least 2 are needed to hold one out")

    def batch(self, step: int, n: int) -> Batch:
        """Training batch number `step`."""
        return self._draw(self.training, step, n)

    def held_out(self, step: int, n: int) -> Batch:
        """The same from the files (slices) that are held out."""
        return self._draw(self.rest, _HELD_OUT + step, n)

    def _scaled(self, image: Images) -> Tensor:
        if self.config.factor is None:
            return relative(image.values)
        return (image.values - self.config.shift) / self.config.factor

    def _prepared(self, image: Images, values: Tensor) -> Tensor:
        """One slice as real channels ``(C, rows, columns)``."""
        if min(values.shape) < self.config.patch:
            raise ShapeError(f"{image.name} has slices {tuple(values.shape)}; data.patch {self.config.patch} is larger")
        if self.domain == "complex":
            return torch.view_as_real(values.to(torch.complex64)).permute(2, 0, 1).contiguous()
        return (values.abs() if values.is_complex() else values)[None].float()

    def _draw(self, slices: list[Tensor], number: int, n: int) -> Batch:
        rng = generator(self.seed, number)
        which = torch.randint(len(slices), (n,), generator=rng).tolist()
        u = torch.rand(n, 4, generator=rng).tolist()
        patch, position = self.config.patch, self.config.position
        x, where = torch.empty(n, self.channels, patch, patch), torch.empty(n, 2, patch, patch)
        for i in range(n):
            image = slices[which[i]]
            top, left = (int(v * (size - patch + 1)) for v, size in zip(u[i][:2], image.shape[1:], strict=True))
            crop = image[:, top : top + patch, left : left + patch]
            if position:
                where[i] = positions(image.shape[1:])[:, top : top + patch, left : left + patch]
            elif self.config.flips:
                crop = torch.rot90(crop.flip(2) if u[i][2] < 0.5 else crop, int(u[i][3] * 4), (1, 2))
            x[i] = crop
        return Batch(x, where if position else None)
