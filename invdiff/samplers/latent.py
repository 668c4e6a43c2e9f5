"""A measurement of images as one of latents, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.guidance.pseudo_inverse import PseudoInverse
from invdiff.measurement import Measurement
from invdiff.operators.algebra import ComposeNonlinear
from invdiff.operators.base import Operator
from invdiff.posterior import Posterior
from invdiff.priors.latent import LatentPrior

__all__ = ["Decode", "decoded", "encoded_pseudo_inverse", "in_latent_space", "is_latent", "parts"]


class Decode(Operator):
    """``x = decode(z)``: the nonlinear operator from latents to images."""

    def __init__(self, prior: LatentPrior) -> None:
        self.prior = prior
        self.domain_shape, self.range_shape = prior.latent_shape, prior.event_shape
        self.domain, self.range = prior.domain, prior.image_domain

    def _forward(self, x: Tensor) -> Tensor:
        return self.prior.decode(x)

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        return {}

    def __repr__(self) -> str:
        return f"decode[{self.domain_shape} -> {self.range_shape}]"


def in_latent_space(measurement: Measurement, prior: LatentPrior) -> Measurement:
    """The same data as a measurement of z, by ``A(decode(z))``.

    Raises ShapeError where the operator's x is not what the decoder gives.
    """
    op = measurement.operator
    if tuple(op.domain_shape) != prior.event_shape or op.domain != prior.image_domain:
        raise ShapeError(
            f"the operator's x is {op.domain} {tuple(op.domain_shape)}; this prior decodes to {prior.image_domain}"
            f" {prior.event_shape}"
        )
    whole = ComposeNonlinear(op, Decode(prior))
    return Measurement(measurement.y, whole, measurement.noise, None, measurement.meta, measurement.batched)


def is_latent(measurement: Measurement) -> bool:
    """Whether `in_latent_space` made the measurement."""
    op = measurement.operator
    return isinstance(op, ComposeNonlinear) and isinstance(op.inner, Decode)


def parts(measurement: Measurement, method: str) -> tuple[Operator, LatentPrior]:
    """The operator A on images and the latent prior of a measurement that `in_latent_space` made.

    Raises InputError for any other.
    """
    op = measurement.operator
    if isinstance(op, ComposeNonlinear) and isinstance(op.inner, Decode):
        return op.outer, op.inner.prior
    raise InputError(f"{method} works in the latent space of an autoencoder; give sample() a LatentPrior")


def encoded_pseudo_inverse(measurement: Measurement, method: str) -> Tensor:
    """``E(A^+ y)``, where a latent sampler starts: ``(N, *latent_shape)``."""
    op, prior = parts(measurement, method)
    on_images = Measurement(measurement.y, op, measurement.noise, batched=measurement.batched)
    return prior.encode(PseudoInverse(on_images, method)(measurement.data))


def decoded(posterior: Posterior, measurement: Measurement, prior: LatentPrior, chunk: int = 16) -> Posterior:
    """The posterior of x from that of z: every draw is decoded."""
    z = torch.from_numpy(posterior.draws.values)
    flat = z.reshape(-1, *prior.latent_shape)
    device = next((p.device for p in getattr(prior.decode, "parameters", lambda: iter(()))()), flat.device)
    decode: Callable[[Tensor], Tensor] = prior.decode
    with torch.inference_mode():
        x = torch.cat([decode(part.to(device)).cpu() for part in flat.split(chunk)])
    lead = z.shape[: z.ndim - len(prior.latent_shape)]
    log_weight = posterior.dataset.get("log_weight")
    return Posterior.from_draws(
        x.reshape(*lead, *prior.event_shape),
        measurement.coords,
        posterior.dataset.attrs,
        posterior.diagnostics,
        measurement.batched,
        None if log_weight is None else torch.from_numpy(log_weight.values),
    )
