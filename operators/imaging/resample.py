"""Coarser and finer grids: antialiased resampling, sampling every f-th pixel, and thick slices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator
from invdiff.operators.separable import Separable
from invdiff.operators.weights import kernel_matrix, known_method, profile_matrix

__all__ = ["Resample", "SliceProfile", "Strided"]


class Resample(Separable):
    """Resample ``(C, *spatial)`` to another size over the same extent (pixel edges coincide, not centres).

    Args:
        shape: event shape of x, ``(C, *spatial)``.
        size: new spatial size, one number an axis; smaller or larger.
        method: ``"area"`` (means over the new pixels), ``"bicubic"`` or ``"bilinear"`` (kernels widened where an axis
            is made shorter, as "antialias" does in image libraries).
        domain: ``"real"`` or ``"complex"``.

    Raises:
        ShapeError: size and shape differ in rank. InputError: a size is below 1, or the method is not known.
    """

    def __init__(
        self, shape: Sequence[int], size: Sequence[int], method: str = "bicubic", domain: str = "real"
    ) -> None:
        known_method(method)
        if len(size) != len(shape) - 1 or len(shape) < 2:
            raise ShapeError(f"Resample got size {tuple(size)} for events {tuple(shape)}; one number a spatial axis")
        if any(m < 1 for m in size):
            raise InputError(f"Resample got size {tuple(size)}; every length must be 1 or more")
        changed = [a for a in range(1, len(shape)) if shape[a] != size[a - 1]] or [len(shape) - 1]
        matrices = [kernel_matrix(shape[a], size[a - 1], method).float() for a in changed]
        super().__init__(matrices, shape, changed, domain)
        self.method = method

    def _factors(self) -> list[int] | None:
        """The whole number of pixels of each axis that an "area" mean is over; None where it is another operator."""
        pairs = list(zip(self.domain_shape, self.range_shape, strict=True))
        return [n // m for n, m in pairs] if self.method == "area" and all(n % m == 0 for n, m in pairs) else None

    def row_energy(self) -> float | None:
        factors = self._factors()
        return None if factors is None else 1 / math.prod(factors)

    def _damped(self, shift: float) -> Callable[[Tensor], Tensor]:
        rows = self.row_energy()
        return super()._damped(shift) if rows is None else lambda v: self._adjoint(v) / (rows + shift)

    def _damped_after(self, inner: LinearOperator, shift: float) -> Callable[[Tensor], Tensor] | None:
        factors = self._factors()
        return None if factors is None else _fold(self, inner, shift, factors[1:], mean=True)

    @classmethod
    def example(cls, rng: torch.Generator) -> Resample:
        """Build an antialiased bicubic reduction of 8 x 9 pixels to 4 x 12."""
        del rng
        return cls((2, 8, 9), (4, 12))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "shape": list(self.domain_shape),
            "size": list(self.range_shape[1:]),
            "method": self.method,
            "domain": self.domain,
        }


class Strided(LinearOperator):
    """``y[m] = x[f m + offset]``: every f-th pixel of each spatial axis, nothing averaged. ``A A^H`` is the identity.

    After a periodic `Blur` it makes the usual super-resolution operator, whose proximal step is closed-form
    (Zhao et al., IEEE Trans. Image Process. 25, 2016).

    Args:
        shape: event shape of x, ``(C, *spatial)``.
        factor: f, one number for all spatial axes or one each.
        offset: index of the first pixel kept, the same way.
        domain: ``"real"`` or ``"complex"``.

    Raises:
        InputError: a factor is below 1, or an offset is outside ``0 ... f - 1`` or the axis.
    """

    def __init__(
        self,
        shape: Sequence[int],
        factor: int | Sequence[int],
        offset: int | Sequence[int] = 0,
        domain: str = "real",
    ) -> None:
        rank = len(shape) - 1
        self.factor = (factor,) * rank if isinstance(factor, int) else tuple(factor)
        self.offset = (offset,) * rank if isinstance(offset, int) else tuple(offset)
        if len(self.factor) != rank or len(self.offset) != rank or rank < 1:
            raise ShapeError(
                f"Strided got factor {factor}, offset {offset} for events {tuple(shape)}: one a spatial axis"
            )
        if domain not in ("real", "complex"):
            raise InputError(f"Strided got domain {domain!r}; it expects 'real' or 'complex'")
        for f, o, n in zip(self.factor, self.offset, shape[1:], strict=True):
            if f < 1 or not 0 <= o < min(f, n):
                raise InputError(
                    f"Strided got factor {f}, offset {o} on {n} pixels; expected 0 <= offset < factor <= n"
                )
        self._kept: tuple[Any, ...] = (..., *(slice(o, None, f) for f, o in zip(self.factor, self.offset, strict=True)))
        self.domain_shape = tuple(int(n) for n in shape)
        lengths = (len(range(o, n, f)) for f, o, n in zip(self.factor, self.offset, shape[1:], strict=True))
        self.range_shape = (self.domain_shape[0], *lengths)
        self.domain = self.range = domain

    def _forward(self, x: Tensor) -> Tensor:
        return x[self._kept].contiguous()

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(y.shape[0], *self.domain_shape)
        x[self._kept] = y
        return x

    def row_energy(self) -> float:
        return 1.0

    def _damped_after(self, inner: LinearOperator, shift: float) -> Callable[[Tensor], Tensor] | None:
        return _fold(self, inner, shift, self.factor, mean=False)

    @classmethod
    def example(cls, rng: torch.Generator) -> Strided:
        """Build factors 2 and 3 on 7 x 6 pixels."""
        del rng
        return cls((2, 7, 6), (2, 3), (1, 0))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "shape": list(self.domain_shape),
            "factor": list(self.factor),
            "offset": list(self.offset),
            "domain": self.domain,
        }


class SliceProfile(Separable):
    """Thick slices of a volume ``(C, Z, *rest)``: means of x along z over each slice's profile.

    Args:
        shape: event shape of x.
        thickness: of a slice, in voxels along z (divide millimetres by the voxel's height).
        spacing: from centre to centre, in voxels: below the thickness slices overlap, above it they leave gaps; the
            thickness if not given.
        profile: ``"box"``, or ``"gaussian"`` with `thickness` its full width at half maximum.
        axis: axis of the event that is z.
        domain: ``"real"`` or ``"complex"``.

    As many slices as fit are centred in the volume.

    Raises:
        InputError: thickness or spacing is not above 0, a slice is thicker than the volume, or the profile not known.
    """

    def __init__(
        self,
        shape: Sequence[int],
        thickness: float,
        spacing: float | None = None,
        profile: str = "box",
        axis: int = 1,
        domain: str = "real",
    ) -> None:
        spacing, n = thickness if spacing is None else spacing, int(shape[axis])
        if not (0 < thickness <= n and 0 < spacing < math.inf):
            raise InputError(
                f"SliceProfile got thickness {thickness}, spacing {spacing} (voxels) for {n} voxels along axis {axis};"
                " expected 0 < thickness <= voxels and a spacing above 0"
            )
        if profile not in ("box", "gaussian"):
            raise InputError(f"SliceProfile got profile {profile!r}; it expects 'box' or 'gaussian'")
        count = 1 + math.floor((n - thickness) / spacing + 1e-9)
        centres = n / 2 + (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * spacing
        super().__init__([profile_matrix(n, centres, thickness, profile).float()], shape, [axis], domain)
        self.thickness, self.spacing, self.profile = float(thickness), float(spacing), profile

    @classmethod
    def example(cls, rng: torch.Generator) -> SliceProfile:
        """Build overlapping slices of 2.5 voxels, 2 apart, of 9 x 3 x 4 voxels."""
        del rng
        return cls((1, 9, 3, 4), 2.5, 2.0)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "shape": list(self.domain_shape),
            "thickness": self.thickness,
            "spacing": self.spacing,
            "profile": self.profile,
            "axis": self.axes[0],
            "domain": self.domain,
        }


def _fold(
    outer: LinearOperator, inner: LinearOperator, shift: float, factors: Sequence[int], mean: bool
) -> Callable[[Tensor], Tensor] | None:
    """Damped inverse of sampling after a periodic blur.

    ``A A^H`` is a convolution on the coarse grid; its transfer function is the mean of ``|H|^2`` over the f
    frequencies that alias to one (times the box's, where pixels are averaged).
    """
    from invdiff.operators.imaging.blur import Blur

    shape = inner.range_shape[1:]
    if (
        not isinstance(inner, Blur)
        or inner.boundary != "periodic"
        or any(n % f for n, f in zip(shape, factors, strict=True))
    ):
        return None
    power = inner.transfer().abs() ** 2
    split: list[int] = []
    for axis, (n, f) in enumerate(zip(shape, factors, strict=True)):
        split += [f, n // f]
        if mean:
            turns = torch.arange(n, dtype=torch.float64)[:, None] * torch.arange(f) / n
            box = torch.polar(torch.ones_like(turns), 2 * math.pi * turns).mean(1).abs() ** 2
            power = power * box.to(power).reshape(-1, *(1,) * (len(shape) - axis - 1))
    axes = tuple(range(-len(shape), 0))
    folded = power.reshape(power.shape[0], *split).mean(tuple(range(1, 2 * len(shape), 2)))

    def solve(v: Tensor) -> Tensor:
        filtered = torch.fft.ifftn(torch.fft.fftn(v, dim=axes) / (folded.to(v.real.dtype) + shift), dim=axes)
        return inner._adjoint(outer._adjoint(filtered if v.is_complex() else filtered.real))

    return solve
