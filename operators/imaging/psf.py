"""Point spread functions for `invdiff.operators.imaging.blur`: Gaussian, motion, Airy, measured, varying in the field.

Kernels are float32, of odd lengths with their centre at ``k // 2``, and sum to 1. Lengths are in pixels, angles in
degrees anticlockwise from the last axis (to the right in an image whose rows run downwards).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["airy_psf", "compress", "gaussian_psf", "measured_psf", "motion_psf", "path_psf", "tile_weights"]


def gaussian_psf(sigma: float | Sequence[float], ndim: int = 2, truncate: float = 4.0) -> Tensor:
    """Gaussian of standard deviation sigma (one number, or one an axis), integrated over each pixel.

    Args:
        ndim: number of axes where sigma is one number.
        truncate: half-width in standard deviations, rounded up to whole pixels.

    Raises:
        InputError: a sigma is negative, or `truncate` is not above 0. A sigma of 0 leaves its axis as it is.
    """
    sigmas = [float(sigma)] * ndim if isinstance(sigma, (int, float)) else [float(s) for s in sigma]
    if not all(0 <= s < math.inf for s in sigmas) or not sigmas or not truncate > 0:
        raise InputError(f"gaussian_psf got sigma {sigma}, truncate {truncate}; expected sigmas >= 0 and truncate > 0")
    kernel = torch.ones((), dtype=torch.float64)
    for s in sigmas:
        half = math.ceil(truncate * s)
        edges = torch.arange(-half, half + 2, dtype=torch.float64) - 0.5
        line = torch.special.ndtr(edges / s).diff() if s > 0 else torch.ones(1, dtype=torch.float64)
        kernel = kernel[..., None] * line
    return (kernel / kernel.sum()).float()


def motion_psf(length: float, angle: float) -> Tensor:
    """Uniform straight motion over `length` pixels in the direction `angle` (degrees); 2D.

    Raises:
        InputError: the length is negative, or the angle NaN.
    """
    if not (0 <= length < math.inf and math.isfinite(angle)):
        raise InputError(f"motion_psf got length {length} pixels, angle {angle} degrees; expected finite, length >= 0")
    turn = math.radians(angle)
    direction = torch.tensor([-math.sin(turn), math.cos(turn)], dtype=torch.float64)
    steps = max(2, math.ceil(20 * length))
    along = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps - 0.5) * length
    return path_psf(along[:, None] * direction)


def path_psf(path: Tensor) -> Tensor:
    """The trace of a point that moves along a path, equal times at each position (camera shake, organ motion).

    Args:
        path: displacements from the reference position in pixels, ``(steps, ndim)`` in the order of the axes; each is
            shared linearly among its neighbouring pixels. The kernel's centre is displacement 0.

    Raises:
        ShapeError: the path is not ``(steps, ndim)``. InputError: it holds NaN or infinity.
    """
    path = torch.as_tensor(path).double()
    if path.ndim != 2 or 0 in path.shape:
        raise ShapeError(f"path_psf got a path of shape {tuple(path.shape)}; it expects (steps, ndim)")
    if not bool(torch.isfinite(path).all()):
        raise InputError("path_psf got a path that holds NaN or infinity")
    half = (path.abs().amax(0) - 1e-9).ceil().clamp_min(0).long()
    kernel = torch.zeros([2 * int(h) + 1 for h in half], dtype=torch.float64)
    low = torch.floor(path)
    share = path - low
    for corner in range(2 ** path.shape[1]):
        bits = torch.tensor([(corner >> a) & 1 for a in range(path.shape[1])])
        weight = torch.where(bits.bool(), share, 1 - share).prod(1)
        index = torch.minimum((low.long() + bits + half).clamp_min(0), 2 * half)  # weight 0 where this moves one
        kernel.index_put_(tuple(index.T), weight, accumulate=True)
    return (kernel / kernel.sum()).float()


def airy_psf(
    wavelength: float, aperture: float, pixel: float, radius: int | None = None, oversample: int = 8
) -> Tensor:
    """Diffraction by a circular aperture in focus: ``(2 J1(v) / v)^2`` with ``v = 2 pi NA r / wavelength``; 2D.

    Args:
        wavelength, pixel: in one unit of length.
        aperture: numerical aperture NA.
        radius: half-width of the kernel in pixels; five rings if not given.
        oversample: points an axis that each pixel is integrated with.

    Raises:
        InputError: an argument is not above 0.
    """
    if not all(0 < v < math.inf for v in (wavelength, aperture, pixel, oversample)) or (
        radius is not None and radius < 0
    ):
        raise InputError(
            f"airy_psf got wavelength {wavelength}, aperture {aperture}, pixel {pixel}, radius {radius}; all must be"
            " above 0"
        )
    ring = 0.61 * wavelength / aperture / pixel  # radius of the first dark ring, in pixels
    half = math.ceil(5 * ring) if radius is None else radius
    fine = (torch.arange((2 * half + 1) * oversample, dtype=torch.float64) + 0.5) / oversample - half - 0.5
    v = 2 * math.pi * aperture * pixel / wavelength * torch.hypot(fine[:, None], fine)
    amplitude = torch.where(v > 1e-6, 2 * torch.special.bessel_j1(v) / v.clamp_min(1e-6), 1.0)
    cells = (amplitude**2).reshape(2 * half + 1, oversample, 2 * half + 1, oversample).sum((1, 3))
    return (cells / cells.sum()).float()


def measured_psf(image: Tensor, half_width: int | Sequence[int], background: float = 0.0) -> Tensor:
    """Kernel cut out of the image of a point source (a star, a bead), about its brightest pixel.

    Args:
        image: ``(*spatial)``, 2D or 3D.
        half_width: pixels kept to each side, one number or one an axis.
        background: subtracted first, in the unit of the image; what is then below zero stays so.

    Raises:
        InputError: the image holds NaN, the source is nearer to the edge than the half-width, or nothing of it is left
            above the background.
    """
    image = torch.as_tensor(image).double()
    half = [half_width] * image.ndim if isinstance(half_width, int) else list(half_width)
    if len(half) != image.ndim or any(h < 0 for h in half):
        raise InputError(f"measured_psf got half_width {half_width} for an image of shape {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise InputError("measured_psf got an image that holds NaN or infinity")
    peak = [int(i) for i in torch.unravel_index(image.argmax(), image.shape)]
    if any(p < h or p + h >= n for p, h, n in zip(peak, half, image.shape, strict=True)):
        raise InputError(
            f"measured_psf found the source at {peak} of {tuple(image.shape)}: too near to the edge for {half}"
        )
    kernel = image[tuple(slice(p - h, p + h + 1) for p, h in zip(peak, half, strict=True))] - background
    if not float(kernel.sum()) > 0:
        raise InputError(f"measured_psf found no light above background {background}; lower it")
    return (kernel / kernel.sum()).float()


def tile_weights(space: Sequence[int], tiles: Sequence[int]) -> Tensor:
    """Weights ``(R, *space)`` that interpolate linearly between the centres of R tiles, and sum to 1 everywhere.

    Kernel r of `SpaceVariantBlur` is then the one measured at the centre of tile r, tiles counted along the last axis
    first; beyond the outermost centres it stays the same.

    Raises:
        InputError: there are more tiles than pixels along an axis, or none.
    """
    if len(space) != len(tiles) or any(not 1 <= t <= n for t, n in zip(tiles, space, strict=True)):
        raise InputError(f"tile_weights got {tuple(tiles)} tiles for {tuple(space)} pixels; expected 1 to n an axis")
    out = torch.ones((), dtype=torch.float64)
    for n, t in zip(space, tiles, strict=True):
        position = ((torch.arange(n, dtype=torch.float64) + 0.5) * t / n - 0.5).clamp(0, t - 1)
        line = (1 - (position - torch.arange(t, dtype=torch.float64)[:, None]).abs()).clamp_min(0)  # (t, n)
        rank = out.ndim // 2
        out = out.reshape(*out.shape[:rank], 1, *out.shape[rank:], 1) * line.reshape(t, *(1,) * rank, n)
    return out.reshape(-1, *space).float()


def compress(kernels: Tensor, weights: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The best `rank` components of R kernels and their weights, and the relative error of the kernels.

    The kernels' singular value decomposition ``K = U S V`` gives kernels V and weights ``(U S)^T w``; cost falls from
    R + 1 to rank + 1 transforms. Returns ``(rank, *k)``, ``(rank, *space)`` and ``|K - K_rank| / |K|``.

    Raises:
        InputError: the rank is not in 1 ... R.
    """
    if not 1 <= rank <= len(kernels) or len(kernels) != len(weights):
        raise InputError(f"compress got rank {rank} for {len(kernels)} kernels and {len(weights)} weights")
    u, s, vh = torch.linalg.svd(kernels.flatten(1).double(), full_matrices=False)
    rank = min(rank, len(s))
    mixed = torch.tensordot((u[:, :rank] * s[:rank]).T, weights.double(), 1)
    error = float(torch.linalg.vector_norm(s[rank:]) / torch.linalg.vector_norm(s))
    return vh[:rank].reshape(rank, *kernels.shape[1:]).to(kernels), mixed.to(weights), error
