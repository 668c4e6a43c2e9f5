"""A denoising network on real channels as a prior of real or complex images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.networks.precision import at_once, autocast, half_of
from invdiff.priors.base import Hounsfield, Prior, Units

__all__ = ["NetworkPrior", "adapted", "positions"]


class NetworkPrior(Prior):
    """A denoising network on real channels ``(N, C, *spatial)`` as a prior of real or complex images.

    For complex images ``(N, 1, *spatial)`` the two channels are the real and imaginary part; a complex batch viewed as
    such already is channels-last, so nothing is copied on the way in.

    Args:
        network: module ``(x, sigma (N,)) -> denoised x``, or with a condition as third argument.
        domain: ``"real"`` or ``"complex"``.
        sigma_min, sigma_max, scale, units: see `Prior`.
        card: what is known about the weights; the name and hash go into a result's provenance.
        condition: what the network is told beside x: ``(K, *spatial)``, or "position" for where each pixel lies in
            its image; None for nothing.
        axes: number of spatial axes.
        sample_shape: event shape, for a network of one size.
        half: precision of convolutions and products: "none" (that of the weights), "bfloat16", "float16", or "auto"
            (`invdiff.networks.precision`).

    Raises:
        UnknownNameError: no such precision.
    """

    is_network = True

    def __init__(
        self,
        network: torch.nn.Module,
        domain: str,
        sigma_min: float,
        sigma_max: float,
        scale: float,
        units: Units | Hounsfield | None = None,
        card: dict[str, Any] | None = None,
        condition: Tensor | str | None = None,
        axes: int = 2,
        sample_shape: tuple[int, ...] | None = None,
        half: str = "none",
    ) -> None:
        half_of(half, torch.device("cpu"))
        self.network = network.eval().requires_grad_(False)
        self.domain, self.units, self.card = domain, units, dict(card or {})
        self.sigma_min, self.sigma_max, self.scale = sigma_min, sigma_max, scale
        self.condition, self.axes, self.sample_shape, self.half = condition, axes, sample_shape, half

    def given(self, condition: Tensor) -> NetworkPrior:
        """The same network told something else, ``(K, *spatial)``."""
        told = NetworkPrior(self.network, self.domain, self.sigma_min, self.sigma_max, self.scale, self.units)
        told.card, told.condition, told.axes, told.sample_shape = self.card, condition, self.axes, self.sample_shape
        told.half = self.half
        return told

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised image; each slice of a multi-set complex image ``(N, S, *spatial)`` on its own."""
        shape = x.shape
        sigma = sigma.to(x.real.dtype).expand(shape[0])
        if self.domain == "complex":
            sigma = sigma.repeat_interleave(shape[1]) if shape[1] > 1 else sigma
            x = torch.view_as_real(x.reshape(-1, *shape[2:])).movedim(-1, 1)
        size = at_once(shape[2:], x.device)
        with autocast(half_of(self.half, x.device), x.device):
            parts = [self._pass(*part) for part in zip(x.split(size), sigma.split(size), strict=True)]
        out = (parts[0] if len(parts) == 1 else torch.cat(parts)).to(x.dtype)
        if self.domain == "complex":
            return torch.view_as_complex(out.movedim(1, -1).contiguous()).reshape(shape)
        return out

    def _pass(self, x: Tensor, sigma: Tensor) -> Tensor:
        out: Tensor = self.network(x, sigma, *self._told(x))
        return out

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """Accept ``(C, *spatial)`` real or ``(sets, *spatial)`` complex events."""
        super().check(shape, domain)
        if len(shape) != self.axes + 1:
            wanted = {2: "images (C, H, W)", 3: "volumes (C, D, H, W)"}.get(self.axes, f"{self.axes} spatial axes")
            raise ShapeError(f"the operator's x has shape {shape}; this prior is for {wanted}")

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Move the network (in place) and return the prior."""
        self.network.to(target)
        return self

    def describe(self) -> dict[str, Any]:
        """Name and hash of the weights and, since it changes the last bits, the precision."""
        half = half_of(self.half, next(self.network.parameters(), torch.empty(0)).device)
        return {
            "prior": self.card.get("name", "network"),
            "prior_sha256": self.card.get("sha256", ""),
            "prior_half": str(half).removeprefix("torch.").lower(),
        }

    def _told(self, x: Tensor) -> tuple[Tensor, ...]:
        """The condition for a batch of real channels, as arguments."""
        if self.condition is None:
            return ()
        told = positions(x.shape[2:]) if isinstance(self.condition, str) else self.condition
        return (told.to(x.device, x.dtype).expand(len(x), *told.shape),)


def positions(shape: tuple[int, ...]) -> Tensor:
    """Where each pixel is in its image, -1 to 1 from edge to edge, a channel for each axis: ``(axes, *shape)``."""
    axes = [(2 * torch.arange(n) + 1) / n - 1 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def adapted(network: torch.nn.Module, declared: Mapping[str, Any]) -> NetworkPrior:
    """A prior of an adapted network: what is not declared is read off it.

    Sigma runs over the network's own levels (from 0.002 to 200 where they are continuous); the scale is 0.5, that of
    images from -1 to 1; the domain is real.

    Raises InputError for a name that `NetworkPrior` does not take.
    """
    levels = getattr(network, "levels", None)
    known = {
        "domain": "real",
        "sigma_min": 0.002 if levels is None else levels.lowest,
        "sigma_max": 200.0 if levels is None else levels.highest,
        "scale": 0.5,
    }
    takes = {"domain", "sigma_min", "sigma_max", "scale", "units", "card", "condition", "axes", "sample_shape"}
    if unknown := set(declared) - takes:
        raise InputError(f"no argument {sorted(unknown)[0]!r}; a prior declares {', '.join(sorted(takes))}")
    return NetworkPrior(network, **{**known, **declared})
