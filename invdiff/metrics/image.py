"""Scores of an image against a known truth, on magnitudes, as fastMRI defines them (Zbontar et al. 2018, 1811.08839).

Images are tensors ``(H, W)`` or ``(..., H, W)``; the leading axes count the slices of one volume, whose maximum is
shared. Complex images are scored by their magnitude, which is what fastMRI's root sum of squares is. `data_range` is
the largest magnitude of the truth (the whole volume's) unless it is given.
"""

from __future__ import annotations

import math

from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["nmse", "psnr", "ssim"]


def nmse(truth: Tensor, estimate: Tensor) -> float:
    """Return ``| |truth| - |estimate| |^2 / |truth|^2``; 0 is perfect. Raises ShapeError, InputError."""
    a, b = _magnitudes(truth, estimate)
    return float(((a - b) ** 2).sum() / (a**2).sum())


def psnr(truth: Tensor, estimate: Tensor, data_range: float | None = None) -> float:
    """Return ``10 log10(data_range^2 / mean((|truth| - |estimate|)^2))`` in dB. Raises ShapeError, InputError."""
    a, b = _magnitudes(truth, estimate)
    error = float(((a - b) ** 2).mean())
    span = _range(a, data_range)
    return math.inf if error == 0 else 10 * math.log10(span**2 / error)


def ssim(truth: Tensor, estimate: Tensor, data_range: float | None = None) -> float:
    """Mean over slices of the structural similarity: 7 x 7 uniform windows, K1 = 0.01, K2 = 0.03; 1 is perfect.

    Raises ShapeError (also for slices below 7 x 7), InputError. Source: Z. Wang et al., IEEE Trans. Image Process. 13
    (2004), as scikit-image computes it.
    """
    from skimage.metrics import structural_similarity

    a, b = _magnitudes(truth, estimate)
    if min(a.shape[-2:]) < 7:
        raise ShapeError(f"ssim got slices of {tuple(a.shape[-2:])} pixels; its windows need at least 7 x 7")
    span = _range(a, data_range)
    pairs = zip(a.numpy(), b.numpy(), strict=True)
    values = [float(structural_similarity(s, t, data_range=span)) for s, t in pairs]
    return sum(values) / len(values)


def _magnitudes(truth: Tensor, estimate: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 magnitudes ``(slices, H, W)`` on the CPU."""
    if truth.shape != estimate.shape or truth.ndim < 2:
        raise ShapeError(
            f"truth has shape {tuple(truth.shape)} and estimate {tuple(estimate.shape)}; expected the same (..., H, W)"
        )
    a, b = (v.detach().cpu().abs().double().reshape(-1, *v.shape[-2:]) for v in (truth, estimate))
    if not bool(a.isfinite().all()) or not bool((a > 0).any()):
        raise InputError("truth is zero everywhere or holds NaN or infinity; no score can be relative to it")
    return a, b


def _range(truth: Tensor, data_range: float | None) -> float:
    if data_range is not None and not 0 < data_range < math.inf:
        raise InputError(f"data_range is {data_range}; it expects a number above 0, the span of the truth's values")
    return float(truth.max()) if data_range is None else data_range
