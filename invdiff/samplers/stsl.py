"""STSL: a few gradient steps on a second-order surrogate loss at each noise level, then a DDIM step."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, _leaf
from invdiff.guidance.pseudo_inverse import PseudoInverse
from invdiff.linalg import inner
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.samplers.latent import encoded_pseudo_inverse, is_latent
from invdiff.schedules import karras
from invdiff.solvers.base import State

__all__ = ["STSL"]

LOWEST = 0.04  # where the paper's noise levels end, in units of the prior's scale


class STSL:
    """Second-order Tweedie sampling from surrogate loss, in pixel space or (with a `LatentPrior`) that of latents.

    With the variance-preserving variable ``z = a x / s``, ``a = 1/sqrt(1 + sigma^2/s^2)``, s the prior's `scale`, and
    ``score(z) = (a D/s - z)/(1 - a^2)``, each noise level makes `inner_steps` steps ``z <- z - grad_z L`` on

        ``L = lambda |y - A D(z)|^2 / (|A| s)^2 + (eta/d) e^T (score(z + e) - score(z))``,   e ~ N(0, I) afresh,

    then a DDIM step. The second term is one Hutchinson draw of the trace of the score's Jacobian, smoothed over the
    width of e; d counts real components. It is zero under a Gaussian prior, whose score has a constant Jacobian, and
    no gain in posterior distance was found with exact scores (benchmarks/stsl_findings.py). The run starts from the
    DDIM inversion of ``A^+ y``; in latent space, of its code ``E(A^+ y)``, and A D becomes ``A decode(D)``.

    The term's weight grows as 1/sigma^2 without bound. The paper's 50 levels of Stable Diffusion end at
    ``1 - a^2 = 0.0017``; below, at sigma < 0.04 s, the term is left out.

    Counts: an inner step is two network evaluations and two gradients (one each with eta = 0), the inversion and the
    DDIM step one evaluation each, and each level two gradients more for the bound on lambda below.

    Args:
        strength: lambda. The paper tunes it by task in latent units. Where a direction varies more than s^2 a fixed
            lambda overshoots, so each example's is at most half of what minimises the misfit of the linearised model
            along the first gradient of the level.
        eta: weight of the second-order term; the paper uses 0.02.
        inner_steps: K; the paper uses 5.
        noise: eta of the DDIM step. The paper's is deterministic and, with an inverted start, gives one image
            whatever the seed; 1 draws ancestrally.
        inverted: start from the inversion; else from noise.
        nfe: network evaluations in all, ``levels (2 K + 2)``; the paper's 50 levels are 600. K is lowered where nfe
            does not reach for one level.

    Source: Rout, Chen, Kumar, Caramanis, Shakkottai and Chu, 2024, arXiv 2312.00852, eq. 4 and algorithm 1.
    Raises InputError for values out of range, and for a nonlinear operator on images with `inverted`.
    """

    exact_for, unit, uses_vjp = "none", 1, True
    name = "stsl"

    def __init__(
        self,
        strength: float = 0.15,
        eta: float = 0.02,
        inner_steps: int = 5,
        noise: float = 1.0,
        inverted: bool = True,
        nfe: int = 600,
    ) -> None:
        if strength <= 0 or eta < 0 or inner_steps < 1 or not 0 <= noise <= 1:
            raise InputError(
                f"STSL got strength {strength}, eta {eta}, inner_steps {inner_steps}, noise {noise}; expected"
                " strength > 0, eta >= 0, inner_steps >= 1 and noise from 0 to 1"
            )
        fixed, each = (2 if inverted else 1), (2 if eta > 0 else 1)
        if nfe < fixed + each:
            raise InputError(f"nfe = {nfe}; stsl needs at least {fixed + each} network evaluations")
        self.inner_steps = min(inner_steps, (nfe - fixed) // each)
        self.levels = nfe // (fixed + each * self.inner_steps)
        self.strength, self.eta, self.noise, self.inverted, self.nfe = strength, eta, noise, inverted, nfe
        self.counts = Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each noise level."""
        op = measurement.operator
        size = prior.scale * (op.norm() if isinstance(op, LinearOperator) else 1.0)
        sigmas = karras(prior.sigma_min, prior.sigma_max, self.levels)
        if resume is not None:
            x, first = resume.x, resume.step
        else:
            first = 0
            x = self._inverted(prior, measurement, like, sigmas) if self.inverted else start(like, sigmas[0], rng)
        for i in range(first, self.levels):
            t, s = sigmas[i], sigmas[i + 1]
            strength: Tensor | None = None
            for _ in range(self.inner_steps):
                x, strength = self._inner_step(prior, measurement, x, t, size, strength, rng)
            x0 = self._denoise(prior, x, t)
            fresh = self.noise * s * math.sqrt(1 - (s / t) ** 2)
            x = x0 + math.sqrt(s**2 - fresh**2) / t * (x - x0)
            if s > 0 and self.noise > 0:
                x = x.add(rng.normal(x), alpha=fresh)
            yield State(i + 1, self.levels, s, x, x0)

    def _inner_step(
        self,
        prior: Prior,
        measurement: Measurement,
        x: Tensor,
        sigma: float,
        size: float,
        strength: Tensor | None,
        rng: Streams,
    ) -> tuple[Tensor, Tensor]:
        """One step down the surrogate loss, and lambda of each example (found in the level's first step)."""
        chain = math.sqrt(prior.scale**2 + sigma**2)  # dx/dz = s/a
        probe = rng.normal(x)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = _leaf(x)
            x0 = self._denoise(prior, leaf, sigma)
            r = measurement.residual(x0)
            if strength is None:
                strength = self._bounded(measurement, leaf, x0, r, (chain / size) ** 2)
            misfit = (r.abs() ** 2).flatten(1).sum(1) / size**2
            loss = (strength * misfit).sum()
            if self.eta > 0 and sigma >= LOWEST * prior.scale:
                # e^T (score(z + e) - score(z)) less what does not depend on z; a/(s (1 - a^2)) = (s/a)/sigma^2
                difference = self._denoise(prior, leaf + chain * probe, sigma) - x0
                trace = (probe.conj() * difference).real.sum() * (chain / sigma**2)
                loss = loss + self.eta / _real_size(x) * trace
                self.counts.vjp += 1
            self.counts.vjp += 1
            (gradient,) = torch.autograd.grad(loss, leaf)
        return torch.add(x, gradient, alpha=-(chain**2)), strength

    def _bounded(self, measurement: Measurement, leaf: Tensor, x0: Tensor, r: Tensor, unit: float) -> Tensor:
        """Lambda, at most half of what minimises ``|r - 2 lambda unit A J g|``, with ``g = J^T A^H r``, J symmetric."""
        self.counts.vjp += 2
        (g,) = torch.autograd.grad(x0, leaf, _pull(measurement, x0, r), retain_graph=True)
        (jg,) = torch.autograd.grad(x0, leaf, g, retain_graph=True)
        with torch.no_grad():
            effect = measurement.operator.jvp(x0.detach(), jg)
            gain, cost = inner(effect, r), inner(effect, effect)
            limit = 0.25 * gain / (unit * cost.clamp_min(1e-300))
            return torch.where(gain > 0, limit.clamp(max=self.strength), 0).to(x0.real.dtype)

    def _inverted(self, prior: Prior, measurement: Measurement, like: Tensor, sigmas: list[float]) -> Tensor:
        """DDIM run backwards from ``A^+ y`` at the lowest noise level to the highest, one evaluation a level."""
        if is_latent(measurement):
            image = encoded_pseudo_inverse(measurement, "stsl")
        else:
            image = PseudoInverse(measurement, "stsl")(measurement.data)
        x = image.expand_as(like).to(like.dtype).clone()
        levels = [*sigmas[-2::-1], sigmas[0]]
        for low, high in zip(levels[:-1], levels[1:], strict=True):
            x0 = self._denoise(prior, x, low)
            x = x0 + (high / low) * (x - x0)
        return x

    def _denoise(self, prior: Prior, x: Tensor, sigma: float) -> Tensor:
        self.counts.nfe += 1
        return prior.denoise(x, torch.full((1,), sigma, dtype=x.real.dtype, device=x.device))


def _pull(measurement: Measurement, x0: Tensor, r: Tensor) -> Tensor:
    """``J_A^H r``, the data's side of the gradient."""
    return measurement.operator.vjp(x0.detach(), r.detach())


def _real_size(x: Tensor) -> int:
    return x[0].numel() * (2 if x.is_complex() else 1)
