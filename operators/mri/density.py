"""Density compensation of non-Cartesian samples: weights for an initial image, never for the likelihood.

The noise of samples is white whatever their density, so weighting the data in a likelihood would be wrong; an image
``A^H (w y)`` for a start, or for looking at, needs them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.mri.nonuniform import canonical_trajectory, to_image, to_samples

__all__ = ["density_weights"]


def density_weights(trajectory: Tensor, shape: tuple[int, ...], iterations: int = 20) -> Tensor:
    """Return weights w of the samples with which ``A^H diag(w) A`` comes close to the identity, for one perfect coil.

    ``w <- w / (K w)`` from ``w = 1``. K is the squared modulus of the correlations ``A A^H`` between samples (the
    Fejer kernel of the field of view: not negative, narrower than a grid step); at ``K w = 1`` no other factor brings
    ``A^H diag(w) A`` nearer to the identity. A fully sampled Cartesian grid has w = 1.

    Args:
        trajectory: ``(samples, dims)`` in cycles per pixel.
        shape: image size, one length for each coordinate.
        iterations: number of updates.

    Returns:
        float64 weights ``(samples,)``; positions that were sampled twice share theirs.

    Raises:
        ShapeError, DTypeError, InputError: the trajectory does not fit, or iterations is below 1.

    Source: Pipe and Menon, Magn. Reson. Med. 41 (1999).
    """
    points = canonical_trajectory(trajectory, "density_weights")
    if len(points) != 1 or points.shape[-1] != len(shape):
        raise ShapeError(
            f"density_weights got a trajectory of shape {tuple(torch.as_tensor(trajectory).shape)} for images of"
            f" {tuple(shape)}; it expects (samples, {len(shape)})"
        )
    if iterations < 1:
        raise InputError(f"density_weights got iterations = {iterations}; it expects at least 1")
    k, grid = points[0], tuple(2 * n - 1 for n in shape)
    triangle = torch.ones((), dtype=torch.float64)
    for n in shape:
        triangle = triangle[..., None] * (1 - torch.arange(1 - n, n, dtype=torch.float64).abs() / n) / n
    w = torch.ones(len(k), dtype=torch.float64)
    for _ in range(iterations):
        spread = to_samples(triangle * to_image(w.to(torch.complex128)[None], k, grid, 1e-6), k, 1e-6)
        w = w / spread[0].real
    return w
