"""``A^H A`` of a non-Cartesian transform as a convolution: two FFTs on a doubled grid, no interpolation.

For F of `invdiff.operators.mri.nonuniform` and weights w of the samples, ``F^H diag(w) F`` has the entries
``h(r - r')``, ``h(d) = sum_m w_m exp(2 pi i k_m . d)``: a Toeplitz matrix, hence part of a circulant one on a grid of
at least ``2n - 1`` points, whose eigenvalues are the FFT of h. Source: Wajer and Pruessmann, ISMRM 2001; with several
time segments Fessler et al., IEEE Trans. Signal Process. 53 (2005).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from invdiff.operators.mri.nonuniform import to_image

__all__ = ["convolve", "fast_size", "transfer"]


def fast_size(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of the circulant grid: at least ``2n - 1``, without large prime factors."""
    from scipy.fft import next_fast_len

    return tuple(int(next_fast_len(2 * n - 1)) for n in shape)


def transfer(weights: Tensor, points: Tensor, shape: tuple[int, ...], accuracy: float) -> Tensor:
    """Return the eigenvalues of the circulant matrix for complex128 weights ``(B, samples)``: ``(B, *fast_size)``.

    They are real where the weights are. The kernel is found octant by octant, each no larger than the image.
    """
    grid = fast_size(shape)
    kernel = weights.new_zeros(len(weights), *grid)
    # Displacements from 0 to n - 1, and from -n to -1, of which -n does not occur between pixels.
    halves = [((n // 2, slice(0, n)), (n // 2 - n, slice(0, n))) for n in shape]
    for corner in itertools.product((0, 1), repeat=len(shape)):
        shift = torch.tensor([halves[d][c][0] for d, c in enumerate(corner)], dtype=points.dtype)
        turn = torch.polar(torch.ones(len(points), dtype=points.dtype), 2 * torch.pi * (points @ shift))
        part = to_image(weights * turn, points, shape, accuracy)
        source = tuple(slice(c, None) for c in corner)
        target = tuple(
            slice(0, n) if c == 0 else slice(g - n + 1, g) for c, n, g in zip(corner, shape, grid, strict=True)
        )
        kernel[(slice(None), *target)] = part[(slice(None), *source)]
    return torch.fft.fftn(kernel, dim=tuple(range(1, kernel.ndim)))


def convolve(x: Tensor, eigenvalues: Tensor) -> Tensor:
    """Apply the Toeplitz matrices to complex images ``(B, L, *spatial)``: ``out_l = sum_m T_{l,m} x_m``.

    `eigenvalues` is ``(L, L, *fast_size)``. FFTs run axis by axis, so that rows of zeros are not transformed.
    """
    rank = x.ndim - 2
    space, grid = x.shape[2:], eigenvalues.shape[2:]
    z = x
    for axis in range(-1, -rank - 1, -1):
        z = torch.fft.fft(z, n=grid[axis], dim=axis)
    if len(eigenvalues) == 1:
        return _back(z.mul_(eigenvalues[0]), space)
    out = torch.empty_like(x)
    for row, target in zip(eigenvalues, out.unbind(1), strict=True):
        total = row[0] * z[:, 0]
        for eigenvalue, part in zip(row[1:], z.unbind(1)[1:], strict=True):
            total.addcmul_(eigenvalue, part)
        target.copy_(_back(total, space))
    return out


def _back(z: Tensor, space: tuple[int, ...]) -> Tensor:
    for axis in range(-len(space), 0):
        z = torch.fft.ifft(z, dim=axis).narrow(axis, 0, space[axis])
    return z
