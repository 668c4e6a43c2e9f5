"""Twists for many data: the Gaussian belief is used through products, and solved by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from invdiff.guidance.base import Counts, spread2
from invdiff.linalg import inner
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.smc_data import WhiteData, as_events, denoise_with_vjp, normal_rows

__all__ = ["KrylovBelief", "KrylovTwist", "solve"]


@dataclass
class KrylovBelief:
    """The denoised image `mean` and what the data add to it, `pull`; `memory` is both, and both of the step before.

    Args:
        mean, pull: ``(N, *event)``. log_twist: ``(N,)``. memory: ``(N, 4, *event)``.
    """

    mean: Tensor
    pull: Tensor
    log_twist: Tensor
    memory: Tensor

    def pick(self, index: Tensor) -> KrylovBelief:
        """The belief of the particles ``index``."""
        return KrylovBelief(*(getattr(self, f.name)[index] for f in fields(self)))

    def move(self, x: Tensor, t: float, s: float, rng: Streams, before: float | None) -> tuple[Tensor, Tensor]:
        """A step of DPM-Solver++ 2M (SDE) towards ``mean + pull``; p is the same step towards `mean`.

        ``q = N(c x + (1 - c) e(mean + pull), a I)``, ``c = s^2/t^2``, ``a = s^2 (1 - c)``, e the linear extrapolation
        in log sigma by half a step; so with n the noise drawn ``log p/q = -|d|^2/2 - <d, n>``,
        ``d = (1 - c) e(pull)/sqrt(a)``. The last step, of no noise, goes to `mean + pull`, and its weight is left to
        the likelihood. Source: Lu et al., 2022, arXiv 2211.01095, for the extrapolation.
        """
        if s == 0:
            return self.mean + self.pull, -self.log_twist
        c = (s / t) ** 2
        a = s**2 * (1 - c)
        ahead = 0.0 if before is None else 0.5 * math.log(t / s) / math.log(before / t)
        mean = torch.lerp(self.memory[:, 2], self.mean, 1 + ahead)
        pull = torch.lerp(self.memory[:, 3], self.pull, 1 + ahead)
        n = as_events(normal_rows(rng, len(x), _size(x), x), x)
        d = ((1 - c) / math.sqrt(a)) * pull
        log_ratio = -0.5 * inner(d, d).double() - inner(d, n).double()
        return (c * x + (1 - c) * (mean + pull)).add(n, alpha=math.sqrt(a)), log_ratio - self.log_twist


class KrylovTwist:
    """``psi(x) = exp(-r^T M^-1 r / 2) det(M)^-1/2`` with r the whitened residual of D(x) and ``M = I + A V A^H``.

    Moments: ``V = sigma^2 J``; `pull` is ``V A^H M^-1 r``, and det(M) the product of the inverse steps of the conjugate
    gradients (exact once they are as many as the data; what is missing are eigenvalues near those of noise). PiGDM:
    ``V = r^2 I`` within M, whose determinant is then the same for all particles and left out; `pull` is
    ``sigma^2 J^T A^H M^-1 r``. A nonlinear A is linearised at D(x): good where its derivative changes
    little over the spread of x0, poor where it vanishes at the prior's mean (phase retrieval: use few data and
    `MomentTwist`).

    Source: Rozet et al., 2024, arXiv 2405.13712 (moments); Song et al., 2023, ICLR (PiGDM); Wu et al., 2023, arXiv
    2306.17775 (the twist).
    """

    def __init__(
        self,
        prior: Prior,
        measurement: Measurement,
        counts: Counts,
        particles: int,
        iterations: int,
        isotropic: bool,
    ) -> None:
        self.prior, self.data, self.counts, self.particles = prior, WhiteData(measurement), counts, particles
        self.iterations, self.isotropic = iterations, isotropic

    def grid(self, sigmas: list[float]) -> list[float]:
        """The noise levels as they are."""
        return sigmas

    def final(self, x: Tensor) -> Tensor:
        """``log p(y | x)``, shape ``(N,)``."""
        return self.data.log_likelihood(x)

    def __call__(self, x: Tensor, sigma: float, memory: Tensor | None, rng: Streams) -> KrylovBelief:
        """Return the belief at particles x ``(N, *event)``."""
        del rng
        x0, vjp = denoise_with_vjp(self.prior, x, sigma, self.counts, self.particles)
        r = self.data.residual(x0)

        def cov(w: Tensor) -> Tensor:
            return sigma**2 * vjp(self.data.adjoint(x0, w))

        def forward(v: Tensor) -> Tensor:
            return self.data.forward(x0, v)

        if self.isotropic:
            r2 = spread2(self.prior, sigma)
            u, _, _ = solve(lambda w: r2 * self.data.adjoint(x0, w), forward, r, self.iterations)
            pull, log_det = cov(u), torch.zeros((), device=x.device)
        else:
            u, pull, log_det = solve(cov, forward, r, self.iterations)
        log_twist = (-0.5 * inner(r, u) - 0.5 * log_det).double()
        now = torch.stack([x0, pull], 1)
        return KrylovBelief(x0, pull, log_twist, torch.cat([now, now if memory is None else memory[:, :2]], 1))


def _size(x: Tensor) -> int:
    return x[0].numel() * (2 if x.is_complex() else 1)


def solve(
    back: Callable[[Tensor], Tensor], forth: Callable[[Tensor], Tensor], rhs: Tensor, iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Conjugate gradients on ``M u = rhs``, ``M = I + forth back``: u ``(N, m)``, ``back(u)``, ``log det M`` ``(N,)``.

    The determinant is that of M on the Krylov space, ``prod_k 1/alpha_k`` over the steps alpha made. An example whose
    residual is spent, or that meets a direction without positive curvature, stays as it is.
    """
    u, p, r = torch.zeros_like(rhs), rhs, rhs
    image = torch.zeros((), dtype=rhs.dtype, device=rhs.device)
    rr = inner(r, r)
    enough = 1e-10 * rr  # beyond that, float32 steps say nothing about M
    log_det = torch.zeros_like(rr)
    for _ in range(iterations):
        back_p = back(p)
        q = p + forth(back_p)
        curvature = inner(p, q)
        active = (rr > enough) & (curvature > 0)
        step = torch.where(active, rr / torch.where(active, curvature, 1), 0)
        u, r = u + _by(step, p), r - _by(step, q)
        image = image + _by(step, back_p)
        log_det = log_det - torch.where(active, step, 1).log()
        rr, before = torch.where(active, inner(r, r), 0), rr
        p = r + _by(rr / torch.where(active, before, 1), p)
    return u, image, log_det


def _by(scale: Tensor, x: Tensor) -> Tensor:
    return scale.to(x.real.dtype).reshape(-1, *[1] * (x.ndim - 1)) * x
