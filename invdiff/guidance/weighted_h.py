"""Weighted h-transform: the denoised image is mixed with a reference, less and less as the noise falls."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.guidance.base import Guidance
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["WeightedH"]


class WeightedH(Guidance):
    """``(1 - w) x0 + w y~`` with ``w = s^alpha``, ``s = sigma/sqrt(v + sigma^2)``, v the prior's variance.

    Conditioning the diffusion to end at a point y~ adds ``grad log h = -(x - y~)/sigma^2 - score(x)`` (Doob's
    h-transform) to the score. A coarse reference is not the end point, and what is wrong with it weighs more the
    lower the noise, hence the weight ``s^alpha``, s the noise's share of x (0 to 1). **The forward operator is not
    used**: y~ is any image that looks roughly right (a blurred, upsampled, masked or otherwise damaged one). alpha = 0
    returns y~, alpha = infinity draws from the prior. One evaluation a step, no gradient.

    It needs more than a prior and a measurement::

        Guided(partial(WeightedH, reference=lambda m: m.operator.adjoint(m.data)), DDIM(1.0), nfe=100)

    Args:
        reference: y~ ``(*domain_shape)`` or ``(N, *domain_shape)`` **in the prior's unit**, or a function of the
            measurement that returns it (`invdiff.sample` hands it the measurement in the prior's unit); None for
            the data themselves, where they have the shape of x.
        alpha: exponent, at least 0, or a tensor of exponents that broadcasts to x (low where the reference is to be
            trusted, high elsewhere); the paper uses 5.

    Raises:
        InputError: alpha is negative or NaN. ShapeError: the reference is no image.

    Source: Wang, Jiang, Wang and Chen, 2026, arXiv 2603.12057, in variance-exploding form.
    """

    def __init__(
        self,
        prior: Prior,
        measurement: Measurement,
        reference: Tensor | Callable[[Measurement], Tensor] | None = None,
        alpha: float | Tensor = 5.0,
    ) -> None:
        super().__init__(prior, measurement)
        found = measurement.data if reference is None else reference
        image = found if isinstance(found, Tensor) else found(measurement)
        shape = tuple(measurement.operator.domain_shape)
        if tuple(image.shape[-len(shape) :]) != shape or image.ndim not in (len(shape), len(shape) + 1):
            raise ShapeError(
                f"WeightedH got a reference of shape {tuple(image.shape)}; it expects an image {shape}: give"
                " reference= a tensor or a function of the measurement"
            )
        values = torch.as_tensor(alpha)
        if not bool((values >= 0).all()):
            raise InputError(f"WeightedH got alpha = {alpha}; it expects exponents of at least 0")
        self.reference = image if image.ndim > len(shape) else image[None]
        self.alpha = alpha

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the mixture of denoised image and reference."""
        share = (1 + (self.prior.scale / sigma) ** 2) ** -0.5
        weight = share**self.alpha
        x0 = self.denoise(x, sigma)
        reference = self.reference.to(x0.dtype)
        return torch.lerp(x0, reference, weight.to(x0) if isinstance(weight, Tensor) else weight)
