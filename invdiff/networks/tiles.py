"""A network on tiles of a field that is too large for it at once: each with a halo, which is then cut off."""

from __future__ import annotations

from torch import Tensor, nn

from invdiff.errors import InputError
from invdiff.networks.field_unet import FieldUNet
from invdiff.networks.sphere_padding import Rim, pad_sphere

__all__ = ["Tiled", "tile_for"]


class Tiled(nn.Module):
    """What a `FieldUNet` says of a field, tile by tile: ``(N, C, rows, columns)`` to the same as the network alone.

    The field is padded by the halo over seam and poles; every tile is seen with a halo of its neighbours' values. Where
    the halo is as wide as the network looks, the result is the network's own, except near an edge of the grid, which
    the network repeats layer by layer and the tiles once. A narrower halo leaves small steps between tiles in what is
    denoised, the same for all draws: the noise that makes the spread belongs to the whole field and is never blended,
    so the spread does not shrink where tiles meet, as it would if draws of tiles were averaged.

    Args:
        network: the network; its weights are used as they are.
        tile: rows and columns of a tile. halo: of its rim; both are multiples of ``fold 2^(levels - 1)``.

    Raises:
        InputError: they are not.
    """

    def __init__(self, network: FieldUNet, tile: int = 128, halo: int = 32) -> None:
        super().__init__()
        multiple = network.fold * 2 ** (network.levels - 1)
        if tile < multiple or halo < 0 or tile % multiple or halo % multiple:
            raise InputError(f"Tiled got tile = {tile}, halo = {halo}; expected multiples of {multiple}")
        self.network, self.tile, self.halo = network, tile, halo

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return the raw network output F."""
        rows, columns = x.shape[-2:]
        wide = pad_sphere(x, self.network.rim, self.network.vectors, self.halo)
        out: Tensor | None = None
        whole, self.network.rim = self.network.rim, Rim()
        try:
            for top in range(0, rows, self.tile):
                for left in range(0, columns, self.tile):
                    high, across = min(self.tile, rows - top), min(self.tile, columns - left)
                    part = wide[..., top : top + high + 2 * self.halo, left : left + across + 2 * self.halo]
                    seen = self.network(part, c_noise)[..., self.halo : self.halo + high, self.halo :][..., :across]
                    out = x.new_empty(len(x), seen.shape[1], rows, columns, dtype=seen.dtype) if out is None else out
                    out[..., top : top + high, left : left + across] = seen
        finally:
            self.network.rim = whole
        assert out is not None
        return out


def tile_for(network: FieldUNet, memory: int, rows: int, columns: int) -> int | None:
    """The side of tiles that fit `memory` bytes for one field, None where the whole field does.

    A level's blocks keep about four feature maps of its width at once.
    """
    width = network.enter.out_channels / network.fold**2
    per_point = 4 * (6 * width + network.enter.in_channels / network.fold**2)
    if per_point * rows * columns <= memory:
        return None
    multiple = network.fold * 2 ** (network.levels - 1)
    side = int((memory / per_point) ** 0.5) // multiple * multiple
    return max(side, 4 * multiple)
