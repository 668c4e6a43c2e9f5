"""Spectral images ``(bands, H, W)``: broad-band response and coded-aperture snapshots.

Missing bands, stripes and dead lines are `invdiff.operators.imaging.inpainting.Inpainting`, whose mask is then
``(bands, H, W)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.operators.separable import Separable

__all__ = ["BandResponse", "CodedAperture", "normalised_response"]


class BandResponse(Separable):
    """``y_b = sum_l R_bl x_l``: what a sensor with broad bands sees of a finer spectrum, at every pixel.

    Args:
        response: R, ``(bands, wavelengths)``, used as it is: `normalised_response` makes means of it.
        shape: event shape of x, ``(wavelengths, *spatial)``.

    Raises:
        ShapeError: R does not fit the shape. InputError: it holds NaN or infinity.
    """

    def __init__(self, response: Tensor, shape: Sequence[int]) -> None:
        super().__init__([torch.as_tensor(response)], shape, [0])

    @classmethod
    def example(cls, rng: torch.Generator) -> BandResponse:
        """Build a random response of 3 bands to 7 wavelengths."""
        return cls(torch.rand(3, 7, generator=rng), (7, 4, 5))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"response": self.matrices[0], "shape": list(self.domain_shape)}


class CodedAperture(LinearOperator):
    """Single-disperser snapshot: each wavelength is masked, displaced by its dispersion, and all are summed.

    ``y(h, w) = sum_l m_l(h, w - s l) x_l(h, w - s l)`` with s pixels of dispersion a band; the data are
    ``(1, H, W + s (L - 1))``. Wagadarikar et al., Appl. Opt. 47 (2008). A voxel meets one pixel, so ``A A^H`` is
    diagonal and proximal steps are closed-form.

    Args:
        mask: transmission, ``(H, W)``, or ``(L, H, W)`` where it differs by wavelength.
        shape: event shape of x, ``(L, H, W)``.
        dispersion: s, whole pixels; 0 for none.

    Raises:
        ShapeError: mask and shape differ. InputError: the mask is not finite, or s is negative or not whole.
    """

    def __init__(self, mask: Tensor, shape: Sequence[int], dispersion: int = 1) -> None:
        mask, shape = torch.as_tensor(mask), tuple(int(n) for n in shape)
        mask = mask if mask.is_floating_point() else mask.to(torch.get_default_dtype())
        if len(shape) != 3 or tuple(mask.shape) not in (shape, shape[1:]):
            raise ShapeError(f"CodedAperture got a mask {tuple(mask.shape)} for events {shape}: (H, W) or (L, H, W)")
        if not bool(torch.isfinite(mask).all()) or dispersion != int(dispersion) or dispersion < 0:
            raise InputError(
                f"CodedAperture got dispersion {dispersion} or a mask that is not finite; whole pixels >= 0"
            )
        self.mask, self.dispersion = mask, int(dispersion)
        self.domain_shape = shape
        self.range_shape = (1, shape[1], shape[2] + self.dispersion * (shape[0] - 1))

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {"mask": self.mask}

    def _forward(self, x: Tensor) -> Tensor:
        return self._shear(x * self.mask.to(x.dtype))

    def _adjoint(self, y: Tensor) -> Tensor:
        bands, _, width = self.domain_shape
        parts = [y[:, 0, :, self.dispersion * i : self.dispersion * i + width] for i in range(bands)]
        return torch.stack(parts, 1) * self.mask.to(y.dtype)

    def row_energy(self) -> Tensor:
        return self._shear((self.mask**2).expand(self.domain_shape)[None])[0]

    def _shear(self, x: Tensor) -> Tensor:
        width, out = x.shape[-1], x.new_zeros(x.shape[0], *self.range_shape)
        for i in range(x.shape[1]):
            out[:, 0, :, self.dispersion * i : self.dispersion * i + width] += x[:, i]
        return out

    @classmethod
    def example(cls, rng: torch.Generator) -> CodedAperture:
        """Build a random mask of 4 x 5 pixels, three wavelengths, two pixels apart."""
        return cls(torch.rand(4, 5, generator=rng), (3, 4, 5), 2)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"mask": self.mask, "shape": list(self.domain_shape), "dispersion": self.dispersion}


def normalised_response(response: Tensor) -> Tensor:
    """The response with rows that sum to 1: each datum a weighted mean over wavelengths.

    Raises:
        InputError: a row sums to 0 or less.
    """
    total = torch.as_tensor(response).sum(-1, keepdim=True)
    if not bool((total > 0).all()):
        raise InputError("normalised_response got a band whose response does not sum to more than 0")
    return response / total
