"""What lies beyond the rim of a latitude-longitude grid: the other side of the seam, the other side of the pole.

Going north from the last row one comes down on the opposite meridian: the row beyond a pole is the last row, or the
one before it where the last row is the pole itself, turned by half the longitudes. The components of a vector have the
opposite sign there, because east and north have turned round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the community's name

from invdiff.errors import InputError

__all__ = ["Rim", "pad_sphere", "rim_of"]


@dataclass(frozen=True)
class Rim:
    """What is beyond the four sides of a grid.

    Attributes:
        round: whether the longitudes go all the way round.
        first, last: of the first and last row: ``"none"`` (an edge), ``"between"`` (the pole is half a row beyond) or
            ``"on"`` (the row is the pole).
    """

    round: bool = False
    first: str = "none"
    last: str = "none"

    def coarser(self) -> Rim:
        """The rim after rows are joined in pairs: the pole is then beyond the last row."""
        first, last = ("between" if end != "none" else "none" for end in (self.first, self.last))
        return Rim(self.round, first, last)


def rim_of(latitude: Sequence[float], longitude: Sequence[float]) -> Rim:
    """The rim of a grid, from its coordinates in degrees (in either order).

    A pole counts as beyond the last row where that is within three quarters of a row's spacing of it, and only on a
    grid that goes all the way round.

    Raises:
        InputError: an odd number of longitudes has no opposite meridians, where a pole is within reach.
    """
    lon = torch.as_tensor(longitude, dtype=torch.float64).remainder(360).sort().values
    gaps = torch.diff(lon, append=lon[:1] + 360)
    round_ = len(lon) > 1 and float(gaps.max()) <= 1.01 * float(gaps.median())
    if not round_ or len(latitude) < 2:
        return Rim(round_)

    def end(edge: float, inner: float) -> str:
        gap, step = 90 - abs(edge), abs(edge - inner)
        return "on" if gap < 1e-3 * step else "between" if gap < 0.75 * step else "none"

    ends = end(latitude[0], latitude[1]), end(latitude[-1], latitude[-2])
    if ends != ("none", "none") and len(lon) % 2:
        raise InputError(
            f"a grid that reaches a pole has {len(lon)} longitudes; opposite meridians need an even number"
        )
    return Rim(True, *ends)


def pad_sphere(x: Tensor, rim: Rim, vectors: Sequence[bool] | None = None, width: int = 1, more: int = 0) -> Tensor:
    """Fields ``(N, C, rows, columns)`` with `width` rows and columns more on each side.

    Args:
        rim: what is there; beyond an edge the outermost value is repeated.
        vectors: which of the channels are components of a vector; none if not given.
        more: further rows at the end.
    """
    top, bottom = _beyond(x, rim.first, width, vectors, True), _beyond(x, rim.last, width + more, vectors, False)
    x = torch.cat([part for part in (top, x, bottom) if part is not None], 2)
    lacking = (width if top is None else 0, width + more if bottom is None else 0)
    if any(lacking):
        x = F.pad(x, (0, 0, *lacking), mode="replicate")
    return F.pad(x, (width, width, 0, 0), mode="circular" if rim.round else "replicate") if width else x


def _beyond(x: Tensor, end: str, width: int, vectors: Sequence[bool] | None, first: bool) -> Tensor | None:
    if end == "none" or not width:
        return None
    start = 1 if end == "on" else 0
    rows = x[:, :, start : start + width] if first else x[:, :, x.shape[2] - start - width : x.shape[2] - start]
    rows = rows.flip(2).roll(x.shape[3] // 2, 3)
    if vectors is not None and any(vectors):
        rows = rows * torch.tensor([-1.0 if v else 1.0 for v in vectors], device=x.device).to(x)[:, None, None]
    return rows
