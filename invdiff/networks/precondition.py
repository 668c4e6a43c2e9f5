"""EDM preconditioning: from a raw network F to a denoiser D with unit-variance input, output and target.

``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`` with ``c_skip = s^2/(sigma^2+s^2)``,
``c_out = sigma s/sqrt(sigma^2+s^2)``, ``c_in = 1/sqrt(sigma^2+s^2)``, ``c_noise = log(sigma)/4`` and s the standard
deviation of the data (Karras et al., 2022, arXiv 2206.00364, table 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Preconditioned"]


class Preconditioned(nn.Module):
    """The denoiser ``(x, sigma) -> E[x0 | x]`` of a backbone; x is ``(N, C, H, W)`` real, sigma ``(N,)``."""

    def __init__(self, backbone: nn.Module, sigma_data: float) -> None:
        super().__init__()
        self.backbone, self.sigma_data = backbone, sigma_data

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised image, same shape and dtype as x."""
        s2 = self.sigma_data**2
        sigma = sigma.reshape(-1, 1, 1, 1)
        total = sigma * sigma + s2
        raw = self.backbone(x * total.rsqrt(), sigma.log().flatten() / 4)
        return torch.addcmul(x * (s2 / total), raw.to(x.dtype), sigma * self.sigma_data * total.rsqrt())
