"""Patches for training, cut from a pool of procedural images; patch k of a run depends on (seed, k) alone."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from invdiff.training.config import DataConfig

__all__ = ["PatchStream", "make_pool"]


def make_pool(data: DataConfig, seed: int, count: int, cache: Path) -> Tensor:
    """Return `count` magnitude images ``(count, size, size)`` float16, made once and kept in the cache folder."""
    from safetensors.torch import load_file, save_file

    from invdiff.datasets.phantoms import pool

    recipe = f"v1 {seed} {count} {data.size} {'-'.join(data.kinds)}"
    path = cache / f"pool-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.safetensors"
    if not path.is_file():
        images = pool(seed, count, data.size, tuple(data.kinds))
        images = _band_limit(images, seed)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, suffix=".part", delete=False) as part:
            save_file({"images": images}, part.name)
        os.replace(part.name, path)
    return load_file(path)["images"]


def _band_limit(images: Tensor, seed: int) -> Tensor:
    """Give about half of the images the point-spread function of a finite k-space (an elliptical shutter)."""
    size = images.shape[-1]
    f = torch.fft.fftfreq(size) * 2
    out = images.clone()
    for i in range(images.shape[0]):
        rng = torch.Generator().manual_seed(seed * 1_000_003 + i)
        u = torch.rand(4, generator=rng)
        if u[0] < 0.5:
            continue
        ry, rx = 0.6 + 0.5 * u[1], 0.6 + 0.5 * u[2]
        radius = ((f[:, None] / ry) ** 2 + (f[None, :] / rx) ** 2).sqrt()
        edge = 0.005 + 0.15 * u[3] ** 2
        window = torch.sigmoid((1 - radius) / edge)
        out[i] = torch.fft.ifft2(torch.fft.fft2(images[i].float()) * window).real.half()
    return out


class PatchStream:
    """Batches of patches ``(n, channels, patch, patch)``: random crop, zoom, flip, scale and (complex) phase."""

    def __init__(self, images: Tensor, patch: int, domain: str, seed: int) -> None:
        self.images, self.patch, self.domain, self.seed = images, patch, domain, seed

    def batch(self, step: int, n: int) -> Tensor:
        """Return batch number `step`; the same for the same (seed, step, n) on every machine."""
        from invdiff.datasets.phantoms import smooth_phase

        rng = torch.Generator().manual_seed(self.seed * 1_000_000_007 + step)
        count, size = self.images.shape[0], self.images.shape[-1]
        out = torch.empty(n, self.patch, self.patch)
        which = torch.randint(count, (n,), generator=rng).tolist()
        u = torch.rand(n, 6, generator=rng).tolist()
        for i in range(n):
            side = self.patch * (2 if u[i][0] < 0.5 and 2 * self.patch <= size else 1)
            crop = self._crop(which[i], side, u[i][1], u[i][2], rng)
            if side > self.patch:
                crop = torch.nn.functional.avg_pool2d(crop[None], 2)[0]
            if u[i][3] < 0.5:
                crop = crop.flip(1)
            crop = torch.rot90(crop, int(u[i][4] * 4))
            out[i] = crop * (0.35 + 1.0 * u[i][5])
        if self.domain == "real":
            return out[:, None]
        phase = smooth_phase(rng, (n, self.patch, self.patch))
        return torch.stack([out * phase.cos(), out * phase.sin()], 1)

    def _crop(self, which: int, side: int, down: float, right: float, rng: torch.Generator) -> Tensor:
        """Cut a square; one that shows only background is drawn again, twice at most."""
        room = self.images.shape[-1] - side + 1
        for attempt in range(3):
            top, left = int(down * room), int(right * room)
            crop = self.images[which, top : top + side, left : left + side].float()
            if attempt == 2 or float(crop.std()) > 0.03:
                break
            down, right = torch.rand(2, generator=rng).tolist()
        return crop
