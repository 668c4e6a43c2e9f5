"""What Cartesian acquisitions of volumes and of series share: coils, a mask, FFTs along the spatial axes.

``y_c = M F sum_e s_{e,c} x_e`` on a grid whose last axes are spatial and whose first may be time, which F leaves
alone. As in the plane (`invdiff.operators.mri.sense`) F is a plain FFT between phase ramps, and axes that the mask
does not depend on cancel from ``A^H A``. Maps of a volume are large, so they are not copied: the ramps go to the one
image instead of the many coil images, coils are worked on one by one, and ``A^H A`` slab by slab along an axis that
cancels.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.fourier import ramp
from invdiff.operators.mri.coil_maps import seen

__all__ = ["Cartesian", "canonical_mask"]

_PIECE = 4 << 20  # bytes of a slab of one coil image in `_normal`


class Cartesian(LinearOperator):
    """The arithmetic, for `coil_maps` ``(problems, sets, coils, *grid)`` and `mask` ``(problems, *grid)``.

    Subclasses set both, and `dims`, the number of spatial axes; lengths 1 of the mask, and of the maps along time,
    stand for all. A grid is ``(D, H, W)``, ``(T, H, W)`` or ``(T, D, H, W)``.
    """

    domain = range = "complex"
    coil_maps: Tensor
    mask: Tensor
    dims: int

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"coil_maps": self.coil_maps, "mask": self.mask}

    def _refresh(self) -> None:
        maps, mask = self.coil_maps, self.mask
        self.n_problems = max(len(maps), len(mask))
        grid = tuple(max(n, full) for n, full in zip(mask.shape[1:], maps.shape[3:], strict=True))
        self.domain_shape, self.range_shape = (maps.shape[1], *grid), (maps.shape[2], *grid)
        self.range_mask = mask if len(mask) == 1 else mask[:, None]
        self.support = seen(maps)
        rank = len(grid)
        self._axes = tuple(range(-self.dims, 0))
        self._active = tuple(a for a in self._axes if mask.shape[a] > 1)
        self._idle = next((a for a in range(-rank, 0) if a not in self._active and grid[a] > 1), None)
        spatial = grid[-self.dims :]
        centre = cmath.exp(-2j * math.pi * sum((n // 2) ** 2 / n for n in spatial)) / math.sqrt(math.prod(spatial))
        # Of each axis the ramp on the image, and on k-space the same; the rest of the constant goes to the latter.
        self._ramps = [_along(ramp(n).to(maps), a, self.dims) for a, n in zip(self._axes, spatial, strict=True)]
        self._weight = centre * math.prod(self._ramps[1:], start=self._ramps[0])

    def _forward(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), *self.range_shape)
        x = self._ramped(x, self._axes)
        for n, p in self._problems(len(x)):
            weight = self._weight.to(x) * _at(self.mask, p)[:, None]
            for c in range(self.range_shape[0]):
                z = torch.fft.fftn(self._coil_image(p, c, x[n]), dim=self._axes)
                torch.mul(z, weight[:, 0], out=y[n, c])
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        out = y.new_zeros(len(y), *self.domain_shape)
        for n, p in self._problems(len(y)):
            weight = self._weight.to(y).conj() * _at(self.mask, p)
            for c in range(self.range_shape[0]):
                z = torch.fft.ifftn(y[n, c] * weight, dim=self._axes, norm="forward")
                out[n].add_(_at(self.coil_maps, p)[:, :, c].to(y).conj() * z[:, None])
        return self._ramped(out, self._axes, back=True)

    def _normal(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        x = self._ramped(x, self._active)
        for n, p in self._problems(len(x)):
            for slab in self._slabs(x[n]):
                mask = _narrow(_at(self.mask, p), self._idle, slab)
                part, target = _narrow(x[n], self._idle, slab), _narrow(out[n], self._idle, slab)
                for c in range(self.range_shape[0]):
                    s = _narrow(_at(self.coil_maps, p)[:, :, c], self._idle, slab).to(x)
                    z = (s * part).sum(1)
                    if self._active:
                        z = torch.fft.ifftn(torch.fft.fftn(z, dim=self._active).mul_(mask), dim=self._active)
                    else:
                        z = z * mask
                    target.add_(s.conj() * z[:, None])
        return self._ramped(out, self._active, back=True)

    def _coil_image(self, p: slice, c: int, x: Tensor) -> Tensor:
        return (_at(self.coil_maps, p)[:, :, c].to(x) * x).sum(1)

    def _ramped(self, x: Tensor, axes: Sequence[int], back: bool = False) -> Tensor:
        for a in axes:
            factor = self._ramps[a].to(x)
            x = x * (factor.conj() if back else factor)
        return x

    def _problems(self, count: int) -> Iterator[tuple[slice, slice]]:
        """Cut a batch into (images, their problems): one by one, so that temporaries stay small."""
        for i in range(count):
            p = i % self.n_problems
            yield slice(i, i + 1), slice(p, p + 1)

    def _slabs(self, x: Tensor) -> Iterator[slice]:
        length = 1 if self._idle is None else x.shape[self._idle]
        size = max(1, _PIECE * length // (x[0, 0].numel() * x.element_size()))
        for start in range(0, length, size):
            yield slice(start, min(start + size, length))

    def take(self, problems: Sequence[int]) -> Cartesian:
        """Return the operator of the given problems, in that order; itself where all problems share it."""
        import copy

        if self.n_problems == 1:
            return self
        if not problems or not all(0 <= i < self.n_problems for i in problems):
            raise InputError(f"{self!r}.take got {list(problems)}; it expects numbers from 0 to {self.n_problems - 1}")
        out = copy.copy(self)
        index = torch.as_tensor(list(problems), device=self.coil_maps.device)
        out.coil_maps, out.mask = (b if len(b) == 1 else b[index] for b in (self.coil_maps, self.mask))
        out._refresh()
        return out

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments, with lengths 1 where something is shared."""
        return {"coil_maps": self.coil_maps, "mask": self.mask}


def canonical_mask(mask: Tensor, maps: Tensor, axes: Sequence[str], least: int, name: str) -> Tensor:
    """Check a mask and return it as boolean ``(problems, *grid)`` on the device of the maps, equal entries as one.

    Args:
        mask: with at least `least` axes, the last of ``(problems, *grid)``; any length may be 1.
        maps: canonical, ``(problems, sets, coils, *grid)``; a length 1 of theirs leaves that of the mask free.
        axes: names of the axes of the grid.
        least: number of axes that must be given.
        name: the operator's.

    Raises:
        ShapeError: it does not fit. InputError: it holds other values than 0 and 1, or samples nothing.
    """
    mask, given = torch.as_tensor(mask), tuple(torch.as_tensor(mask).shape)
    rank, grid = len(axes), tuple(maps.shape[3:])
    mask = mask.reshape(*(1,) * max(0, rank + 1 - mask.ndim), *given)
    fits = least <= len(given) <= rank + 1 and 0 not in given
    fits = fits and all(n in (1, full) or full == 1 for n, full in zip(mask.shape[1:], grid, strict=True))
    if not fits or (len(mask) != len(maps) and 1 not in (len(mask), len(maps))):
        raise ShapeError(
            f"{name} got a mask of shape {given} for coil_maps of shape {tuple(maps.shape)}; it expects the last"
            f" {least} or more axes of (problems, {', '.join(axes)}), any of them 1"
        )
    if mask.dtype != torch.bool:
        if mask.is_complex() or not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(f"{name} got a mask of {mask.dtype} with other values than 0 and 1; it expects booleans")
        mask = mask != 0
    if not bool(mask.flatten(1).any(1).all()):
        raise InputError(f"{name} got a mask that is false everywhere; at least one position must be sampled")
    for axis in range(1, mask.ndim):  # the grid's length is known from the maps, so equal entries need but one
        if grid[axis - 1] > 1 and bool((mask == mask.narrow(axis, 0, 1)).all()):
            mask = mask.narrow(axis, 0, 1)
    return mask.contiguous().to(maps.device)


def _along(values: Tensor, axis: int, dims: int) -> Tensor:
    shape = [1] * dims
    shape[axis] = -1
    return values.reshape(shape)


def _at(tensor: Tensor, problems: slice) -> Tensor:
    return tensor if len(tensor) == 1 else tensor[problems]


def _narrow(tensor: Tensor, axis: int | None, part: slice) -> Tensor:
    """A part of an axis, where it is not shared."""
    if axis is None or tensor.shape[axis] == 1:
        return tensor
    return tensor.narrow(axis, part.start, part.stop - part.start)
