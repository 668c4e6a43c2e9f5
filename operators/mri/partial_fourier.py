"""Partial Fourier: a part of k-space is left out beyond the centre on one side.

The acquisition is `MRI` with the mask made here, exact as it stands: a posterior needs no filling in. What homodyne
detection adds is knowledge of the image: its phase varies slowly, so that of the symmetric centre is nearly all of it.
`PhaseConstraint` states that as a model, ``x = exp(i phase) r`` with r real: ``MRI(...) @ PhaseConstraint(phase)`` has
half the unknowns. Source: Noll, Nishimura and Macovski, IEEE Trans. Med. Imaging 10 (1991).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.base import LinearOperator
from invdiff.operators.fourier import ifft2c

__all__ = ["PhaseConstraint", "low_resolution_phase", "partial_fourier_mask"]


def partial_fourier_mask(n: int, fraction: float, *, start: bool = True) -> Tensor:
    """Return the mask ``(n,)`` of an axis of which ``ceil(fraction n)`` positions at one end are sampled.

    Args:
        n: positions; the centre is n // 2.
        fraction: of them that is sampled, above 1/2 (5/8, 6/8 and 7/8 are usual).
        start: leave out the end (True) or the beginning of the axis. Combine masks of several axes by ``&``.

    Raises:
        InputError: n is below 1, or the fraction leaves out the centre or exceeds 1.
    """
    kept = math.ceil(fraction * n - 1e-9) if math.isfinite(fraction) and n >= 1 else 0
    if not (n >= 1 and 0.5 < fraction <= 1):
        raise InputError(
            f"partial_fourier_mask got n = {n}, fraction = {fraction}; it expects n >= 1, 1/2 < fraction <= 1"
        )
    mask = torch.zeros(n, dtype=torch.bool)
    mask[slice(0, max(kept, n // 2 + 1)) if start else slice(min(n - kept, n // 2), n)] = True
    return mask


def low_resolution_phase(kspace: Tensor, mask: Tensor, axis: int) -> Tensor:
    """Return the phase of the image of the symmetric centre, in radians, ``(..., H, W)``.

    Args:
        kspace: complex ``(..., H, W)``, of one coil or combined over coils (the maps removed), centred.
        mask: ``(n,)`` of the partial axis, from `partial_fourier_mask` (gaps of acceleration must have been filled).
        axis: the partial one, -2 or -1.

    The centre, as far as it is sampled on both sides, is weighted by a Hann window along the axis against ringing.

    Raises:
        ShapeError: mask and axis do not fit. InputError: the centre is not sampled.
    """
    if axis not in (-2, -1) or kspace.ndim < 2 or mask.ndim != 1 or mask.numel() != kspace.shape[axis]:
        raise ShapeError(
            f"low_resolution_phase got k-space of shape {tuple(kspace.shape)}, a mask of {tuple(mask.shape)} and axis"
            f" {axis}; it expects (..., H, W), the mask (n,) of that axis, and axis -2 or -1"
        )
    n = mask.numel()
    away = (torch.arange(n) - n // 2).abs()
    missing = away[~mask.cpu()]
    reach = int(missing.min()) if missing.numel() else n // 2 + 1
    if reach == 0:
        raise InputError("low_resolution_phase got a mask without the centre of k-space; its phase is unknown")
    window = torch.where(away < reach, 0.5 + 0.5 * torch.cos(math.pi * away / reach), 0).to(kspace.device)
    shape = (n, 1) if axis == -2 else (n,)
    return torch.angle(ifft2c(kspace * window.reshape(shape).to(kspace.real.dtype)))


class PhaseConstraint(LinearOperator):
    """``y = exp(i phase) x``: real x of the shape of the phase to complex images of it.

    Args:
        phase: radians, ``(C, *spatial)``.

    Raises:
        ShapeError: the phase has no axis. DTypeError: it is not real floating point. InputError: NaN or infinity.
    """

    domain, range = "real", "complex"

    def __init__(self, phase: Tensor) -> None:
        if phase.ndim < 1:
            raise ShapeError("PhaseConstraint got a single number as phase; it expects (C, *spatial)")
        if not phase.is_floating_point():
            raise DTypeError(f"PhaseConstraint got a phase of {phase.dtype}; it expects real radians")
        if not bool(torch.isfinite(phase).all()):
            raise InputError("PhaseConstraint got a phase that holds NaN or infinity; set it to 0 where it is unknown")
        self.phase = phase
        self.domain_shape = self.range_shape = tuple(phase.shape)

    def _forward(self, x: Tensor) -> Tensor:
        return torch.polar(torch.ones_like(x), self.phase.to(x).expand_as(x)) * x

    def _adjoint(self, y: Tensor) -> Tensor:
        phase = self.phase.to(y.real.dtype)
        return y.real * phase.cos() + y.imag * phase.sin()

    def column_energy(self) -> float:
        return 1.0

    @classmethod
    def example(cls, rng: torch.Generator) -> PhaseConstraint:
        """Build a random phase of 1 x 4 x 5 pixels."""
        return cls(3 * torch.randn(1, 4, 5, generator=rng))

    def state(self) -> dict[str, Any]:
        """Return the constructor's argument."""
        return {"phase": self.phase}
