"""Convolution with a point spread function, the same everywhere or varying over the field, in any dimension.

``y(p) = sum_q k(q) x(p - q + c)`` with c the centre of the kernel: a convolution, so a point at p becomes the kernel
about p. What x is outside the image is the `boundary`:

==============  ==================================================================================
``"periodic"``  it repeats; ``A^H A`` is then diagonal in Fourier space and proximal steps are exact
``"reflect"``   it is mirrored about the centre of the edge pixel, which is not repeated (d c b | a b c d)
``"zero"``      it is zero
``"valid"``     unknown: only data that need none of it are returned, ``n - k + 1`` of them an axis
==============  ==================================================================================

One real FFT and its inverse make a blur (one complex pair for complex images); a sum of R kernels takes R + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.imaging.frame import frame

__all__ = ["Blur", "SpaceVariantBlur"]

_BOUNDARIES = ("periodic", "reflect", "zero", "valid")


class _Convolution(LinearOperator):
    """What the two blurs share: kernels ``(R, *k)``, their transfer functions and the frame that they are used in."""

    kernel: Tensor

    def _prepare(self, shape: Sequence[int], boundary: str, centre: Sequence[int] | None, domain: str) -> None:
        name, kernel = type(self).__name__, self.kernel
        self.domain_shape, self.boundary = tuple(int(n) for n in shape), boundary
        self.domain = self.range = domain
        if boundary not in _BOUNDARIES:
            raise InputError(f"{name} got boundary {boundary!r}; it expects {', '.join(map(repr, _BOUNDARIES))}")
        if domain not in ("real", "complex") or (kernel.is_complex() and domain == "real"):
            raise InputError(
                f"{name} got domain {domain!r} and a kernel of {kernel.dtype}; expected 'real' or 'complex'"
            )
        if not bool(torch.isfinite(kernel).all()):
            raise InputError(f"{name} got a kernel that holds NaN or infinity; every entry must be finite")
        size, space = tuple(kernel.shape[1:]), self.domain_shape[1:]
        if any(k > n for k, n in zip(size, space, strict=True)):
            raise InputError(f"{name} got a kernel of {size} pixels for an image of {space}: crop the kernel")
        if centre is None and any(k % 2 == 0 for k in size):
            raise InputError(
                f"{name} got a kernel of {size} pixels: an even length has no central pixel; give centre=(index, ...)"
            )
        self.centre = tuple(k // 2 for k in size) if centre is None else tuple(int(c) for c in centre)
        if len(self.centre) != len(size) or any(not 0 <= c < k for c, k in zip(self.centre, size, strict=True)):
            raise InputError(f"{name} got centre {self.centre}; it expects an index into a kernel of {size} pixels")
        self._frame = frame(space, size, self.centre, boundary)
        self.range_shape = (self.domain_shape[0], *self._frame.out)
        self._refresh()

    def _refresh(self) -> None:
        self._frame = self._frame.on(self.kernel.device)
        self._transfer = self.transfer(half=self.domain == "real")

    def transfer(self, half: bool = False) -> Tensor:
        """Discrete Fourier transform of the kernels on the grid of the FFT, ``(R, *grid)``, zero frequency first."""
        grid, axes = self._frame.grid, self._frame.axes
        padded = self.kernel.new_zeros(self.kernel.shape[0], *grid)
        padded[(slice(None), *(slice(0, k) for k in self.kernel.shape[1:]))] = self.kernel
        if self._frame.periodic:
            padded = padded.roll([-c for c in self.centre], axes)
        return torch.fft.rfftn(padded, dim=axes) if half else torch.fft.fftn(padded, dim=axes)

    def _spectrum(self, x: Tensor) -> Tensor:
        fft = torch.fft.fftn if x.is_complex() else torch.fft.rfftn
        return fft(x, s=self._frame.grid, dim=self._frame.axes)

    def _image(self, spectrum: Tensor) -> Tensor:
        inverse = torch.fft.ifftn if self.domain == "complex" else torch.fft.irfftn
        return inverse(spectrum, s=self._frame.grid, dim=self._frame.axes)


class Blur(_Convolution):
    """The same kernel everywhere: ``y = k * x`` for each channel.

    Args:
        kernel: point spread function, ``(*k)`` for all channels or ``(C, *k)``; 1, 2 or 3 spatial axes. It is used as
            it is: a sum of 1 keeps the mean. `invdiff.operators.imaging.psf` makes the usual ones.
        shape: event shape of x, ``(C, *spatial)``.
        boundary: see above.
        centre: index of the kernel that stays in place; ``k // 2`` if not given, which needs odd lengths.
        domain: ``"real"`` or ``"complex"`` images; a complex kernel needs the latter.

    Raises:
        ShapeError: kernel and shape differ in rank or channels. InputError: the kernel is larger than the image, has
            an even length and no centre given, or holds NaN; the boundary is not known.
    """

    def __init__(
        self,
        kernel: Tensor,
        shape: Sequence[int],
        boundary: str = "periodic",
        centre: Sequence[int] | None = None,
        domain: str = "real",
    ) -> None:
        kernel = _float(kernel)
        if kernel.ndim == len(shape) - 1:
            kernel = kernel[None]
        if kernel.ndim != len(shape) or len(shape) < 2 or kernel.shape[0] not in (1, shape[0]):
            raise ShapeError(
                f"Blur got a kernel of shape {tuple(kernel.shape)} for events {tuple(shape)}; it expects one axis for"
                f" each of {tuple(shape[1:])}, and before them one of length {shape[0]} for a kernel a channel"
            )
        self.kernel = kernel
        self._prepare(shape, boundary, centre, domain)

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"kernel": self.kernel}

    def _forward(self, x: Tensor) -> Tensor:
        transfer = self._transfer.to(x.dtype.to_complex())
        return self._frame.crop(self._filtered(self._frame.extend(x), transfer))

    def _adjoint(self, y: Tensor) -> Tensor:
        transfer = self._transfer.to(y.dtype.to_complex()).conj()
        return self._frame.fold(self._filtered(self._frame.embed(y), transfer))

    def _normal(self, x: Tensor) -> Tensor:
        if not self._frame.periodic:
            return super()._normal(x)
        power = (self._transfer.real**2 + self._transfer.imag**2).to(x.real.dtype)
        return self._filtered(x, power)

    def _filtered(self, x: Tensor, gain: Tensor) -> Tensor:
        return self._image(self._spectrum(x).mul_(gain))

    def _damped(self, shift: float) -> Callable[[Tensor], Tensor] | None:
        if not self._frame.periodic:
            return None
        gain = self._transfer.conj() / (self._transfer.real**2 + self._transfer.imag**2 + shift)
        return lambda v: self._image(self._spectrum(v) * gain.to(v.dtype.to_complex()))

    def norm(self, iterations: int = 30, seed: int = 0) -> float:
        """Largest singular value: the largest gain of any frequency where periodic, else by Lanczos iteration."""
        return float(self._transfer.abs().max()) if self._frame.periodic else super().norm(iterations, seed)

    @classmethod
    def example(cls, rng: torch.Generator) -> Blur:
        """Build an asymmetric 3 x 5 kernel for each of two channels of 8 x 9 pixels, mirrored at the edges."""
        return cls(torch.rand(2, 3, 5, generator=rng), (2, 8, 9), "reflect")

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "kernel": self.kernel,
            "shape": list(self.domain_shape),
            "boundary": self.boundary,
            "centre": list(self.centre),
            "domain": self.domain,
        }


class SpaceVariantBlur(_Convolution):
    """A point spread function that varies over the field: ``y = sum_r k_r * (w_r x)``.

    A point at p becomes ``sum_r w_r(p) k_r`` about p, so weights that sum to 1 interpolate between kernels measured
    at several places (`invdiff.operators.imaging.psf.tile_weights`), and few components make do for many kernels
    (`invdiff.operators.imaging.psf.compress`). Denis et al., Int. J. Comput. Vis. 115 (2015).

    Args:
        kernels: k_r, ``(R, *k)``.
        weights: w_r, ``(R, *spatial)``.
        shape: event shape of x, ``(C, *spatial)``; all channels alike.
        boundary, centre, domain: as for `Blur`.

    Raises:
        ShapeError, InputError: as for `Blur`; or the weights do not fit.
    """

    def __init__(
        self,
        kernels: Tensor,
        weights: Tensor,
        shape: Sequence[int],
        boundary: str = "periodic",
        centre: Sequence[int] | None = None,
        domain: str = "real",
    ) -> None:
        kernels, weights = _float(kernels), _float(weights)
        if kernels.ndim != len(shape) or tuple(weights.shape) != (kernels.shape[0], *shape[1:]):
            raise ShapeError(
                f"SpaceVariantBlur got kernels {tuple(kernels.shape)} and weights {tuple(weights.shape)} for events"
                f" {tuple(shape)}; it expects (R, *kernel) and (R, {', '.join(map(str, shape[1:]))})"
            )
        if weights.is_complex() or not bool(torch.isfinite(weights).all()):
            raise InputError("SpaceVariantBlur got weights that are not real and finite")
        self.kernel, self.weights = kernels, weights
        self._prepare(shape, boundary, centre, domain)

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"kernel": self.kernel, "weights": self.weights}

    def _forward(self, x: Tensor) -> Tensor:
        parts = (  # one at a time: R images at once would not stay in the cache
            self._spectrum(self._frame.extend(x * w.to(x.real.dtype))).mul_(t.to(x.dtype.to_complex()))
            for w, t in zip(self.weights, self._transfer, strict=True)
        )
        return self._frame.crop(self._image(reduce(Tensor.add_, parts)))

    def _adjoint(self, y: Tensor) -> Tensor:
        out = y.new_zeros(y.shape[0], *self.domain_shape)
        spectrum = self._spectrum(self._frame.embed(y))
        for weight, transfer in zip(self.weights, self._transfer, strict=True):
            back = self._frame.fold(self._image(spectrum * transfer.to(spectrum.dtype).conj()))
            out.addcmul_(back, weight.to(y.dtype).expand_as(back))
        return out

    @classmethod
    def example(cls, rng: torch.Generator) -> SpaceVariantBlur:
        """Build three 3 x 3 kernels with random weights on 8 x 7 pixels."""
        return cls(torch.rand(3, 3, 3, generator=rng), torch.rand(3, 8, 7, generator=rng), (1, 8, 7), "zero")

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "kernels": self.kernel,
            "weights": self.weights,
            "shape": list(self.domain_shape),
            "boundary": self.boundary,
            "centre": list(self.centre),
            "domain": self.domain,
        }


def _float(values: Tensor) -> Tensor:
    values = torch.as_tensor(values)
    known = values.is_floating_point() or values.is_complex()
    return values if known else values.to(torch.get_default_dtype())
