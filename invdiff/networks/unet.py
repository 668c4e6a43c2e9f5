"""A plain convolutional U-Net for denoising: attention-free, sigma-conditioned, any image size.

The image can be folded by pixel-unshuffle (2 x 2 pixels to channels) so that wide convolutions run on a quarter of
the positions. Every residual block is modulated by an embedding of log sigma (FiLM). There is no normalisation layer:
statistics taken over the whole image would tie what the network does to the size it was trained at.

After equal training time a small unfolded network denoises better at every sigma than a wide folded one
(benchmarks/results/backbones.json); what is shipped is the former with one more level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the community's name

__all__ = ["UNet"]


class _Block(nn.Module):
    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.film = nn.Linear(embedding, 2 * channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.normal_(self.second.weight, std=1e-3)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)
        h = self.first(F.silu(x))
        h = torch.addcmul(shift, h, scale + 1)
        return x + self.second(F.silu(h))


class UNet(nn.Module):
    """Map ``(N, in_channels, H, W)`` and ``c_noise (N,)`` to ``(N, out_channels, H, W)``, any H and W.

    Args:
        in_channels: channels of the input image.
        out_channels: channels of the output.
        channels: width of each level, finest first.
        blocks: residual blocks per level on the way down and again on the way up.
        embedding: width of the sigma embedding.
        fold: side of the pixel-unshuffle block (1 = none).
    """

    frequencies: Tensor

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 2,
        channels: Sequence[int] = (64, 96, 128),
        blocks: int = 2,
        embedding: int = 128,
        fold: int = 2,
    ) -> None:
        super().__init__()
        self.fold, self.levels = fold, len(channels)
        width = embedding
        self.embed = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.register_buffer("frequencies", torch.exp(torch.linspace(0.0, math.log(60.0), 16)) * 0.5, persistent=False)
        self.enter = nn.Conv2d(in_channels * fold * fold, channels[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, c in enumerate(channels):
            self.down.append(nn.ModuleList(_Block(c, width) for _ in range(blocks)))
            if i + 1 < len(channels):
                self.shrink.append(nn.Conv2d(c, channels[i + 1], 2, stride=2))
                self.grow.append(nn.ConvTranspose2d(channels[i + 1], c, 2, stride=2))
                self.up.append(nn.ModuleList(_Block(c, width) for _ in range(blocks)))
        self.leave = nn.Conv2d(channels[0], out_channels * fold * fold, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return the raw network output F; x need not have sides divisible by anything (reflected at the rim)."""
        h, w = x.shape[-2:]
        multiple = self.fold * 2 ** (self.levels - 1)
        pad_h, pad_w = -h % multiple, -w % multiple
        if pad_h or pad_w:
            mode = "reflect" if pad_h < h and pad_w < w else "replicate"
            x = F.pad(x, (0, pad_w, 0, pad_h), mode=mode)
        angles = c_noise[:, None] * self.frequencies
        e = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        x = self._entered(F.pixel_unshuffle(x, self.fold))
        skips = []
        for i, level in enumerate(self.down):
            for block in level:  # type: ignore[attr-defined]
                x = block(x, e)
            if i + 1 < self.levels:
                skips.append(x)
                x = self.shrink[i](x)
        for i in reversed(range(self.levels - 1)):
            x = self.grow[i](x) + skips[i]
            for block in self.up[i]:  # type: ignore[attr-defined]
                x = block(x, e)
        x = F.pixel_shuffle(self.leave(F.silu(x)), self.fold)
        return x[..., :h, :w]

    def _entered(self, x: Tensor) -> Tensor:
        """The first convolution in full precision also under autocast: x rounded to 8 bits would be x with noise."""
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            out: Tensor = self.enter(x)
            return out
        with torch.autocast(device, enabled=False):
            out = self.enter(x)
        return out.to(torch.get_autocast_dtype(device))
