"""PSLD: DPS in latent space, with a term that glues the decoded image to what A cannot see of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, _leaf
from invdiff.guidance.pseudo_inverse import PseudoInverse
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.samplers.latent import parts
from invdiff.schedules import karras
from invdiff.solvers.base import State

__all__ = ["PSLD"]


class PSLD:
    """``z_s = ancestral(z_t, z0) - sqrt((1+s^2)(1+t^2)) grad_{z_t} [omega |y - A D(z0)| + gamma |z0 - E(glued)|]``.

    ``z0 = E[z0 | z_t]``, D and E decode and encode, and ``glued = A^+ y + (I - A^+ A) D(z0)`` is the decoded image with
    what the data say put in: without the second term many latents fit the data whose images no encoder would give (the
    paper writes A^T for A^+, which is the same for the orthogonal rows it assumes). The gradient is taken in the
    variance-preserving variable, as in `invdiff.samplers.dps`; each norm is each draw's own. The noise level of the
    data is not used, as published.

    Args:
        omega, gamma: weights of the two terms, in units of the latents' and (omega) of the data's residual norm; 1 and
            0.1 are the published ones for latents of scale 1.
        nfe: number of steps; the paper uses 1000.

    Source: Rout, Raoof, Daras, Caramanis, Dimakis and Shakkottai, 2023, arXiv 2307.00619, algorithm 2.
    Raises InputError for values out of range; and in `steps` without a latent prior, or for a nonlinear operator.
    """

    name, exact_for, unit, uses_vjp = "psld", "none", 1, True

    def __init__(self, omega: float = 1.0, gamma: float = 0.1, nfe: int = 1000) -> None:
        if omega <= 0 or gamma < 0 or nfe < 1:
            raise InputError(f"PSLD got omega {omega}, gamma {gamma}, nfe {nfe}; expected omega > 0, gamma >= 0")
        self.omega, self.gamma, self.nfe, self.counts = omega, gamma, nfe, Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step."""
        op, autoencoder = parts(measurement, "psld")
        on_images = Measurement(measurement.y, op, measurement.noise, batched=measurement.batched)
        inverse = PseudoInverse(on_images, "psld")
        size = inverse.op.norm()
        sigmas = karras(prior.sigma_min, prior.sigma_max, self.nfe)
        x, first = (start(like, sigmas[0], rng), 0) if resume is None else (resume.x, resume.step)
        for i in range(first, self.nfe):
            t, s = sigmas[i], sigmas[i + 1]
            self.counts.nfe += 1
            self.counts.vjp += 1
            with torch.inference_mode(False), torch.enable_grad():
                leaf = _leaf(x)
                z0 = prior.denoise(leaf, torch.full((1,), t, dtype=x.dtype, device=x.device))
                image = autoencoder.decode(z0)
                residual = measurement.data.clone() - op.forward(image)
                loss = self.omega / size * _norm(residual)
                if self.gamma > 0:
                    loss = loss + self.gamma * _norm(z0 - autoencoder.encode(image + inverse(residual)))
                (gradient,) = torch.autograd.grad(loss.sum(), leaf)
            z0 = z0.detach()
            fresh = s * math.sqrt(1 - (s / t) ** 2)
            chain = prior.scale * math.sqrt((1 + (s / prior.scale) ** 2) * (1 + (t / prior.scale) ** 2))
            x = torch.lerp(z0, x, (s / t) ** 2) + fresh * rng.normal(x) - chain * gradient
            yield State(i + 1, self.nfe, s, x, z0)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), dim=1)
