"""Priors that live in the latent space of an autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import DTypeError, ShapeError
from invdiff.priors.adapters.diffusers import from_diffusers
from invdiff.priors.base import Prior

__all__ = ["LatentPrior", "from_latent_pipeline"]

Map = Callable[[Tensor], Tensor]


class LatentPrior(Prior):
    """``x = decode(z)`` with z from a prior of latents: what is sampled is z, and A becomes ``A(decode(z))``.

    `invdiff.sample` makes that measurement, draws z and returns the decoded draws; a sampler sees a prior of z and a
    nonlinear operator (`invdiff.samplers.latent`). As a Prior by itself, this is the one of z.

    Args:
        latent: the prior of z.
        encode: ``x (N, *event) -> z (N, *latent_shape)``, deterministic.
        decode: back, differentiable; complex where x is.
        latent_shape: event shape of z.
        event_shape: that of x. domain: what x is.

    Raises ShapeError where `latent` is for another shape.
    """

    is_network = True

    def __init__(
        self,
        latent: Prior,
        encode: Map,
        decode: Map,
        latent_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
        domain: str = "real",
    ) -> None:
        if latent.sample_shape is not None and tuple(latent.sample_shape) != tuple(latent_shape):
            raise ShapeError(f"the latent prior is for {latent.sample_shape}; latent_shape is {latent_shape}")
        self.latent, self.encode, self.decode = latent, encode, decode
        self.latent_shape, self.event_shape, self.image_domain = tuple(latent_shape), tuple(event_shape), domain
        self.domain, self.sample_shape = latent.domain, self.latent_shape
        self.sigma_min, self.sigma_max, self.scale = latent.sigma_min, latent.sigma_max, latent.scale

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``E[z0 | z]`` for latents ``(N, *latent_shape)``."""
        return self.latent.denoise(x, sigma)

    def to(self, target: torch.device | str | torch.dtype) -> Prior:
        """Move the latent prior and the autoencoder (modules in place) and return the prior."""
        self.latent = self.latent.to(target)
        for part in (self.encode, self.decode):
            if isinstance(part, nn.Module):
                part.to(target)
        return self

    def describe(self) -> dict[str, Any]:
        """The latent prior's."""
        return {**self.latent.describe(), "latent_shape": str(self.latent_shape)}


class _Coder(nn.Module):
    """One direction of a `diffusers` autoencoder, its latents in the unit of the diffusion network."""

    def __init__(self, vae: nn.Module, encodes: bool) -> None:
        super().__init__()
        self.vae, self.encodes = vae, encodes
        self.factor = float(vae.config.scaling_factor)  # type: ignore[union-attr,arg-type]
        self.shift = float(getattr(vae.config, "shift_factor", None) or 0.0)

    def forward(self, x: Tensor) -> Tensor:
        kind = next(self.vae.parameters()).dtype
        if self.encodes:
            found: Tensor = self.vae.encode(x.to(kind)).latent_dist.mode()  # type: ignore[operator]
            return (found.to(x.dtype) - self.shift) * self.factor
        decoded: Tensor = self.vae.decode((x / self.factor + self.shift).to(kind)).sample  # type: ignore[operator]
        return decoded.to(x.dtype)


def from_latent_pipeline(
    pipeline: Any, event_shape: tuple[int, ...], *, inputs: Mapping[str, Any] | None = None, **declared: Any
) -> LatentPrior:
    """A `diffusers` pipeline with a `vae` (Stable Diffusion and its kind) as a prior of images from -1 to 1.

    The encoder gives the mode of its distribution, so nothing is drawn there.

    Args:
        pipeline: with `vae` (an ``AutoencoderKL``), `unet` (or `transformer`) and `scheduler`.
        event_shape: of the images, ``(3, 512, 512)`` say.
        inputs: of the network, such as ``encoder_hidden_states``; see `from_diffusers`.
        declared: of the latent prior; its scale is 1 unless told.

    Raises DTypeError where the pipeline has no autoencoder.
    """
    vae = getattr(pipeline, "vae", None)
    if not isinstance(vae, nn.Module):
        raise DTypeError("from_latent_pipeline expects a pipeline with a vae; from_diffusers takes the others")
    vae.requires_grad_(False).eval()
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    latent = from_diffusers(network, pipeline.scheduler, inputs=inputs, **{"scale": 1.0, **declared})
    encode = _Coder(vae, True)
    with torch.no_grad():
        first = next(vae.parameters())
        shape = tuple(encode(torch.zeros(1, *event_shape, device=first.device)).shape[1:])
    return LatentPrior(latent, encode, _Coder(vae, False), shape, event_shape)
