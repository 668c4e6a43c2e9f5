"""A stationary Gaussian field seen through a periodic blur: the exact posterior at any size, by FFT.

With a prior of spectrum S, an operator of real transfer function h and white noise of deviation s, the posterior has
the spectrum ``P = S s^2 / (h^2 S + s^2)`` and the mean ``m + F^H [P h / s^2] F (y - A m)``; its draws add
``F^H P^(1/2) F z``, z white.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.gaussian import normal
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.validation.case import Case, Marginals

__all__ = ["FieldPosterior", "FourierFilter", "field_case", "posterior"]


class FourierFilter(LinearOperator):
    """``y = F^H [h] F x`` for images ``(channels, *spatial)``: a periodic convolution.

    Args:
        transfer: h, shape ``(*spatial)``, real, zero frequency at entry ``n // 2``; ``h(k) = h(-k)`` for real images.
        domain: of x and y. channels: length of the event's first axis.
    """

    def __init__(self, transfer: Tensor, domain: str = "real", channels: int = 1) -> None:
        if transfer.is_complex() or not bool(torch.isfinite(transfer).all()):
            raise InputError("FourierFilter expects a real, finite transfer function")
        self.domain = self.range = domain
        self.domain_shape = self.range_shape = (channels, *transfer.shape)
        self.plain = torch.fft.ifftshift(transfer)

    def _forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(-self.plain.ndim, 0))
        out = torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * self.plain.to(x.real.dtype), dim=axes)
        return out if x.is_complex() else out.real

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)  # h is real

    @classmethod
    def example(cls, rng: torch.Generator) -> FourierFilter:
        """Build a Gaussian low-pass on 6 x 7 complex images."""
        del rng
        return cls(gaussian_lowpass((6, 7), 1.0), "complex")


@dataclass(frozen=True)
class FieldPosterior:
    """A stationary Gaussian field of x given y.

    Args:
        mean: event, in double precision. spectrum: P, zero frequency first, float64; prior_spectrum: S.
    """

    mean: Tensor
    spectrum: Tensor
    prior_spectrum: Tensor

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n exact, independent draws, shape ``(n, channels, *spatial)``, in double precision."""
        z = normal((n, *self.mean.shape), self.mean.dtype, rng).cpu()
        axes = tuple(range(-self.spectrum.ndim, 0))
        out = torch.fft.ifftn(torch.fft.fftn(z, dim=axes) * self.spectrum.sqrt(), dim=axes)
        return self.mean + (out if z.is_complex() else out.real)

    def modes(self, x: Tensor) -> Tensor:
        """Independent standard normal numbers of exact draws, ``(n, D)``: error over deviation at each frequency.

        Of real fields they are ``Re - Im`` of the orthonormal transform (Hartley's), of complex ones both parts.
        """
        axes = tuple(range(-self.spectrum.ndim, 0))
        wide = x.to(self.mean.dtype)
        k = torch.fft.fftn(wide - self.mean, dim=axes, norm="ortho") / self.spectrum.sqrt()
        return torch.view_as_real(k).flatten(1) if x.is_complex() else (k.real - k.imag).flatten(1)


def posterior(prior: GaussianFieldPrior, measurement: Measurement) -> FieldPosterior:
    """Return the exact posterior.

    Raises:
        DTypeError: the operator is no FourierFilter or the noise not Gaussian. InputError: the noise is not one number.
        ShapeError, DTypeError: the prior does not fit the operator.
    """
    op, noise = measurement.operator, measurement.noise
    if not isinstance(op, FourierFilter) or not isinstance(noise, Gaussian):
        raise DTypeError(
            f"{op!r} with {type(noise).__name__} noise: a field's posterior expects a FourierFilter, Gaussian"
        )
    if not isinstance(noise.sigma, float) or measurement.n_problems > 1:
        raise InputError("a field's posterior expects one problem and one noise level for all data")
    prior.check(op.domain_shape, op.domain)
    if prior.spectrum.shape != op.plain.shape:
        raise ShapeError(f"the prior's spectrum is {tuple(prior.spectrum.shape)}, the filter's {tuple(op.plain.shape)}")
    wide = torch.complex128 if prior.domain == "complex" else torch.float64
    s, h = prior._plain, op.plain.to(torch.float64)
    spread = s * noise.sigma**2 / (h**2 * s + noise.sigma**2)
    mean, y = prior.mean.to(wide), measurement.y.cpu().to(wide)
    axes = tuple(range(-s.ndim, 0))
    misfit = torch.fft.fftn(y, dim=axes) - h * torch.fft.fftn(mean, dim=axes)
    update = torch.fft.ifftn(spread * h / noise.sigma**2 * misfit, dim=axes)
    return FieldPosterior(mean + (update if wide.is_complex else update.real), spread, s)


def gaussian_lowpass(shape: tuple[int, ...], width: float) -> Tensor:
    """``exp(-|k|^2 width^2 / 2)``, the transfer function of a Gaussian blur of `width` pixels, centred, float64."""
    k2 = torch.zeros(shape, dtype=torch.float64)
    for axis, n in enumerate(shape):
        k = (torch.arange(n, dtype=torch.float64) - n // 2) * (2 * math.pi / n)
        k2 = k2 + k.reshape(-1, *(1,) * (len(shape) - axis - 1)) ** 2
    return torch.exp(-0.5 * k2 * width**2)


def field_case(size: int, rng: torch.Generator, sigma: float | None = None, domain: str = "real") -> Case:
    """A Matern field of ``size x size`` pixels and unit deviation behind a Gaussian blur of 1 to 3 pixels.

    Its correlation length is 3 to 8 pixels, sigma (where not given) 0.02 to 0.5, uniform in the logarithm. Every
    frequency is a known direction; those the blur removes are not `seen`.
    """
    u = torch.rand(3, generator=rng, dtype=torch.float64).tolist()
    level = math.exp(math.log(0.02) + u[0] * math.log(25)) if sigma is None else sigma
    prior = GaussianFieldPrior(matern((size, size), 1.0, 3 + 5 * u[1]), domain=domain)
    operator, noise = FourierFilter(gaussian_lowpass((size, size), 1 + 2 * u[2]), domain), Gaussian(level)
    y = noise.sample(operator.forward(prior.sample(1, rng)), rng)[0]
    measurement = Measurement(y, operator, noise)
    exact = posterior(prior, measurement)
    parts = 2 if domain == "complex" else 1
    count = size * size * parts
    law = Marginals(
        torch.ones(1, dtype=torch.float64),
        torch.zeros(1, count, dtype=torch.float64),
        torch.ones(1, count, dtype=torch.float64),
    )
    seen = (exact.spectrum < 0.1 * exact.prior_spectrum).flatten().repeat_interleave(parts)
    h, wide = operator.plain.to(torch.float64), y.cpu().to(exact.mean.dtype)
    misfit = (wide - operator._forward(exact.mean[None])[0]).abs() ** 2
    chi2 = (float(misfit.sum()) + parts * float((h**2 * exact.spectrum).sum())) / level**2
    facts = {"sigma": level}
    name = "field" if domain == "real" else "complex field"
    return Case(name, prior, measurement, exact, exact.modes, law, seen, chi2, facts=facts)
