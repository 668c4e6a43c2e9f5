"""The ramp filter with the usual windows, for straight and for curved detectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import InputError, UnknownNameError

__all__ = ["WINDOWS", "filtered", "ramp"]

WINDOWS = ("ram-lak", "shepp-logan", "cosine", "hamming", "hann")


def ramp(channels: int, spacing: float, window: str = "ram-lak", cutoff: float = 1.0, curved: bool = False) -> Tensor:
    """Return the real frequency response, ``(n // 2 + 1,)`` in float64, for data padded to an even n >= 2 channels.

    The ramp is the transform of its band-limited kernel, ``h_0 = 1 / (4 spacing)``, ``h_j = -1 / (pi^2 j^2 spacing)``
    for odd j and 0 for even: |f| itself, sampled, would lose the mean. On a curved detector `spacing` is an angle and
    ``j spacing`` in ``h_j`` becomes ``sin(j spacing)``. A. C. Kak and M. Slaney, Principles of Computerized
    Tomographic Imaging (1988), chapter 3.

    Args:
        channels: number of channels.
        spacing: distance of two channels, as seen at the axis of rotation.
        window: ``ram-lak`` (none), ``shepp-logan``, ``cosine``, ``hamming``, ``hann``.
        cutoff: where the window ends, as a fraction of the highest frequency, above 0 to 1.

    Raises:
        UnknownNameError: the window is not known. InputError: cutoff is out of range.
    """
    if window not in WINDOWS:
        raise UnknownNameError(f"window {window!r} is not known; there are {', '.join(WINDOWS)}")
    if not 0 < cutoff <= 1:
        raise InputError(f"cutoff is {cutoff}; it expects a fraction of the highest frequency, above 0 and at most 1")
    n = 2 ** math.ceil(math.log2(max(2 * channels, 2)))
    j = torch.arange(n, dtype=torch.float64)
    j = torch.minimum(j, n - j)
    # Lags beyond the detector are not used; on an arc their sine could vanish.
    lag = torch.where(j < channels, j * spacing, 1.0)
    apart = torch.sin(lag) if curved else lag
    kernel = torch.where((j % 2 == 1) & (j < channels), -1 / (math.pi * apart) ** 2, 0.0) * spacing
    kernel[0] = 1 / (4 * spacing)
    f = torch.arange(n // 2 + 1, dtype=torch.float64) / (n // 2) / cutoff
    shapes = {
        "ram-lak": torch.ones_like(f),
        "shepp-logan": torch.sinc(f / 2),
        "cosine": torch.cos(math.pi * f / 2),
        "hamming": 0.54 + 0.46 * torch.cos(math.pi * f),
        "hann": 0.5 + 0.5 * torch.cos(math.pi * f),
    }
    return torch.fft.rfft(kernel).real * shapes[window] * (f <= 1)


def filtered(y: Tensor, response: Tensor) -> Tensor:
    """Convolve the last axis of y with a filter that `ramp` made."""
    n = 2 * (response.numel() - 1)
    return torch.fft.irfft(torch.fft.rfft(y, n) * response.to(y), n)[..., : y.shape[-1]]
