"""Train DEFT's correction on few images, the prior frozen."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from invdiff.errors import InputError, ShapeError
from invdiff.guidance.deft import DEFT, FEATURES, Correction, LinearBank
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior

__all__ = ["fit_deft"]


def fit_deft(
    prior: Prior,
    measurement: Measurement,
    images: Tensor,
    data: Tensor | None = None,
    network: nn.Module | None = None,
    *,
    rng: torch.Generator,
    steps: int = 2000,
    batch: int = 64,
    rate: float = 1e-3,
) -> Correction:
    """Minimise ``E |x - D_y(x + sigma z)|^2 / r^2`` over the correction, D_y the corrected denoiser.

    This is the paper's ``E |z - eps - h|^2`` with the weight ``1/r^2 = 1/sigma^2 + 1/v`` instead of ``1/sigma^2``, so
    that high noise levels, where the image is decided, count too. Adam, the rate falling linearly to 0 (as published);
    log sigma is uniform over the prior's range.

    Args:
        prior: frozen; only its outputs are used.
        measurement: operator and noise that the correction is for (its own y is not used).
        images: x ``(n, *domain_shape)`` in the prior's unit.
        data: y ``(n, *range_shape)`` that belong to them; None simulates them afresh at each step.
        network: see `Correction`; None for a `LinearBank` (vectors) or a small `UNet` (2-D images).
        steps, batch, rate: of Adam; the paper trains 100 to 200 epochs on 1000 images with 1e-3.

    Raises:
        InputError: the operator is nonlinear, the noise not Gaussian, steps, batch or rate are not above 0, or no
            network is known for events of this rank. ShapeError: images or data do not fit the operator.
    """
    op, noise = measurement.operator, measurement.noise
    if not isinstance(op, LinearOperator) or not isinstance(noise, Gaussian):
        raise InputError(f"DEFT needs a linear operator and Gaussian noise; got {op!r} and {type(noise).__name__}")
    if min(steps, batch, rate) <= 0:
        raise InputError(f"fit_deft got steps {steps}, batch {batch}, rate {rate}; expected numbers above 0")
    if tuple(images.shape[1:]) != tuple(op.domain_shape) or len(images) == 0:
        raise ShapeError(
            f"images has shape {tuple(images.shape)}; it expects (n, {', '.join(map(str, op.domain_shape))})"
        )
    if data is not None and tuple(data.shape) != (len(images), *op.range_shape):
        raise ShapeError(f"data has shape {tuple(data.shape)}; it expects {(len(images), *op.range_shape)}")
    weight = float(torch.as_tensor(1 / noise.variance(measurement.y)).max())
    with torch.random.fork_rng(devices=[]):  # first weights follow rng too
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=rng, device=rng.device)))
        correction = Correction(network or _network(op), weight * op.norm() ** 2).to(images.device)
    optimiser = torch.optim.Adam(correction.parameters(), rate)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1e-3, steps)
    low, high = math.log(prior.sigma_min), math.log(prior.sigma_max)
    with torch.inference_mode(False), torch.enable_grad():
        for _ in range(steps):
            pick = torch.randint(len(images), (batch,), generator=rng, device=rng.device).to(images.device)
            x = images[pick]
            with torch.no_grad():
                y = noise.sample(op.forward(x), rng) if data is None else data[pick]
                uniform = torch.rand(batch, generator=rng, device=rng.device).to(x.device, x.real.dtype)
                sigma = torch.exp(low + (high - low) * uniform)
                level = sigma.reshape(-1, *[1] * (x.ndim - 1))
                noisy = x + level * Gaussian(1.0).sample(torch.zeros_like(x), rng)
                x0 = prior.denoise(noisy, sigma).detach()
            deft = DEFT(prior, Measurement(y, op, noise, batched=True), correction)
            error = (deft.corrected(noisy, x0, sigma) - x).abs() ** 2
            loss = (error * (1 / level**2 + 1 / prior.scale**2)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
    return correction.eval().requires_grad_(False)


def _network(op: LinearOperator) -> nn.Module:
    channels = op.domain_shape[0] * (2 if op.domain == "complex" else 1)
    if len(op.domain_shape) == 1:
        return LinearBank(channels)
    if len(op.domain_shape) != 3:
        raise InputError(f"events {tuple(op.domain_shape)} have no default network for DEFT; pass network=")
    from invdiff.networks.unet import UNet

    return UNet(FEATURES * channels, channels, (32, 48), blocks=1, embedding=64)  # its last layer starts at zero
