"""Pre-whitening: coils combined so that their noise is independent, of deviation 1 per real component.

Thermal noise of coils is correlated and differs in strength; a noise scan (no excitation) shows its covariance.
Source: Pruessmann et al., Magn. Reson. Med. 46 (2001), appendix A.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError

__all__ = ["noise_covariance", "whitening_matrix"]


def noise_covariance(noise: Tensor) -> Tensor:
    """Return ``Psi = n n^H / samples`` of a noise scan ``(coils, samples)``, complex128 ``(coils, coils)``.

    No mean is removed: noise has none, and an offset is a fault of the receiver that should show. With sigma per real
    component, white noise has ``Psi = 2 sigma^2``.

    Raises:
        ShapeError: the scan has not two axes. DTypeError: it is real.
        InputError: NaN or infinity, or fewer samples than twice the coils (the estimate would be singular).
    """
    if noise.ndim != 2:
        raise ShapeError(f"a noise scan has shape {tuple(noise.shape)}; expected (coils, samples): join its readouts")
    if not noise.is_complex():
        raise DTypeError(f"a noise scan has {noise.dtype}; expected complex samples")
    if not bool(torch.isfinite(torch.view_as_real(noise.resolve_conj())).all()):
        raise InputError("a noise scan holds NaN or infinity; leave those samples out")
    coils, samples = noise.shape
    if samples < 2 * coils:
        raise InputError(f"a noise scan has {samples} samples of {coils} coils; expected at least {2 * coils}")
    n = noise.to(torch.complex128)
    return n @ n.mH / samples


def whitening_matrix(covariance: Tensor, variance_ratio: float = 1.0) -> Tensor:
    """Return ``W = sqrt(2) L^-1`` with ``L L^H = ratio Psi``: the noise of ``W y`` has sigma 1 per real component.

    Apply it with `mix_coils` to the data and to the maps; the noise of the measurement is then ``Gaussian(1.0)``.

    Args:
        covariance: Psi, Hermitian, ``(coils, coils)``, from `noise_covariance`.
        variance_ratio: variance of the noise in the data over that in the scan, where they were sampled differently:
            dwell time of the scan over that of the data, times the scan's relative noise bandwidth (0.79 is common).

    Returns:
        complex128, lower triangular.

    Raises:
        ShapeError: Psi is not square. InputError: it is not Hermitian and positive (a dead coil has variance 0), or the
            ratio is not above 0.
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise ShapeError(f"a noise covariance has shape {tuple(covariance.shape)}; expected (coils, coils)")
    if not (variance_ratio > 0 and math.isfinite(variance_ratio)):
        raise InputError(f"variance_ratio is {variance_ratio}; expected a number above 0")
    psi = covariance.to(torch.complex128)
    if not bool(torch.allclose(psi, psi.mH, rtol=1e-5, atol=1e-6 * float(psi.abs().max()))):
        raise InputError("a noise covariance is not Hermitian; use noise_covariance of the noise scan")
    factor, failed = torch.linalg.cholesky_ex(variance_ratio * psi)
    if int(failed):
        raise InputError(
            f"a noise covariance is not positive: coil {int(failed) - 1} has no noise of its own; leave out dead or"
            " duplicated coils"
        )
    identity = torch.eye(len(psi), dtype=psi.dtype, device=psi.device)
    return math.sqrt(2) * torch.linalg.solve_triangular(factor, identity, upper=False)
