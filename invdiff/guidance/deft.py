"""DEFT: a small network learns what the data change in the denoised image; the prior stays as it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from invdiff.errors import InputError
from invdiff.guidance.base import Guidance, NormalEquations
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["Correction", "DEFT", "LinearBank"]

FEATURES = 3  # noisy image, denoised image, data gradient


class DEFT(Guidance):
    """``x0 + r h(x, x0, g, sigma)``: Doob's h-transform ``grad log p(y | x)``, learned, ``= r h / sigma^2``.

    ``r^2 = v sigma^2/(v + sigma^2)``, v the prior's variance, and ``g = r (b - N x0) / (1 + r^2 |N|)`` is the data
    gradient ``A^H S^-1 (y - A x0)`` without its unit. In the paper's noise form the correction is ``-r h/sigma``.
    One network evaluation a step and one of the small network, no gradient through either, so it also serves a prior
    that only gives outputs. `invdiff.guidance.deft_fit.fit_deft` trains `correction` for one operator and noise level::

        correction = fit_deft(prior, measurement, images, rng=torch.Generator().manual_seed(0))
        Guided(partial(DEFT, correction=correction), DDIM(0.0), nfe=100)

    Source: Denker et al., 2024, arXiv 2406.01781, eq. 10-12. Raises InputError for a nonlinear operator or noise that
    is not Gaussian.
    """

    def __init__(self, prior: Prior, measurement: Measurement, correction: Correction) -> None:
        super().__init__(prior, measurement)
        self.equations = NormalEquations(measurement, "DEFT")
        self.correction = correction

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the corrected denoised image."""
        level = torch.full((1,), sigma, dtype=x.real.dtype, device=x.device)
        return self.corrected(x, self.denoise(x, sigma), level)

    def corrected(self, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """Return ``x0 + r h`` for sigma ``(1,)`` or ``(N,)``; differentiable in the correction's parameters."""
        gradient = self.equations.information - self.equations.precision(x0)
        return x0 + self.correction(x, x0, gradient, sigma, self.prior.scale)


class Correction(nn.Module):
    """``r h`` with ``h = network(features, c_noise) + gate(c_noise) g``; gate a scalar network that starts at 0.01.

    Args:
        network: module ``(features, c_noise (N,)) -> h`` on real channels, 3 times as many in as out: for images
            ``(N, 3 C, H, W)``, complex ones as 2 C real channels; for vectors ``(N, 3 d)``, 2 d if complex. It should
            start at zero. ``c_noise = log(sigma/scale)/4``.
        curvature: ``|N|``, the largest eigenvalue of ``A^H S^-1 A``.
    """

    def __init__(self, network: nn.Module, curvature: float) -> None:
        super().__init__()
        if not (curvature > 0 and math.isfinite(curvature)):
            raise InputError(f"Correction got curvature = {curvature}; it expects a finite number above 0")
        self.network, self.curvature = network, curvature
        last = nn.Linear(32, 1)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, 0.01)
        self.gate = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), last)

    def forward(self, x: Tensor, x0: Tensor, gradient: Tensor, sigma: Tensor, scale: float) -> Tensor:
        """Return ``r h``, shape and dtype of x; sigma ``(1,)`` or ``(N,)``."""
        sigma = sigma.to(x.real.dtype).expand(len(x))
        level = sigma.reshape(-1, *[1] * (x.ndim - 1))
        r = scale * level / (scale**2 + level**2).sqrt()
        g = gradient * (r / (1 + r**2 * self.curvature))
        noise = (sigma / scale).log() / 4
        parts = [_channels(x / (scale**2 + level**2).sqrt()), _channels(x0 / scale), _channels(g)]
        out = _image(self.network(torch.cat(parts, 1), noise), x)
        return r * (out + self.gate(noise[:, None]).reshape(level.shape) * g)


class LinearBank(nn.Module):
    """``h = W(sigma) c + b(sigma)`` for vectors: W and b are interpolated between knots in ``c_noise``.

    The optimal correction of a Gaussian prior has this form. Starts at zero.

    Args:
        size: real components of x. knots: how many between `low` and `high`, the range of c_noise.
    """

    def __init__(self, size: int, knots: int = 12, low: float = -1.6, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high, self.knots = low, high, knots
        self.weight = nn.Parameter(torch.zeros(knots, FEATURES * size, size))
        self.bias = nn.Parameter(torch.zeros(knots, size))

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        """Return h ``(N, size)``."""
        place = (noise - self.low) / (self.high - self.low) * (self.knots - 1)
        distance = place.clamp(0, self.knots - 1)[:, None] - torch.arange(self.knots, device=noise.device)
        share = (1 - distance.abs()).clamp_min(0)
        each = torch.einsum("nf,kfd->nkd", features, self.weight) + self.bias
        return (share[..., None] * each).sum(1)


def _channels(x: Tensor) -> Tensor:
    """Real channels: ``(N, C, ...)``, a complex one as two."""
    return torch.cat([x.real, x.imag], 1) if x.is_complex() else x


def _image(h: Tensor, like: Tensor) -> Tensor:
    return torch.complex(*h.chunk(2, 1)) if like.is_complex() else h
