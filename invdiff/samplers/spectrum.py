"""What DDRM and DDNM+ need of an operator: its singular values and right singular vectors.

``A = U diag(s) V^H``; U is not needed, because ``V^H A^+ y = U^H y / s`` is all that the data say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.imaging.blur import Blur
from invdiff.operators.mri.diagonalised import DiagonalisedMRI

__all__ = ["Spectrum", "spectrum"]

DENSE = 2048  # real components of x and y up to which the decomposition is computed


@dataclass(frozen=True)
class Spectrum:
    """V of the measured directions, and the data there.

    Args:
        analysis: ``x -> V^H x``; synthesis: ``c -> V c``.
        noise: ``sigma_y / s``, the deviation of the data's error per coefficient; 0 stands for no data (s = 0).
        data: ``V^H A^+ y``, 0 where s = 0.
        identity: whether V is the identity, so that coefficients are pixels.
    """

    analysis: Callable[[Tensor], Tensor]
    synthesis: Callable[[Tensor], Tensor]
    noise: Tensor
    data: Tensor
    identity: bool = False

    @cached_property
    def measured(self) -> Tensor:
        """1 where there are data, 0 elsewhere."""
        return (self.noise > 0).to(self.noise.dtype)

    @cached_property
    def level(self) -> float | None:
        """The noise of all coefficients with data, where it is the same."""
        held = self.noise[self.noise > 0]
        return float(held[0]) if len(held) and bool((held == held[0]).all()) else None

    @cached_property
    def inverse_noise(self) -> Tensor:
        """One over the noise, 0 where there are no data."""
        return _inverse(self.noise)


def spectrum(measurement: Measurement, method: str) -> Spectrum:
    """Return the spectrum of a linear operator with Gaussian noise.

    It is known where ``A^H A`` or ``A A^H`` is diagonal (masks, sampling of a unitary transform), for periodic blur
    and `DiagonalisedMRI`, and is computed for up to 2048 real components of x and of y.

    Raises:
        InputError: the operator is nonlinear, the noise not Gaussian, or no decomposition is at hand.
    """
    op, noise = measurement.operator, measurement.noise
    if not isinstance(op, LinearOperator) or not isinstance(noise, Gaussian):
        raise InputError(f"{method} needs a linear operator and Gaussian noise; got {op!r} and {type(noise).__name__}")
    if isinstance(noise.sigma, float):
        given = (op, measurement.data, noise.sigma)
        found = _diagonal(*given) or _periodic(*given) or _readouts(*given)
        if found is not None:
            return found
    shapes = ((op.domain_shape, op.domain), (op.range_shape, op.range))
    if op.n_problems == 1 and max(math.prod(s) * (2 if k == "complex" else 1) for s, k in shapes) <= DENSE:
        return _dense(op, measurement.data, noise.sigma)
    raise InputError(
        f"{method} needs the singular values of {op!r}, which are known for masks, samplings of a unitary transform,"
        f" periodic blur and up to {DENSE} real components; take ddnm, dds or mmps instead"
    )


def _diagonal(op: LinearOperator, y: Tensor, sigma: float) -> Spectrum | None:
    columns, rows = op.column_energy(), op.row_energy()
    if columns is not None:  # V is the identity
        s2 = torch.as_tensor(columns, dtype=y.real.dtype, device=y.device)
        return Spectrum(
            lambda x: x, lambda c: c, sigma * _inverse(s2.sqrt()), op.adjoint(y) * _inverse(s2), identity=True
        )
    if rows is not None:  # V^H = (A A^H)^(-1/2) A
        s2 = torch.as_tensor(rows, dtype=y.real.dtype, device=y.device)
        root = _inverse(s2.sqrt())
        return Spectrum(
            lambda x: op.forward(x) * root, lambda c: op.adjoint(c * root), sigma * _inverse(s2.sqrt()), y * root
        )
    return None


def _periodic(op: LinearOperator, y: Tensor, sigma: float) -> Spectrum | None:
    if not isinstance(op, Blur) or not op.has_damped_inverse:
        return None
    transfer = op.transfer()
    axes, energy = tuple(range(2 - y.ndim, 0)), transfer.real**2 + transfer.imag**2
    energy = torch.where(energy > torch.finfo(energy.dtype).eps ** 2 * energy.max(), energy, 0)

    def analysis(x: Tensor) -> Tensor:
        return torch.fft.fftn(x, dim=axes, norm="ortho")

    def synthesis(c: Tensor) -> Tensor:
        x = torch.fft.ifftn(c, dim=axes, norm="ortho")
        return x if op.domain == "complex" else x.real

    return Spectrum(
        analysis, synthesis, sigma * _inverse(energy.sqrt()), analysis(y) * transfer.conj() * _inverse(energy)
    )


def _readouts(op: LinearOperator, y: Tensor, sigma: float) -> Spectrum | None:
    """Parallel imaging with whole readouts: V are the eigenvectors of ``A^H A``, line by line."""
    if not isinstance(op, DiagonalisedMRI):
        return None
    s2 = torch.where(op.eigenvalues > torch.finfo(op.eigenvalues.dtype).eps * op.eigenvalues.max(), op.eigenvalues, 0)
    data = op.analysis(op.adjoint(y)) * _inverse(s2)
    return Spectrum(op.analysis, op.synthesis, sigma * _inverse(s2.sqrt()), data)


def _dense(op: LinearOperator, y: Tensor, sigma: float | Tensor) -> Spectrum:
    """By the singular value decomposition of the matrix on real components, its rows divided by their noise."""
    kind, shape = op.domain == "complex", op.domain_shape
    size = math.prod(shape) * (2 if kind else 1)
    basis = _events(torch.eye(size, dtype=torch.float64), shape, kind)
    matrix = _components(op.to("cpu").to(torch.float64).forward(basis)).mT
    level = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").expand(1, *op.range_shape)
    level = level.flatten(1).repeat_interleave(2 if op.range == "complex" else 1, 1)
    u, s, v = torch.linalg.svd(matrix / level.mT, full_matrices=False)
    s = torch.where(s > size * torch.finfo(torch.float32).eps * s.max(), s, 0)
    data = (_components(y.cpu()).double() / level) @ u * _inverse(s)
    v = v.to(y.device, y.real.dtype)
    return Spectrum(
        lambda x: _components(x) @ v.mT, lambda c: _events(c @ v, shape, kind),
        _inverse(s).to(v), data.to(v),
    )  # fmt: skip


def _inverse(values: Tensor) -> Tensor:
    """``1 / values``, and 0 for 0: a coefficient without data is recognised by noise 0."""
    return torch.where(values > 0, 1 / torch.where(values > 0, values, 1), 0)


def _components(x: Tensor) -> Tensor:
    return (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).flatten(1)


def _events(values: Tensor, shape: tuple[int, ...], is_complex: bool) -> Tensor:
    if is_complex:
        return torch.view_as_complex(values.reshape(len(values), *shape, 2).contiguous())
    return values.reshape(len(values), *shape)
