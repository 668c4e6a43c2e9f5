"""Multi-coil Cartesian MRI (SENSE) on complex images.

``y_c = M F sum_e s_{e,c} x_e`` for coils c and sets of maps e (one set is the usual case; several make soft-SENSE):
M keeps the sampled positions of k-space and F is the centred orthonormal transform of `invdiff.operators.fourier`.
Pruessmann et al., Magn. Reson. Med. 42 (1999); Uecker et al., Magn. Reson. Med. 71 (2014) for several sets.

How it is made fast. The cost is memory traffic more than arithmetic, so:

- F is a plain FFT between two phase ramps; they and the scale are multiplied into the maps and the mask once.
- Only forward FFTs are used, ``F^H v = conj(F conj(v))``; between the two of ``A^H A`` the conjugation costs nothing
  because it is part of the multiplication by the mask, and the maps are needed unconjugated only.
- A mask that depends on one axis only (phase encoding) commutes with the unitary FFT along the other, which
  therefore cancels from ``A^H A``: 1-D transforms suffice.
- Work is cut into pieces (images, coils, or lines that do not mix) small enough to stay in the cache.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.fourier import ramp

__all__ = ["MRI"]

# Bytes of coil images worked on at a time. CPU: a few such buffers share the last-level cache, and blocks this small
# are recycled by the allocator rather than mapped afresh. Elsewhere it only bounds the memory.
_PIECE = {"cpu": 4 << 20}
_PIECE_ELSEWHERE = 1 << 30


class MRI(LinearOperator):
    """Cartesian multi-coil acquisition: complex images ``(N, sets, H, W)`` to k-space ``(N, coils, H, W)``.

    Args:
        coil_maps: complex sensitivities, ``(coils, H, W)``, ``(problems, coils, H, W)`` or
            ``(problems, sets, coils, H, W)``; kept in the last form as `coil_maps`.
        mask: sampled positions of k-space (centre at ``n // 2``), boolean, or 0 and 1: ``(W,)`` for whole columns, or
            ``(H, W)`` or ``(problems, H, W)`` where any length may be 1; kept with three axes as `mask`.

    With one problem the operator applies to any number of images. With P > 1 (in maps, mask or both) image i belongs
    to problem i, so N must be P. k-space stays on its full grid, zero where nothing was sampled. Where all maps are
    zero (cropped, outside the object) x is zero by convention: `support` says so to whoever solves for x.

    Raises:
        ShapeError: the rank of an argument is wrong, or mask and maps differ in size or number of problems.
        DTypeError: the maps are not complex, or the mask is neither boolean nor numeric.
        InputError: the maps hold NaN or infinity, the mask holds other values than 0 and 1, or samples nothing.
    """

    domain = range = "complex"

    def __init__(self, coil_maps: Tensor, mask: Tensor) -> None:
        self.coil_maps = _canonical_maps(coil_maps)
        self.mask = _canonical_mask(mask, self.coil_maps)
        self._refresh()

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"coil_maps": self.coil_maps, "mask": self.mask}

    def _refresh(self) -> None:
        maps, mask = self.coil_maps, self.mask.to(self.coil_maps.device)
        _, sets, coils, height, width = maps.shape
        self.mask, self.n_problems = mask, max(maps.shape[0], mask.shape[0])
        self.domain_shape, self.range_shape = (sets, height, width), (coils, height, width)
        # One mask for all problems broadcasts to an event, different ones to the batch.
        self.range_mask = mask if mask.shape[0] == 1 else mask[:, None]
        seen = maps.abs().sum(2) > 0  # where all maps are zero no datum tells of x, which is zero there by convention
        self.support = None if bool(seen.all()) else seen[0] if len(seen) == 1 else seen
        self._fraction = float(mask.float().mean())

        ramps = ramp(height)[:, None] * ramp(width)
        centre = cmath.exp(-2j * math.pi * ((height // 2) ** 2 / height + (width // 2) ** 2 / width))
        shape = (mask.shape[0], height, width)
        folded = maps * (ramps / math.sqrt(height * width)).to(maps)
        weight = mask.expand(shape) * (ramps * centre).to(maps)
        # The transform of `_normal` runs along the last axis, so a mask of whole rows is worked on transposed.
        self._turned = mask.shape[-1] == 1 and mask.shape[-2] > 1
        self._one_axis = self._turned or mask.shape[-2] == 1
        if self._turned:
            mask, folded, weight = mask.mT, folded.mT.contiguous(), weight.mT
        # Unnormalised FFTs along one axis of length n are short of the other's factor, which the mask makes up for.
        scale = folded.shape[-2] if self._one_axis else 1
        keep = mask.expand(-1, -1, folded.shape[-1]).to(maps.real.dtype) * scale
        self._maps = folded
        self._weight = weight.contiguous()
        self._keep_conj = torch.stack([keep, -keep], -1).flatten(-2)  # times (re, im) pairs: mask and conjugate

    def _forward(self, x: Tensor) -> Tensor:
        maps, x = self._maps.to(x.dtype), self._turn(x)
        y = x.new_empty(x.shape[0], *self.range_shape)
        for n, p, c in self._pieces(x, axis=-3):
            z = torch.fft.fft2(_coil_images(_at(maps, p)[:, :, c], x[n]))
            torch.mul(z, _at(self._weight, p)[:, None], out=self._turn_view(y)[n, c])
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        maps, weight, y = self._maps.to(y.dtype), self._weight.to(y.dtype).conj().resolve_conj(), self._turn_view(y)
        out = y.new_empty(y.shape[0], *self._maps.shape[1:2], *self._maps.shape[-2:])
        for n, p, c in self._pieces(out, axis=-3):
            z = torch.empty_like(y[n, c], memory_format=torch.contiguous_format)  # y is a transposed view if turned
            torch.mul(y[n, c], _at(weight, p)[:, None], out=z)
            z = torch.fft.fft2(torch.conj_physical(z, out=z))
            _combine(_at(maps, p)[:, :, c], z, out[n], add=c.start > 0)
        return self._turn(torch.conj_physical(out, out=out))

    def _normal(self, x: Tensor) -> Tensor:
        maps, keep, x = self._maps.to(x.dtype), self._keep_conj, self._turn(x)
        fft = torch.fft.fft if self._one_axis else torch.fft.fft2
        out = torch.empty_like(x)
        for n, p, part in self._pieces(x, axis=-2 if self._one_axis else -3):
            lines, c = (part, slice(None)) if self._one_axis else (slice(None), part)
            s = _at(maps, p)[:, :, c, lines]
            z = fft(_coil_images(s, x[n][:, :, lines]))
            torch.view_as_real(z).flatten(-2).mul_(_at(keep, p)[:, None])
            _combine(s, fft(z), out[n][:, :, lines], add=not self._one_axis and c.start > 0)
        return self._turn(torch.conj_physical(out, out=out))

    def _turn_view(self, x: Tensor) -> Tensor:
        return x.mT if self._turned else x

    def _turn(self, x: Tensor) -> Tensor:
        return self._turn_view(x).contiguous()

    def _pieces(self, x: Tensor, axis: int) -> Iterator[tuple[slice, slice, slice]]:
        """Cut the coil images of a batch x into (images, their problems, part of `axis` of the maps)."""
        length, total = self._maps.shape[axis], math.prod(self._maps.shape[-3:])
        fit = _PIECE.get(x.device.type, _PIECE_ELSEWHERE) * length // (total * x.element_size())
        block = x.shape[0] if self.n_problems == 1 else self.n_problems
        for first in range(0, x.shape[0], block):
            for p in _spans(block, max(1, fit // length)):
                for part in _spans(length, max(1, min(fit, length))):
                    yield slice(first + p.start, first + p.stop), p, part

    def take(self, problems: Sequence[int]) -> MRI:
        """Return the operator of the given problems, in that order; itself where all problems share it."""
        if self.n_problems == 1:
            return self
        if not problems or not all(0 <= i < self.n_problems for i in problems):
            raise InputError(f"{self!r}.take got {list(problems)}; it expects numbers from 0 to {self.n_problems - 1}")
        index = torch.as_tensor(list(problems), device=self.coil_maps.device)
        return MRI(*(b if b.shape[0] == 1 else b[index] for b in (self.coil_maps, self.mask)))

    @classmethod
    def example(cls, rng: torch.Generator) -> MRI:
        """Build two sets of maps, three coils, 5 x 6 pixels and an arbitrary mask."""
        maps = torch.randn(1, 2, 3, 5, 6, generator=rng, dtype=torch.complex64)
        mask = torch.rand(5, 6, generator=rng) < 0.5
        mask[2, 3] = True
        return cls(maps, mask)

    def state(self) -> dict[str, Any]:
        """Return ``{"coil_maps": (problems, sets, coils, H, W), "mask": (problems, H, W)}``, lengths 1 where shared."""
        return {"coil_maps": self.coil_maps, "mask": self.mask}

    def __repr__(self) -> str:
        several = f", {self.n_problems} problems" if self.n_problems > 1 else ""
        return f"{super().__repr__()[:-1]}, {100 * self._fraction:.3g} % sampled{several}]"


def _at(tensor: Tensor, problems: slice) -> Tensor:
    """Entries of the given problems; the one entry where it is shared."""
    return tensor if tensor.shape[0] == 1 else tensor[problems]


def _coil_images(s: Tensor, x: Tensor) -> Tensor:
    """``sum_e s_{e,c} x_e``: maps (p, sets, coils, H, W) and images (n, sets, H, W) to (n, coils, H, W)."""
    z = s[:, 0] * x[:, 0, None]
    for e in range(1, x.shape[1]):
        z.addcmul_(s[:, e], x[:, e, None])
    return z


def _combine(s: Tensor, z: Tensor, out: Tensor, add: bool) -> None:
    """``out_e = sum_c s_{e,c} z_c``, or add to it: (p, sets, coils, H, W), (n, coils, H, W) to (n, sets, H, W)."""
    for e in range(out.shape[1]):
        product = z.mul_(s[:, e]) if e == out.shape[1] - 1 else z * s[:, e]
        if add:
            out[:, e] += product.sum(1)
        else:
            torch.sum(product, 1, out=out[:, e])


def _spans(total: int, size: int) -> Iterator[slice]:
    """Cut range(total) into slices of nearly equal length, at most `size`."""
    count = -(-total // size)
    for i in range(count):
        yield slice(total * i // count, total * (i + 1) // count)


def _canonical_maps(maps: Tensor) -> Tensor:
    maps = torch.as_tensor(maps)
    if not 3 <= maps.ndim <= 5 or 0 in maps.shape:
        raise ShapeError(
            f"MRI got coil_maps of shape {tuple(maps.shape)}; it expects (coils, H, W), (problems, coils, H, W) or"
            " (problems, sets, coils, H, W)"
        )
    if not maps.is_complex():
        raise DTypeError(f"MRI got coil_maps of {maps.dtype}; it expects complex: use coil_maps.to(torch.complex64)")
    if not bool(torch.isfinite(torch.view_as_real(maps)).all()):
        raise InputError("MRI got coil_maps that hold NaN or infinity; set unusable pixels to zero")
    maps = maps.contiguous()  # the products and FFTs inherit their layout
    return maps[None, None] if maps.ndim == 3 else maps[:, None] if maps.ndim == 4 else maps


def _canonical_mask(mask: Tensor, maps: Tensor) -> Tensor:
    mask = torch.as_tensor(mask)
    problems, (height, width) = maps.shape[0], maps.shape[-2:]
    given = tuple(mask.shape)
    if not 1 <= mask.ndim <= 3:
        raise ShapeError(f"MRI got a mask of shape {given}; it expects (W,), (H, W) or (problems, H, W)")
    mask = mask.reshape(*(1,) * (3 - mask.ndim), *given)
    fits = all(n in (1, full) for n, full in zip(mask.shape[1:], (height, width), strict=True))
    if not fits or (1 not in (mask.shape[0], problems) and mask.shape[0] != problems) or mask.shape[0] == 0:
        raise ShapeError(
            f"MRI got a mask of shape {given} for coil_maps of shape {tuple(maps.shape)} (problems, sets, coils, H,"
            f" W); it expects ({width},), ({height}, {width}) or (problems, {height}, {width}), any of them 1"
        )
    if mask.dtype != torch.bool:
        if mask.is_complex() or not bool(((mask == 0) | (mask == 1)).all()):
            raise InputError(f"MRI got a mask of {mask.dtype} with other values than 0 and 1; it expects booleans")
        mask = mask != 0
    if not bool(mask.flatten(1).any(1).all()):
        raise InputError("MRI got a mask that is false everywhere; at least one position of k-space must be sampled")
    return _shrink(mask, height, width)


def _shrink(mask: Tensor, height: int, width: int) -> Tensor:
    """Keep one row of a mask whose rows are equal, and one column where columns are, so 1-D masks are seen as such."""
    if mask.shape[-2] == height and bool((mask == mask[:, :1]).all()):
        mask = mask[:, :1]
    elif mask.shape[-1] == width and bool((mask == mask[:, :, :1]).all()):
        mask = mask[:, :, :1]
    return mask.contiguous()
