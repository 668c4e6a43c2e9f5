"""Noise of a converter: normal noise is added, then the sum is rounded to steps and cut at the limits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.noise import Gaussian, Noise

if TYPE_CHECKING:
    from invdiff.random import Streams

__all__ = ["Quantised"]


class Quantised(Noise):
    """``y = round(A(x) + sigma n)`` to steps, between limits: the likelihood is the probability of each datum's bin.

    ``p(y|x) = Phi((y + h - A x) / sigma) - Phi((y - h - A x) / sigma)`` with h half a step; the bin of a datum at a
    limit reaches to infinity, so a saturated datum says "at least that much". Smooth in x, with true gradients.

    Args:
        sigma: standard deviation per real component of what is added before rounding, in the unit of y.
        step: distance of neighbouring levels; levels are ``low + k step``, or ``k step`` where there is no `low`.
        low, high: the limits (levels themselves); None for none.

    Raises:
        InputError: sigma or step is not above 0, low is not below high, or high is no level.
    """

    def __init__(self, sigma: float, step: float, low: float | None = None, high: float | None = None) -> None:
        if not (0 < sigma < math.inf and 0 < step < math.inf):
            raise InputError(f"Quantised noise got sigma {sigma}, step {step}; both are finite and above 0")
        if low is not None and high is not None and not low < high:
            raise InputError(f"Quantised noise got low {low}, high {high}; low must be below high")
        self.sigma, self.step, self.low, self.high = float(sigma), float(step), low, high
        self._origin = 0.0 if low is None else float(low)
        if high is not None and abs((high - self._origin) / step - round((high - self._origin) / step)) > 1e-6:
            raise InputError(f"Quantised noise got high {high}, which is no level {self._origin:g} + k * {step:g}")

    def sample(self, clean: Tensor, rng: torch.Generator | Streams) -> Tensor:
        """Draw data: noise added, rounded, cut."""
        noisy = Gaussian(self.sigma).sample(clean, rng)
        if clean.is_complex():
            return torch.view_as_complex(self._round(torch.view_as_real(noisy)))
        return self._round(noisy)

    def log_likelihood(self, y: Tensor, clean: Tensor, count: int | Tensor) -> Tensor:
        """Return the logarithm of the probability of y, summed over the `count` data of each event, ``(N,)``."""
        y, clean = torch.broadcast_tensors(y, clean)
        if y.is_complex():
            y, clean, count = torch.view_as_real(y), torch.view_as_real(clean), 2 * count
        total = self._log_probability(y, clean).flatten(1).sum(1)
        # Entries that are no data are 0 in both; what they add is known.
        surplus = y[0].numel() - count
        return total - surplus * self._log_probability(*y.new_zeros(2, 1)).sum() if surplus else total

    def whiten(self, residual: Tensor) -> Tensor:
        """Return the residual over ``sqrt(sigma^2 + step^2 / 12)``, its spread away from the limits."""
        return residual / math.sqrt(self.sigma**2 + self.step**2 / 12)

    def scaled(self, factor: float) -> Quantised:
        """Return the noise of data multiplied by a positive number."""
        if not factor > 0:
            raise InputError(f"Quantised noise got factor {factor}; it expects one above 0")
        limits = (None if v is None else v * factor for v in (self.low, self.high))
        return Quantised(self.sigma * factor, self.step * factor, *limits)

    def _round(self, values: Tensor) -> Tensor:
        levels = torch.round((values - self._origin) / self.step) * self.step + self._origin
        return levels if self.low is None and self.high is None else levels.clamp(self.low, self.high)

    def _log_probability(self, y: Tensor, clean: Tensor) -> Tensor:
        half = self.step / 2
        a, b = (y - half - clean) / self.sigma, (y + half - clean) / self.sigma
        if self.low is not None:
            a = torch.where(y < self.low + half, -math.inf, a)
        if self.high is not None:
            b = torch.where(y > self.high - half, math.inf, b)
        # Phi(b) - Phi(a) = Phi(-a) - Phi(-b); on the left tail neither is rounded to 1.
        right = a > 0
        a, b = torch.where(right, -b, a), torch.where(right, -a, b)
        open_below, open_above = torch.isneginf(a), torch.isposinf(b)
        top = torch.where(open_above, 0.0, torch.special.log_ndtr(torch.where(open_above, 0.0, b)))
        bottom = torch.special.log_ndtr(torch.where(open_below, 0.0, a))
        ratio = torch.where(open_below, -math.inf, bottom - top)
        gap = torch.where(open_below, -1.0, ratio.clamp_max(-torch.finfo(y.dtype).tiny))
        return top + torch.where(open_below, 0.0, torch.log(-torch.expm1(gap)))
