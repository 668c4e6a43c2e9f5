"""Boundaries of a convolution by FFT: how an image is extended, and where the result stands on the grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["Frame", "frame"]


@dataclass(frozen=True)
class Frame:
    """How an image is put on the grid of the FFT, and where the result is found on it."""

    periodic: bool
    mirror: tuple[Tensor, ...]  # of each axis, the pixels that make the extended image; empty if not extended
    grid: tuple[int, ...]
    start: tuple[int, ...]
    out: tuple[int, ...]
    inside: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.grid), 0))

    def on(self, device: torch.device) -> Frame:
        """The same on a device."""
        return replace(self, mirror=tuple(index.to(device) for index in self.mirror))

    def extend(self, x: Tensor) -> Tensor:
        """The image with its mirror images, where there are any."""
        for axis, index in zip(self.axes, self.mirror, strict=False):
            x = x.index_select(axis, index)
        return x

    def fold(self, x: Tensor) -> Tensor:
        """Adjoint of `extend` after the zeros up to the grid: mirror images are added to what they mirror."""
        for axis, n in zip(self.axes, self.inside, strict=True):
            if not self.mirror:
                x = x.narrow(axis, 0, n)
                continue
            index = self.mirror[axis]  # axes are negative
            shape = list(x.shape)
            shape[axis] = n
            x = x.new_zeros(shape).index_add_(axis, index, x.narrow(axis, 0, len(index)))
        return x.contiguous()

    def crop(self, y: Tensor) -> Tensor:
        """The data, cut out of the grid."""
        return y[self._window()].contiguous()

    def embed(self, y: Tensor) -> Tensor:
        """Adjoint of `crop`."""
        if self.periodic:
            return y
        full = y.new_zeros(*y.shape[: y.ndim - len(self.grid)], *self.grid)
        full[self._window()] = y
        return full

    def _window(self) -> tuple[Any, ...]:
        return (..., *(slice(a, a + m) for a, m in zip(self.start, self.out, strict=True)))


def frame(space: tuple[int, ...], size: tuple[int, ...], centre: tuple[int, ...], boundary: str) -> Frame:
    """The frame of an image of `space` pixels for a kernel of `size` pixels about `centre`."""
    axes = list(zip(space, size, centre, strict=True))
    zeros = tuple(0 for _ in space)
    if boundary == "periodic":
        return Frame(True, (), space, zeros, space, space)
    if boundary == "zero":  # wrapped-around values reach only what is cropped
        grid = tuple(_fast(n + max(c, k - 1 - c)) for n, k, c in axes)
        return Frame(False, (), grid, centre, space, space)
    start = tuple(k - 1 for k in size)
    if boundary == "valid":
        out = tuple(n - k + 1 for n, k, _ in axes)
        return Frame(False, (), tuple(_fast(n) for n in space), start, out, space)
    mirror = tuple(_mirror(n, k - 1 - c, c) for n, k, c in axes)
    return Frame(False, mirror, tuple(_fast(n + k - 1) for n, k, _ in axes), start, space, space)


def _mirror(n: int, before: int, after: int) -> Tensor:
    """Indices of an axis mirrored about the centres of its edge pixels."""
    position = torch.arange(-before, n + after).abs()
    return torch.where(position < n, position, 2 * (n - 1) - position).abs()


def _fast(n: int) -> int:
    """The next length with no prime factor above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
