"""Noise models: how the data scatter about ``A(x)``. Sigma is the standard deviation per real component."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invdiff.errors import InputError

if TYPE_CHECKING:
    from invdiff.random import Streams

__all__ = ["Noise", "Gaussian", "Transmission"]


_MOST = 1e15  # counts; double precision still tells single ones apart


class Noise:
    """What a noise model offers; tensors are ``(N, *range_shape)`` and sums run over all data of an event."""

    def sample(self, clean: Tensor, rng: torch.Generator | Streams) -> Tensor:
        """Draw data about ``clean = A(x)``."""
        raise TypeError(f"{type(self).__name__} does not define sample()")

    def log_likelihood(self, y: Tensor, clean: Tensor, count: int | Tensor) -> Tensor:
        """Return ``log p(y | A(x))`` for each event, shape ``(N,)``; `count` = number of data (complex once)."""
        raise TypeError(f"{type(self).__name__} does not define log_likelihood()")

    def whiten(self, residual: Tensor) -> Tensor:
        """Return the residual divided by its standard deviation."""
        raise TypeError(f"{type(self).__name__} does not define whiten()")

    def take(self, problems: Sequence[int], rank: int) -> Noise:
        """Return the noise of the given problems, whose data have `rank` axes; itself where all share it."""
        del problems, rank
        return self


class Gaussian(Noise):
    """Independent normal noise: ``y = A(x) + sigma n``.

    Args:
        sigma: standard deviation per real component, in the unit of y; a number or a tensor that broadcasts to
            ``range_shape`` (or to ``(problems, *range_shape)``). On complex data ``E|n|^2 = 2 sigma^2``.

    Raises:
        InputError: sigma is negative, zero, NaN or infinite.
    """

    def __init__(self, sigma: float | Tensor) -> None:
        values = torch.as_tensor(sigma, dtype=None if isinstance(sigma, Tensor) else torch.float64)
        if values.is_complex() or not bool(torch.isfinite(values).all()) or not bool((values > 0).all()):
            raise InputError(f"Gaussian noise got sigma = {sigma}; it expects finite values above 0 (the unit of y)")
        self.sigma: float | Tensor = float(values) if values.numel() == 1 else values

    def sample(self, clean: Tensor, rng: torch.Generator | Streams) -> Tensor:
        """Return ``clean + sigma n``; complex where `clean` is."""
        if isinstance(rng, torch.Generator):
            shape = (*clean.shape, 2) if clean.is_complex() else tuple(clean.shape)
            n = torch.randn(shape, generator=rng, dtype=clean.real.dtype, device=rng.device).to(clean.device)
            n = torch.view_as_complex(n) if clean.is_complex() else n
        else:
            n = rng.normal(clean)
        return clean + self.sigma * n

    def variance(self, like: Tensor) -> float | Tensor:
        """Return sigma^2 per real component, on the device of `like`."""
        if isinstance(self.sigma, float):
            return self.sigma**2
        return self.sigma.to(like.device, like.real.dtype) ** 2

    def whiten(self, residual: Tensor) -> Tensor:
        """Return ``residual / sigma``."""
        return residual / (self.sigma if isinstance(self.sigma, float) else self.sigma.to(residual.device))

    def log_likelihood(self, y: Tensor, clean: Tensor, count: int | Tensor) -> Tensor:
        """Return ``-|y - A x|^2 / (2 sigma^2) - k log(sqrt(2 pi) sigma)``, k = number of real data."""
        r = self.whiten(y - clean)
        quadratic = -0.5 * (r.real**2 + r.imag**2 if r.is_complex() else r**2).flatten(1).sum(1)
        real_count = count * (2 if y.is_complex() else 1)
        if isinstance(self.sigma, float):
            return quadratic - real_count * math.log(math.sqrt(2 * math.pi) * self.sigma)
        each = y.shape if self.sigma.ndim == y.ndim else (1, *y.shape[1:])
        logs = torch.log(math.sqrt(2 * math.pi) * self.sigma).expand(each).flatten(1).sum(1)
        return quadratic - logs.to(quadratic) * (2 if y.is_complex() else 1)

    def take(self, problems: Sequence[int], rank: int) -> Gaussian:
        """Return the noise of the given problems; itself where they share sigma."""
        if not isinstance(self.sigma, Tensor) or self.sigma.ndim <= rank or len(self.sigma) == 1:
            return self
        return Gaussian(self.sigma[torch.as_tensor(list(problems), device=self.sigma.device)])

    def scaled(self, factor: float) -> Gaussian:
        """Return the noise of data multiplied by a number."""
        return Gaussian(self.sigma * abs(factor))

    def to(self, target: torch.device | str | torch.dtype) -> Gaussian:
        """Return a copy on a device or in a precision."""
        return self if isinstance(self.sigma, float) else Gaussian(self.sigma.to(target))


class Transmission(Noise):
    """X-ray counts behind an object, ``N ~ Poisson(b exp(-A x)) + normal(0, e^2)``, kept as ``y = -log(N / b)``.

    y is thus a line integral, without unit, and A stays linear. Its variance is nearly ``1 / w`` with ``w = N^2 /
    (N + e^2)``; `gaussian` returns that approximation, which is what methods for linear Gaussian problems take.
    Thibault et al., Proc. SPIE 6065 (2006).

    Args:
        blank: b, mean count of a ray through air (the blank scan): a number or a tensor that broadcasts to the range.
        electronic: e, standard deviation of the electronic noise, in counts.
        floor: counts below this are taken for it, because they have no logarithm; few photons make y uncertain, which
            the weights say.

    Raises:
        InputError: blank or floor is not above 0, or electronic is negative.
    """

    def __init__(self, blank: float | Tensor, electronic: float = 0.0, floor: float = 0.5) -> None:
        values = torch.as_tensor(blank, dtype=None if isinstance(blank, Tensor) else torch.float64)
        if values.is_complex() or not bool(torch.isfinite(values).all()) or not bool((values > 0).all()):
            raise InputError(f"Transmission got blank = {blank}; it expects finite counts above 0")
        if not (math.isfinite(electronic) and electronic >= 0 and math.isfinite(floor) and floor > 0):
            raise InputError(
                f"Transmission got electronic = {electronic} and floor = {floor} counts; it expects finite numbers, at"
                " least 0 and above 0"
            )
        self.blank: float | Tensor = float(values) if values.numel() == 1 else values
        self.electronic, self.floor = float(electronic), float(floor)

    def sample(self, clean: Tensor, rng: torch.Generator | Streams) -> Tensor:
        """Draw counts behind line integrals `clean` and return their ``y``.

        Raises InputError: there would be more than 1e15, as with Hounsfield units.
        """
        blank = self._blank(clean)
        mean = (blank * torch.exp(-clean.double())).broadcast_to(clean.shape)
        if not bool((mean < _MOST).all()):
            raise InputError(
                f"line integrals go down to {float(clean.min()):.6g}, which {float(mean.max()):.2g} counts would"
                " cause; expected integrals of mu (in 1/mm, along mm), of the order of 0 to 10, not Hounsfield units"
            )
        if isinstance(rng, torch.Generator):
            counts = _poisson(mean, rng)
        else:
            rows = [_poisson(row, g) for row, g in zip(mean, rng.generators, strict=True)]
            counts = torch.stack(rows)
        if self.electronic:
            counts = Gaussian(self.electronic).sample(counts, rng)
        return -torch.log(counts.clamp_min(self.floor) / blank).to(clean.dtype)

    def from_counts(self, counts: Tensor) -> Tensor:
        """Return ``y = -log(N / b)`` of measured counts.

        Raises:
            InputError: counts are not finite, or more negative than electronic noise makes them (6 e).
        """
        counts = torch.as_tensor(counts)
        lowest = float(counts.min()) if counts.numel() else 0.0
        if not bool(torch.isfinite(counts).all()) or lowest < -6 * self.electronic:
            raise InputError(
                f"counts go down to {lowest:.6g} or are not finite; they expect at least 0, give or take electronic ="
                f" {self.electronic:g}: subtract the dark scan once, and pass line integrals as they are"
            )
        counts = counts.to(counts.dtype if counts.is_floating_point() else torch.get_default_dtype())
        return -torch.log(counts.clamp_min(self.floor) / self._blank(counts)).to(counts.dtype)

    def counts(self, y: Tensor) -> Tensor:
        """Return the counts ``N = b exp(-y)`` in double precision."""
        return self._blank(y) * torch.exp(-y.double())

    def weights(self, y: Tensor) -> Tensor:
        """Return ``w = N^2 / (N + e^2)``, one over the variance of y, in its dtype."""
        counts = self.counts(y)
        return (counts**2 / (counts + self.electronic**2)).to(y.dtype)

    def gaussian(self, y: Tensor) -> Gaussian:
        """Return the normal approximation ``sigma = w^-1/2`` at measured data, of the shape of y."""
        return Gaussian(self.weights(y).rsqrt())

    def whiten(self, residual: Tensor) -> Tensor:
        """Refuse: the scatter depends on the data. Raises InputError."""
        raise InputError("the scatter of Transmission noise depends on the data: use noise.gaussian(y) as the noise")

    def log_likelihood(self, y: Tensor, clean: Tensor, count: int | Tensor) -> Tensor:
        """Return ``log Poisson(N + e^2; b exp(-A x) + e^2)`` of the counts, summed over an event.

        Exact without electronic noise (as a probability of counts, not a density of y); with it, counts shifted by
        their electronic variance are taken for Poisson (Snyder et al., J. Opt. Soc. Am. A 12, 1995).
        """
        del count
        extra = self.electronic**2
        shifted, mean = self.counts(y) + extra, self.counts(clean) + extra
        logs = shifted * torch.log(mean) - mean - torch.lgamma(shifted + 1)
        return logs.flatten(1).sum(1).to(y.dtype)

    def to(self, target: torch.device | str | torch.dtype) -> Transmission:
        """Return a copy on a device or in a precision."""
        if isinstance(self.blank, float):
            return self
        return Transmission(self.blank.to(target), self.electronic, self.floor)

    def _blank(self, like: Tensor) -> float | Tensor:
        return self.blank if isinstance(self.blank, float) else self.blank.to(like.device, torch.float64)


def _poisson(mean: Tensor, rng: torch.Generator) -> Tensor:
    return torch.poisson(mean.to(rng.device), generator=rng).to(mean.device)
