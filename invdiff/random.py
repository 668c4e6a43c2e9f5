"""One seed, many independent streams: every draw has a generator of its own, derived from (seed, index).

Because draw number 7 takes its numbers from stream 7 whatever else is computed beside it, splitting the draws into
chunks does not change them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError

__all__ = ["Streams", "generator"]

_MASK = (1 << 64) - 1


def _mix(z: int) -> int:
    """Scatter the bits of a 64-bit integer (splitmix64), so that neighbouring seeds give unrelated streams."""
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def generator(seed: int, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of stream `index` under `seed` (any integers, 0 included)."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"seed is {seed!r}; it expects an integer")
    return torch.Generator(device=device).manual_seed(_mix(_mix(seed & _MASK) ^ (index & _MASK)) >> 1)


class Streams:
    """The generators of a chunk of draws; row n of what they return comes from stream ``indices[n]``."""

    def __init__(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generators = [generator(seed, i, device) for i in indices]

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers, per real component, of the shape, dtype and device of `like` ``(N, ...)``."""
        out = torch.empty_like(like, memory_format=torch.contiguous_format)
        real = torch.view_as_real(out) if out.is_complex() else out
        for row, g in zip(real, self.generators, strict=True):
            torch.randn(row.shape, generator=g, out=row)
        return out

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of the shape of the real tensor `like` ``(N, ...)``."""
        out = torch.empty_like(like, memory_format=torch.contiguous_format)
        for row, g in zip(out, self.generators, strict=True):
            torch.rand(row.shape, generator=g, out=row)
        return out

    def state(self) -> list[Tensor]:
        """Return the generators' states, to be saved in a checkpoint."""
        return [g.get_state() for g in self.generators]

    def restore(self, states: Sequence[Tensor]) -> None:
        """Go on from states that `state` returned."""
        for g, s in zip(self.generators, states, strict=True):
            g.set_state(s)
