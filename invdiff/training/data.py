"""Patches for training, cut from a pool of procedural images; patch k of a run depends on (seed, k) alone."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.training.data_config import DataConfig
from invdiff.training.source import Batch

__all__ = ["PatchStream", "PhantomSource", "make_pool"]

_FAR = 7919  # between the seeds of the images that are trained on and those that are held out


def make_pool(data: DataConfig, seed: int, count: int, cache: Path) -> list[Tensor]:
    """Return, for each size, `count` magnitude images ``(count, size, size)`` float16, kept in the cache folder."""
    return [_make(data, size, seed, count, cache) for size in data.sizes]


def _make(data: DataConfig, size: int, seed: int, count: int, cache: Path) -> Tensor:
    from safetensors.torch import load_file, save_file

    from invdiff.datasets.phantoms import pool

    recipe = f"v1 {seed} {count} {size} {'-'.join(data.kinds)}"
    path = cache / f"pool-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.safetensors"
    if not path.is_file():
        images = pool(seed, count, size, tuple(data.kinds), workers=None if count > 64 else 0)  # processes start slowly
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


class PhantomSource:
    """Patches of procedural images as training wants them: see `PatchStream` and `invdiff.training.source`."""

    def __init__(self, data: DataConfig, domain: str, seed: int, cache: Path) -> None:
        self.domain, self.channels, self.conditions = domain, (2 if domain == "complex" else 1), 2 * data.position
        relative = {"kind": "relative", "quantile": 0.99, "value": 0.8}
        self.card: dict[str, Any] = {"units": {"kind": "HU", "water": data.water} if data.water else relative}
        if data.position:
            self.card["condition"] = {"kind": "position"}
        seen = make_pool(data, data.seed, data.pool, cache)
        rest = make_pool(data, data.seed + _FAR, max(8, data.pool // 50), cache)
        self.streams = [
            PatchStream(images, data.patch, domain, start, data.texture, data.position, data.water is None)
            for images, start in ((seen, seed), (rest, 1))
        ]

    def batch(self, step: int, n: int) -> Batch:
        """Training batch number `step`."""
        return Batch(*self.streams[0].with_positions(step, n))

    def held_out(self, step: int, n: int) -> Batch:
        """Patches of images that are never trained on."""
        return Batch(*self.streams[1].with_positions(step, n))


class PatchStream:
    """Batches of patches ``(n, channels, patch, patch)``: random crop, zoom, flip, scale, grain and (complex) phase.

    Grain is a random field, white to pink, that multiplies the image: tissue is not as smooth as a drawing, and a
    prior that believes it is gives draws that are too certain. Complex images have a little of it across the phase.

    Where `position` is on, patches are cut upright at the images' own scale, so that their place means something;
    where `scaled` is off, grey values stay what they are, for images in an absolute unit.
    """

    def __init__(
        self,
        images: list[Tensor],
        patch: int,
        domain: str,
        seed: int,
        texture: float = 0.1,
        position: bool = False,
        scaled: bool = True,
    ) -> None:
        self.images, self.patch, self.domain, self.seed, self.texture = images, patch, domain, seed, texture
        self.position, self.scaled = position, scaled

    def batch(self, step: int, n: int) -> Tensor:
        """Return batch number `step`; the same for the same (seed, step, n) on every machine."""
        return self.with_positions(step, n)[0]

    def with_positions(self, step: int, n: int) -> tuple[Tensor, Tensor | None]:
        """The batch, and where its pixels lie in their images ``(n, 2, patch, patch)`` if `position` is on."""
        from invdiff.datasets.phantoms import smooth_phase

        rng = torch.Generator().manual_seed(self.seed * 1_000_000_007 + step)
        out = torch.empty(n, self.patch, self.patch)
        pools = torch.randint(len(self.images), (n,), generator=rng).tolist()
        which = torch.randint(min(map(len, self.images)), (n,), generator=rng).tolist()
        u = torch.rand(n, 6, generator=rng).tolist()
        where = torch.empty(n, 2, self.patch, self.patch) if self.position else None
        for i in range(n):
            image = self.images[pools[i]][which[i]]
            if where is not None:
                crop, where[i] = _placed(image.float(), self.patch, u[i][1], u[i][2])
                out[i] = crop * self._gain(u[i][5])
                continue
            crop = self._zoomed(image, u[i][0], u[i][1], u[i][2], rng)
            if u[i][3] < 0.5:
                crop = crop.flip(1)
            crop = torch.rot90(crop, int(u[i][4] * 4))
            out[i] = crop * self._gain(u[i][5])
        strength = self.texture * torch.rand(n, 1, 1, generator=rng) ** 2
        bright = out
        out = out * (1 + strength * _grain(rng, n, self.patch))
        if self.domain == "real":
            return out[:, None], where
        across = 0.3 * strength * bright * _grain(rng, n, self.patch)
        phase = smooth_phase(rng, (n, self.patch, self.patch))
        cos, sin = phase.cos(), phase.sin()
        return torch.stack([out * cos - across * sin, out * sin + across * cos], 1), where

    def _gain(self, u: float) -> float:
        return 0.35 + u if self.scaled else 1.0

    def _zoomed(self, image: Tensor, how: float, down: float, right: float, rng: torch.Generator) -> Tensor:
        """A patch at the images' own scale, at half of it by averaging, or by keeping the inner half of k-space."""
        size, patch = image.shape[-1], self.patch
        rim = patch // 8
        if how < 0.3 or 2 * (patch + 2 * rim) > size:
            return _crop(image, patch, down, right, rng)
        if how < 0.55:
            return torch.nn.functional.avg_pool2d(_crop(image, 2 * patch, down, right, rng)[None], 2)[0]
        side = patch + 2 * rim  # what wraps around stays in the rim
        k = torch.fft.fftshift(torch.fft.fft2(_crop(image, 2 * side, down, right, rng)))
        k = k[side // 2 : side // 2 + side, side // 2 : side // 2 + side]
        return torch.fft.ifft2(torch.fft.ifftshift(k)).real[rim : rim + patch, rim : rim + patch] / 4


def _placed(image: Tensor, side: int, down: float, right: float) -> tuple[Tensor, Tensor]:
    """Cut a square, and the coordinates of its pixels in the image."""
    from invdiff.priors.adapters.network import positions

    room = image.shape[-1] - side + 1
    rows, columns = (slice(int(v * room), int(v * room) + side) for v in (down, right))
    return image[rows, columns], positions(tuple(image.shape))[:, rows, columns]


def _crop(image: Tensor, side: int, down: float, right: float, rng: torch.Generator) -> Tensor:
    """Cut a square; one that shows only background is drawn again, twice at most."""
    room = image.shape[-1] - side + 1
    for attempt in range(3):
        top, left = int(down * room), int(right * room)
        crop = image[top : top + side, left : left + side].float()
        if attempt == 2 or float(crop.std()) > 0.03:
            break
        down, right = torch.rand(2, generator=rng).tolist()
    return crop


def _grain(rng: torch.Generator, n: int, side: int) -> Tensor:
    """Unit-variance Gaussian fields with power ``|f|^-2b``, b between 0 (white) and 1, shape ``(n, side, side)``."""
    f = torch.fft.fftfreq(side)[:, None] ** 2 + torch.fft.rfftfreq(side)[None] ** 2
    f[0, 0] = f[0, 1]
    slope = torch.rand(n, 1, 1, generator=rng)
    white = torch.randn(n, side, side, generator=rng)
    field = torch.fft.irfft2(torch.fft.rfft2(white) * f ** (-slope / 2), s=(side, side))
    return field / field.std((1, 2), keepdim=True)
