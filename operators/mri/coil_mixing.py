"""Linear combinations of coils: what pre-whitening and coil compression both are.

Combining coils commutes with the mask and the Fourier transform of `MRI`, so a matrix is applied to the data and to
the maps alike, once, and the operator of the mixed maps is exact: ``W A = MRI(W maps)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import DTypeError, ShapeError

__all__ = ["mix_coils"]


def mix_coils(matrix: Tensor, data: Tensor, axis: int = 0) -> Tensor:
    """Return ``out_i = sum_j W_ij data_j`` over the coil axis of k-space, images or maps.

    Args:
        matrix: W, complex ``(coils out, coils in)``.
        data: complex, any shape with the coils along `axis`: 0 of ``(coils, H, W)``, 2 of canonical maps ``(problems,
            sets, coils, *grid)``.

    Raises:
        ShapeError: the axis has not as many coils as the matrix. DTypeError: one of them is real.
    """
    if matrix.ndim != 2 or not -data.ndim <= axis < data.ndim or data.shape[axis] != matrix.shape[1]:
        raise ShapeError(
            f"mix_coils got a matrix of shape {tuple(matrix.shape)} and data of shape {tuple(data.shape)}; axis {axis}"
            " of the data must hold as many coils as the matrix has columns"
        )
    if not (matrix.is_complex() and data.is_complex()):
        raise DTypeError(f"mix_coils got {matrix.dtype} and {data.dtype}; it expects complex: use .to(torch.complex64)")
    return torch.movedim(torch.tensordot(matrix.to(data), data, dims=([1], [axis])), 0, axis)
