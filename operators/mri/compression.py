"""Coil compression: the few combinations of coils that hold nearly all of the signal.

Sources: Buehrer et al., Magn. Reson. Med. 57 (2007), by singular value decomposition; Zhang et al., Magn. Reson. Med.
69 (2013), one matrix for each position along a fully sampled readout ("geometric"), aligned from one to the next.
Whiten first: the combinations are orthonormal, so white noise stays white and of the same strength.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError

__all__ = ["compression_matrix", "kept_energy", "readout_compression"]


def compression_matrix(kspace: Tensor, coils: int) -> Tensor:
    """Return the first `coils` principal directions of k-space as rows, ``(coils, coils in)``; use with `mix_coils`.

    Args:
        kspace: complex ``(coils in, ...)``, whitened; the calibration region will do.
        coils: how many are kept.

    Raises:
        ShapeError: there is no axis besides the coils. DTypeError: k-space is real.
        InputError: NaN or infinity; more coils asked for than there are.
    """
    return _directions(_samples(kspace, coils))[:coils]


def kept_energy(kspace: Tensor, matrix: Tensor) -> float:
    """Return the share of the energy of k-space ``(coils in, ...)`` that the rows of a compression matrix keep."""
    data = _samples(kspace, len(matrix))
    return float((matrix.to(data) @ data).abs().square().sum() / data.abs().square().sum())


def readout_compression(hybrid: Tensor, coils: int, window: int = 5) -> Tensor:
    """Return a compression matrix for every position along the readout, aligned: ``(readout, coils, coils in)``.

    Args:
        hybrid: complex ``(coils in, readout, ...)``: image space along the readout, k-space along the other axes.
        coils: how many are kept.
        window: neighbouring positions, odd, whose data are taken together.

    Rows of neighbouring matrices are rotated within their span so that virtual coils vary as smoothly as the real
    ones; apply them as ``torch.einsum("xij,jx...->ix...", matrices, hybrid)``, to the maps alike.

    Raises:
        ShapeError, DTypeError, InputError: as `compression_matrix`; the window is not odd.
    """
    if hybrid.ndim < 3:
        raise ShapeError(f"readout_compression got shape {tuple(hybrid.shape)}; it expects (coils, readout, ...)")
    if window < 1 or window % 2 == 0:
        raise InputError(f"readout_compression got window = {window}; it expects an odd number of positions")
    _samples(hybrid, coils)
    found: list[Tensor] = []
    for x in range(hybrid.shape[1]):
        near = hybrid[:, max(0, x - window // 2) : x + window // 2 + 1]
        rows = _directions(near.flatten(1).to(torch.complex128))[:coils]
        if found:  # the unitary matrix that brings these rows closest to the previous ones
            u, _, vh = torch.linalg.svd(found[-1] @ rows.mH)
            rows = u @ vh @ rows
        found.append(rows)
    return torch.stack(found)


def _samples(kspace: Tensor, coils: int) -> Tensor:
    if kspace.ndim < 2:
        raise ShapeError(f"k-space for coil compression has shape {tuple(kspace.shape)}; expected (coils, ...)")
    if not kspace.is_complex():
        raise DTypeError(f"k-space for coil compression is {kspace.dtype}; expected complex")
    data = kspace.resolve_conj()
    if not bool(torch.isfinite(torch.view_as_real(data)).all()):
        raise InputError("k-space for coil compression holds NaN or infinity")
    if not 1 <= coils <= len(kspace):
        raise InputError(f"coil compression to {coils} of {len(kspace)} coils; expected 1 to {len(kspace)}")
    return data.flatten(1).to(torch.complex128)


def _directions(data: Tensor) -> Tensor:
    """Principal directions as rows, the strongest first."""
    _, vectors = torch.linalg.eigh(data @ data.mH)
    return vectors.flip(1).mH
