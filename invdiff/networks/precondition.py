"""From a raw network F to a denoiser D: EDM preconditioning, and the linear interpolant of flow matching.

Both are modules ``(x, sigma, condition=None) -> E[x0 | x0 + sigma n = x]`` with the loss weight that belongs to them;
s is the standard deviation of the data and ``r = sigma/s``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FlowMatched", "Preconditioned"]


class Preconditioned(nn.Module):
    """EDM: a network with unit-variance input, output and target.

    ``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`` with ``c_skip = s^2/(sigma^2+s^2)``,
    ``c_out = sigma s/sqrt(sigma^2+s^2)``, ``c_in = 1/sqrt(sigma^2+s^2)``, ``c_noise = log(sigma)/4`` (Karras et al.,
    2022, arXiv 2206.00364, table 1). -F is the velocity of the trigonometric interpolant ``x0 cos(t)/s + n sin(t)``.

    x is ``(N, C, *spatial)`` real, sigma ``(N,)``; a condition ``(N, K, *spatial)`` goes to F beside ``c_in x``.
    """

    def __init__(self, backbone: nn.Module, sigma_data: float) -> None:
        super().__init__()
        self.backbone, self.sigma_data = backbone, sigma_data

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the denoised image, same shape and dtype as x."""
        s2 = self.sigma_data**2
        sigma = sigma.reshape(-1, *(1,) * (x.ndim - 1))
        total = sigma * sigma + s2
        raw = self.backbone(_beside(x * total.rsqrt(), condition), sigma.log().flatten() / 4)
        return torch.addcmul(x * (s2 / total), raw.to(x.dtype), sigma * self.sigma_data * total.rsqrt())

    def weight(self, sigma: Tensor) -> Tensor:
        """Loss weight ``(sigma^2 + s^2)/(sigma s)^2``: the squared error of F."""
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2

    def level(self, time: Tensor) -> Tensor:
        """Sigma at a time from 0 to 1 of the trigonometric interpolant: ``s tan(pi t/2)``."""
        return self.sigma_data * torch.tan(0.5 * math.pi * time)


class FlowMatched(nn.Module):
    """Flow matching: F is the velocity ``v = n - x0/s`` of ``u_t = (1 - t) x0/s + t n``, with ``t = r/(1 + r)``.

    ``D(x, sigma) = s (u_t - t F(u_t, log(sigma)/4))`` where ``u_t = x/(s (1 + r))`` (Lipman et al., 2022, arXiv
    2210.02747; Albergo and Vanden-Eijnden, 2022, arXiv 2209.15571). Shapes as `Preconditioned`.
    """

    def __init__(self, backbone: nn.Module, sigma_data: float) -> None:
        super().__init__()
        self.backbone, self.sigma_data = backbone, sigma_data

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the denoised image, same shape and dtype as x."""
        sigma = sigma.reshape(-1, *(1,) * (x.ndim - 1))
        time = sigma / (self.sigma_data + sigma)
        u = x / (self.sigma_data + sigma)
        raw = self.backbone(_beside(u, condition), sigma.log().flatten() / 4)
        return self.sigma_data * (u - time * raw.to(x.dtype))

    def weight(self, sigma: Tensor) -> Tensor:
        """Loss weight ``1/(s t)^2``: the squared error of the velocity."""
        return ((self.sigma_data + sigma) / (self.sigma_data * sigma)) ** 2

    def level(self, time: Tensor) -> Tensor:
        """Sigma at a time from 0 to 1: ``s t/(1 - t)``."""
        return self.sigma_data * time / (1 - time)


def _beside(x: Tensor, condition: Tensor | None) -> Any:
    return x if condition is None else torch.cat([x, condition.to(x.dtype)], 1)
