"""Stationary Gaussian fields on a periodic grid: the covariance is diagonal in Fourier space, so any size is exact.

A spectrum S(k) is the variance, per real component, of the entries of the centred orthonormal Fourier transform of x;
its mean is the variance of a pixel. The denoiser is the Wiener filter ``m + F^H [S / (S + sigma^2)] F (x - m)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.priors.base import Prior
from invdiff.priors.gaussian import _checked_domain, normal

__all__ = ["GaussianFieldPrior", "matern"]


class GaussianFieldPrior(Prior):
    """A stationary Gaussian field ``(channels, *spatial)``, real or (circular) complex; channels are independent.

    Args:
        spectrum: S(k) >= 0, shape ``(*spatial)``, zero frequency at entry ``n // 2`` of each axis; for a real field
            ``S(k) = S(-k)``.
        mean: a number, or a tensor that broadcasts to the event.
        domain: ``"real"`` or ``"complex"``.
        channels: length of the first axis of the event.

    Raises:
        InputError: the spectrum is negative, zero everywhere or not finite, or not symmetric for a real field.
        DTypeError: complex values where real ones are needed.
    """

    sample_shape: tuple[int, ...]

    def __init__(
        self, spectrum: Tensor, mean: float | complex | Tensor = 0.0, domain: str = "real", channels: int = 1
    ) -> None:
        mean = torch.as_tensor(mean)
        mean = mean if mean.is_complex() or mean.is_floating_point() else mean.to(torch.get_default_dtype())
        self.domain = _checked_domain("GaussianFieldPrior", domain, spectrum.real, mean)
        if spectrum.is_complex() or bool((spectrum < 0).any()) or not bool((spectrum > 0).any()):
            raise InputError("GaussianFieldPrior expects a real spectrum of variances >= 0, not all of them zero")
        self.spectrum = spectrum.to(torch.float64)
        self._axes = tuple(range(-spectrum.ndim, 0))
        self._plain = torch.fft.ifftshift(self.spectrum)  # zero frequency first, as the FFT has it
        mirrored = self._plain.flip(self._axes).roll((1,) * spectrum.ndim, self._axes)
        if domain == "real" and not torch.allclose(self._plain, mirrored, rtol=1e-5, atol=0.0):
            raise InputError("GaussianFieldPrior got a spectrum with S(k) != S(-k), which no real field has")
        self.sample_shape = (channels, *spectrum.shape)
        self.mean = torch.broadcast_to(mean, self.sample_shape)
        self.scale = math.sqrt(float(self.spectrum.mean()))
        self.sigma_min = 2e-3 * self.scale
        self.sigma_max = max(40 * self.scale, 10 * math.sqrt(float(self.spectrum.max())))

    @classmethod
    def fit(cls, images: Tensor, mean: str = "pixel") -> GaussianFieldPrior:
        """The field with the mean and the power spectrum of images ``(n, channels, *spatial)``, real or complex.

        The best prior that knows second moments alone and no place: a baseline that a network has to beat. Images are
        taken as periodic, so opposite edges that differ show as power along the axes.

        Args:
            mean: "pixel" for the mean of each pixel, "constant" for one number.

        Raises InputError for fewer than two images, other words, or images that do not vary.
        """
        if len(images) < 2 or images.ndim < 3 or mean not in ("pixel", "constant"):
            raise InputError(
                f"fit got images {tuple(images.shape)} and mean {mean!r}; expected at least 2 images (n, channels, ...)"
                " and 'pixel' or 'constant'"
            )
        wide = images.to(torch.complex128 if images.is_complex() else torch.float64)
        middle = wide.mean(0) if mean == "pixel" else wide.mean()
        axes = tuple(range(2, images.ndim))
        power = torch.fft.fftn(wide - middle, dim=axes, norm="ortho").abs() ** 2
        # the mean was fitted too: one image less, or one number less
        count = (len(images) - 1) * images.shape[1] if mean == "pixel" else len(images) * images.shape[1]
        spectrum = torch.fft.fftshift(power.sum((0, 1)) / count / (2 if images.is_complex() else 1))
        domain = "complex" if images.is_complex() else "real"
        return cls(spectrum, middle.to(images.dtype), domain, images.shape[1])

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the Wiener-filtered x ``(N, channels, *spatial)``; sigma ``(1,)`` or ``(N,)``."""
        mean, variances, noise = self._at(x, sigma)
        return mean + self._filter(x - mean, variances / (variances + noise).clamp_min(_tiny(variances)))

    def covariance(self, x: Tensor, sigma: Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``v -> Cov[x0 | x] v = F^H [S sigma^2 / (S + sigma^2)] F v``, per real component."""
        _, variances, noise = self._at(x, sigma)
        spread = variances * noise / (variances + noise).clamp_min(_tiny(variances))
        return lambda v: self._filter(v, spread)

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n exact draws, shape ``(n, channels, *spatial)``, in single precision."""
        dtype = torch.complex64 if self.domain == "complex" else torch.float32
        z = normal((n, *self.sample_shape), dtype, rng)
        mean, _, _ = self._at(z, torch.ones(1, device=z.device))
        return mean + self._filter(z, self._plain.sqrt().to(z.device, z.real.dtype))

    def _at(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        noise = sigma.to(x.device, x.real.dtype).reshape(-1, *(1,) * (x.ndim - 1)) ** 2
        return self.mean.to(x.device, x.dtype), self._plain.to(x.device, x.real.dtype), noise

    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        # The phase of the centring cancels between the two transforms: plain FFTs with the spectrum shifted once.
        out = torch.fft.ifftn(torch.fft.fftn(x, dim=self._axes) * gain, dim=self._axes)
        return out if x.is_complex() else out.real


def matern(shape: Sequence[int], std: float, length: float, smoothness: float = 1.5) -> Tensor:
    """Return the Matern spectrum ``S(k) ~ (2 nu / length^2 + |k|^2)^(-nu - D/2)`` on a grid, centred, float64.

    `length` is in pixels, `k` in radians per pixel; the spectrum is scaled so that a pixel has deviation `std`.

    Source: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning (2006), eq. 4.15.
    Raises InputError for numbers that are not above 0.
    """
    if min(std, length, smoothness, *shape) <= 0:
        raise InputError(f"matern got {shape=}, {std=}, {length=}, {smoothness=}; it expects values above 0")
    k2 = torch.zeros(tuple(shape), dtype=torch.float64)
    for axis, n in enumerate(shape):
        k = (torch.arange(n, dtype=torch.float64) - n // 2) * (2 * math.pi / n)
        k2 = k2 + k.reshape(-1, *(1,) * (len(shape) - axis - 1)) ** 2
    spectrum: Tensor = (2 * smoothness / length**2 + k2) ** (-smoothness - len(shape) / 2)
    return spectrum * (std**2 / spectrum.mean())


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny
