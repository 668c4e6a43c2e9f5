"""Doors through which networks of other conventions become priors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.priors.base import Prior, Units

__all__ = ["NetworkPrior"]


class NetworkPrior(Prior):
    """A denoising network on real channels ``(N, C, H, W)`` as a prior of real or complex images ``(N, 1, H, W)``.

    For complex images the two channels are the real and imaginary part; a complex batch viewed as such already is
    channels-last, so nothing is copied on the way in.

    Args:
        network: module ``(x, sigma (N,)) -> denoised x``.
        domain: ``"real"`` or ``"complex"``.
        sigma_min, sigma_max, scale, units: see `Prior`.
        card: what is known about the weights; the name and hash go into a result's provenance.
    """

    is_network = True

    def __init__(
        self,
        network: torch.nn.Module,
        domain: str,
        sigma_min: float,
        sigma_max: float,
        scale: float,
        units: Units | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.domain, self.units, self.card = domain, units, dict(card or {})
        self.sigma_min, self.sigma_max, self.scale = sigma_min, sigma_max, scale

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised image; each slice of a multi-set complex image ``(N, S, H, W)`` on its own."""
        shape = x.shape
        sigma = sigma.to(x.real.dtype).expand(shape[0])
        if self.domain == "real":
            return self.network(x, sigma)
        sets = shape[1]
        pairs = torch.view_as_real(x.reshape(-1, *shape[2:])).permute(0, 3, 1, 2)
        out = self.network(pairs, sigma.repeat_interleave(sets) if sets > 1 else sigma)
        return torch.view_as_complex(out.permute(0, 2, 3, 1).contiguous()).reshape(shape)

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """Accept ``(1, H, W)`` real or ``(sets, H, W)`` complex events."""
        super().check(shape, domain)
        if len(shape) != 3:
            raise ShapeError(f"the operator's x has shape {shape}; this prior is for images (C, H, W)")

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Move the network (in place) and return the prior."""
        self.network.to(target)
        return self

    def describe(self) -> dict[str, Any]:
        """Name and hash of the weights."""
        return {"prior": self.card.get("name", "network"), "prior_sha256": self.card.get("sha256", "")}
