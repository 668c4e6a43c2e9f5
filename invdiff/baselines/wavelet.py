"""Wavelet-sparse reconstruction: an l1 penalty on Daubechies-4 coefficients, averaged over all shifts of the grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.baselines.fista import fista
from invdiff.baselines.problem import Problem
from invdiff.measurement import Measurement

__all__ = ["Wavelets", "wavelet"]

# The orthonormal scaling filter with four vanishing moments: I. Daubechies, Ten Lectures on Wavelets (1992), table 6.1.
_DB4 = (
    0.23037781330889650,
    0.71484657055291565,
    0.63088076792985890,
    -0.02798376941685985,
    -0.18703481171909309,
    0.03084138183556076,
    0.03288301166688520,
    -0.01059740178506903,
)


def wavelet(measurement: Measurement, strength: float, iterations: int = 100) -> Tensor:
    """Minimise ``|y - A x|^2 / (2 sigma^2) + strength |W x|_1 / s`` in the mean over all shifts of the wavelet basis W.

    W is orthogonal and periodic; the magnitude of complex coefficients is penalised, all bands alike. A proximal step
    is the mean of the soft thresholdings in all shifted bases, whose fixed point minimises f plus the proximal average
    of the penalties (Y.-L. Yu, NeurIPS 2013). That removes the blocks of a single basis (cycle spinning: R. R. Coifman
    and D. Donoho, 1995) and, unlike one random shift a step, converges. s is the image scale of
    `invdiff.baselines.problem.Problem`.

    Args:
        measurement: linear operator, Gaussian noise; real or complex.
        strength: dimensionless, above 0; for images of the order of 10.
        iterations: proximal steps, one application of A^H A each.

    Returns:
        x, shape ``(1, *domain_shape)`` (``(problems, ...)`` where batched). The transform runs over the axes after
        the first (channels), or over the only one.

    Raises:
        InputError: as `Problem` says.

    Source: M. Lustig, D. Donoho and J. M. Pauly, Magn. Reson. Med. 58 (2007).
    """
    with torch.inference_mode():
        problem = Problem(measurement, strength, iterations, "wavelet")
        b = problem.information
        bases = Wavelets(b.shape[2:] if b.ndim > 2 else b.shape[1:], b)

        def prox(v: Tensor, t: Tensor) -> Tensor:
            return bases.shrink(v, t * strength / problem.scale)

        return fista(problem.precision, b, prox, problem.start, problem.lipschitz(), iterations=iterations)


class Wavelets:
    """All shifts of the periodic Daubechies-4 basis at once: the undecimated transform, as filters in Fourier space.

    The coefficients of the 2^J shifts per axis (J levels) are the undecimated ones, scaled by ``2^(j/2)`` per axis at
    level j; scaled as here, ``sum_bands |F_band|^2 = 1``, the transform preserves norms. It exists for axes of any
    length, where that of one basis needs a multiple of 2^J.

    Args:
        shape: lengths of the axes, the last ones of the images. J is such that the coarsest band of one basis would
            keep about 8 entries of the shortest.
        like: tensor whose precision and device are used.
    """

    def __init__(self, shape: Sequence[int], like: Tensor) -> None:
        self.axes = tuple(range(-len(shape), 0))
        self.levels = max(1, int(math.log2(max(2.0, min(shape) / 8))))
        dtype = torch.promote_types(like.dtype, torch.complex64)
        smooth = [torch.ones(n, dtype=torch.complex128) for n in shape]
        self.bands: list[tuple[float, Tensor]] = []  # factor of the threshold, filters (bands, *shape) of a level
        for level in range(1, self.levels + 1):
            low, high = zip(*(_two_bands(n, level) for n in shape), strict=True)
            detail = [s * h for s, h in zip(smooth, high, strict=True)]
            smooth = [s * h for s, h in zip(smooth, low, strict=True)]
            choices = list(itertools.product(*zip(detail, smooth, strict=True)))
            if level < self.levels:
                choices.pop()  # smooth along all axes: the next level splits it
            filters = torch.stack([_outer(choice) for choice in choices])
            self.bands.append((2 ** (-level * len(shape) / 2), filters.to(like.device, dtype)))

    def shrink(self, v: Tensor, weight: Tensor) -> Tensor:
        """Mean over all shifts of the soft thresholding of v ``(N, ..., *shape)`` by `weight`, one per example."""
        spectrum = torch.fft.fftn(v, dim=self.axes, norm="ortho").unsqueeze(self.axes[0] - 1)
        out = torch.zeros_like(spectrum)
        for factor, filters in self.bands:
            c = torch.fft.ifftn(spectrum * filters, dim=self.axes, norm="ortho")
            radius = (factor * weight).to(c.real.dtype).reshape(-1, *(1,) * (c.ndim - 1))
            c = torch.fft.fftn(c * (1 - radius / c.abs().clamp_min(radius)), dim=self.axes, norm="ortho")
            out += torch.sum(c * filters.conj(), self.axes[0] - 1, keepdim=True)
        x = torch.fft.ifftn(out.squeeze(self.axes[0] - 1), dim=self.axes, norm="ortho")
        return x if v.is_complex() else x.real


def _two_bands(n: int, level: int) -> tuple[Tensor, Tensor]:
    """Low- and high-pass filter of a level on an axis of length n, in Fourier space; ``|low|^2 + |high|^2 = 1``."""
    spread = 2 ** (level - 1)
    turns = (torch.arange(n)[:, None] * torch.arange(len(_DB4)) * spread % n).double() / n
    waves = torch.polar(torch.full_like(turns, 0.5**0.5), 2 * math.pi * turns)  # correlation with the filter
    h = torch.tensor(_DB4, dtype=torch.complex128)
    signs = torch.tensor([(-1.0) ** k for k in range(len(_DB4))], dtype=torch.complex128)
    return waves @ h, waves @ (h.flip(0) * signs)


def _outer(factors: Sequence[Tensor]) -> Tensor:
    out = factors[0]
    for f in factors[1:]:
        out = out[..., None] * f
    return out
