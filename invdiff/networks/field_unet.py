"""A U-Net for fields on a latitude-longitude grid: seamless in longitude, right at the poles.

As `invdiff.networks.unet.UNet` (residual blocks modulated by log sigma, no normalisation), but every convolution takes
its neighbours from `invdiff.networks.sphere_padding`. Static fields, coordinates, time of day and of year come in as
further channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the community's name

from invdiff.errors import InputError
from invdiff.networks.sphere_padding import Rim, pad_sphere

__all__ = ["FieldUNet"]


class _Conv(nn.Conv2d):
    """A 3 x 3 convolution on the sphere, or on a limited area."""

    def forward(self, x: Tensor, rim: Rim, vectors: Sequence[bool] | None = None) -> Tensor:  # type: ignore[override]
        return super().forward(pad_sphere(x, rim, vectors))


class _Block(nn.Module):
    def __init__(self, channels: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.film = nn.Linear(embedding, 2 * channels)
        self.first, self.second = _Conv(channels, channels, 3), _Conv(channels, channels, 3)
        self.drop = nn.Dropout2d(dropout)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.normal_(self.second.weight, std=1e-3)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor, rim: Rim) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)
        h = torch.addcmul(shift, self.first(F.silu(x), rim), scale + 1)
        return x + self.second(self.drop(F.silu(h)), rim)


class FieldUNet(nn.Module):
    """Map fields ``(N, in_channels, rows, columns)`` and ``c_noise (N,)`` to ``(N, out_channels, rows, columns)``.

    The last layer starts at zero, so an untrained network returns 0.

    Args:
        in_channels, out_channels: of the fields.
        channels: width of each level, finest first.
        blocks: residual blocks per level on the way down and again on the way up.
        embedding: width of the sigma embedding.
        fold: side of the pixel-unshuffle block; 1 where the grid reaches a pole.
        dropout: share of the feature maps left out in training.
        rim: of the grid, as `Rim`'s fields.
        vectors: which input channels are components of a vector; none if not given.

    Raises:
        InputError: fold is above 1 on a grid that reaches a pole. On a grid that goes round, a call with a number of
            longitudes that ``fold 2^(levels - 1)`` does not divide.
    """

    frequencies: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (48, 64),
        blocks: int = 2,
        embedding: int = 64,
        fold: int = 1,
        dropout: float = 0.0,
        rim: Rim | Sequence[bool | str] = (False, "none", "none"),
        vectors: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        self.rim = rim if isinstance(rim, Rim) else Rim(*rim)  # type: ignore[arg-type]
        if fold > 1 and (self.rim.first, self.rim.last) != ("none", "none"):
            raise InputError(f"FieldUNet got fold = {fold} on a grid that reaches a pole; expected 1")
        self.fold, self.levels, self.vectors = fold, len(channels), vectors
        self.embed = nn.Sequential(nn.Linear(32, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.register_buffer("frequencies", torch.exp(torch.linspace(0.0, math.log(60.0), 16)) * 0.5, persistent=False)
        self.enter = _Conv(in_channels * fold * fold, channels[0], 3)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, c in enumerate(channels):
            self.down.append(nn.ModuleList(_Block(c, embedding, dropout) for _ in range(blocks)))
            if i + 1 < len(channels):
                self.shrink.append(nn.Conv2d(c, channels[i + 1], 2, stride=2))
                self.grow.append(nn.ConvTranspose2d(channels[i + 1], c, 2, stride=2))
                self.up.append(nn.ModuleList(_Block(c, embedding, dropout) for _ in range(blocks)))
        self.leave = _Conv(channels[0], out_channels * fold * fold, 3)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return the raw network output F."""
        h, w = x.shape[-2:]
        multiple = self.fold * 2 ** (self.levels - 1)
        rows, columns = -h % multiple, -w % multiple
        if columns and self.rim.round:
            raise InputError(f"FieldUNet got {w} longitudes all the way round; {multiple} must divide them")
        if rows:
            x = pad_sphere(x, self.rim, self.vectors, 0, rows)
        if columns:
            x = F.pad(x, (0, columns, 0, 0), mode="replicate")
        angles = c_noise[:, None] * self.frequencies
        e = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        rims = [self.rim if not rows else Rim(self.rim.round, self.rim.first, "none")]
        for _ in range(self.levels - 1):
            rims.append(rims[-1].coarser())
        vectors = self.vectors if self.fold == 1 else None
        x = self.enter(F.pixel_unshuffle(x, self.fold), rims[0], vectors)
        skips = []
        for i, level in enumerate(self.down):
            for block in level:  # type: ignore[attr-defined]
                x = block(x, e, rims[i])
            if i + 1 < self.levels:
                skips.append(x)
                x = self.shrink[i](x)
        for i in reversed(range(self.levels - 1)):
            x = self.grow[i](x) + skips[i]
            for block in self.up[i]:  # type: ignore[attr-defined]
                x = block(x, e, rims[i])
        x = F.pixel_shuffle(self.leave(F.silu(x), rims[0]), self.fold)
        return x[..., :h, :w]
