"""The centred, orthonormal Fourier transform of the last two axes, the convention of every MRI file and operator here.

``k[u, v] = (H W)^(-1/2) sum_{a, b} x[a, b] exp(-2 pi i ((u - H//2)(a - H//2) / H + (v - W//2)(b - W//2) / W))``:
the centre of the image and of k-space is entry ``n // 2`` of an axis of length n, even or odd. It is fastMRI's
``fft2c`` on complex tensors. Operators that apply it many times fold the shifts into their buffers instead: with
``c = n // 2`` the sum is a plain FFT between two multiplications by ``ramp(n)``, times ``exp(-2 pi i c^2 / n)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import DTypeError, ShapeError

__all__ = ["fft2c", "ifft2c", "ramp"]

_AXES = (-2, -1)


def fft2c(x: Tensor) -> Tensor:
    """Return the k-space of images ``x`` of shape ``(..., H, W)``, complex, of the same shape.

    Raises:
        ShapeError: x has fewer than two axes. DTypeError: x is not complex.
    """
    _check(x, "fft2c")
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, _AXES), norm="ortho"), _AXES)


def ifft2c(k: Tensor) -> Tensor:
    """Return the images of k-space ``k`` of shape ``(..., H, W)``: the inverse, and the adjoint, of `fft2c`.

    Raises:
        ShapeError: k has fewer than two axes. DTypeError: k is not complex.
    """
    _check(k, "ifft2c")
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, _AXES), norm="ortho"), _AXES)


def ramp(n: int) -> Tensor:
    """Return ``exp(2 pi i c j / n)`` for j = 0 ... n-1 and ``c = n // 2``, complex128; (-1)^j where n is even."""
    turns = (torch.arange(n) * (n // 2)) % n
    angle = turns.to(torch.float64) * (2 * math.pi / n)
    return torch.polar(torch.ones_like(angle), angle)


def _check(x: Tensor, name: str) -> None:
    if not x.is_complex():
        raise DTypeError(f"{name} got real values ({x.dtype}); it expects a complex tensor: use x.to(torch.complex64)")
    if x.ndim < 2:
        raise ShapeError(f"{name} got shape {tuple(x.shape)}; it expects (..., H, W)")
