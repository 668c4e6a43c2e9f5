"""The twist for many data: guided steps as accurate as moment matching's, weighted by what is not Gaussian alone.

The ratio of two transition densities in D dimensions has discretisation errors of every dimension, and a population
collapses on them however right its draws are: of Gaussian priors with 16, 64 and 256 data behind 25 steps the
effective size falls to 0.39, 0.15 and 0.06 of the particles in a step. Here the weights are the difference of two
*predictions* of the data, which is 0 for a Gaussian prior at any number of data, steps and iterations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from invdiff.guidance.base import Counts
from invdiff.linalg import Map, cg, inner
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams, generator
from invdiff.samplers.smc_data import WhiteData, as_events, denoise_with_vjp, normal_rows
from invdiff.samplers.smc_krylov import solve
from invdiff.solvers.dpmpp import DAMPING, extrapolation

__all__ = ["WHOLE", "ClosureBelief", "ClosureTwist"]

WHOLE = 64  # data up to which the first look forms their covariance, so that the mean weight is the evidence


@dataclass
class ClosureBelief:
    """The denoised image `mean` and what the data add to it, `pull`, at one noise level.

    Args:
        mean, pull: ``(N, *event)``. log_twist: change of the log-weight, ``(N,)``. memory: what the next step compares
            with, ``(N, 9, *event)``: see `ClosureTwist`.
    """

    mean: Tensor
    pull: Tensor
    log_twist: Tensor
    memory: Tensor

    def pick(self, index: Tensor) -> ClosureBelief:
        """The belief of the particles ``index``."""
        return ClosureBelief(*(getattr(self, f.name)[index] for f in fields(self)))

    def move(self, x: Tensor, t: float, s: float, rng: Streams, before: float | None) -> tuple[Tensor, Tensor]:
        """A damped step of DPM-Solver++ 2M (SDE) towards ``mean + pull``; the weight follows with the next look.

        ``x_s = c x + (1 - c) e(mean + pull) + sqrt(a) n``, ``c = s^2/t^2``, ``a = s^2 (1 - c)``, e the extrapolation
        in log sigma. The first step starts from where the data say that pure noise should be centred.
        """
        none = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        now = self.mean + self.pull
        if s == 0:
            return now, none
        c = (s / t) ** 2
        ahead = 0.0 if before is None else extrapolation(before, t, s, DAMPING)
        guided = now + ahead * (now - self.memory[:, 2] - self.memory[:, 3])
        n = as_events(normal_rows(rng, len(x), x[0].numel() * (2 if x.is_complex() else 1), x), x)
        return (c * self.memory[:, 4] + (1 - c) * guided).add(n, alpha=s * math.sqrt(1 - c)), none


class ClosureTwist:
    """Weights ``psi_s(x_s) / p(y | x_s, x_t)``: the data as x_s foretells them, over as x_t did once it knows x_s.

    With ``psi = N(y; A D, M)``, ``M = A V A^H + S``, ``V = sigma^2 J`` at either level, the Gaussian belief of x_t that
    has seen x_s has ``V' = (V_t^-1 + 1/tau^2)^-1`` and ``D' = D_t + V' (z - D_t)/tau^2``, where
    ``1/tau^2 = 1/s^2 - 1/t^2`` and ``z = (x_s - c x_t)/(1 - c)`` is x0 seen through noise tau. To second order in the
    differences, with ``p = A^H M^-1 (y - A D)``, ``g = A^H M^-1 e`` and ``k = A^H e``, e one fixed vector of signs
    (Hutchinson's trace),

        log w = <p_t, D_s - D'> + 1/2 <p_t, (V_s - V') p_s> - 1/4 <g_t + g_s, (V_s - V') k>.

    Under a Gaussian prior ``D' = D_s`` and ``V' = V_s``, term by term. Per step ``2 iterations + 2 inner + 1``
    gradients. What a finite step leaves out of the Gaussian belief is not in the weights: they are exact for any prior
    as steps, iterations and particles grow, up to the scatter of the trace.

    Args:
        iterations: conjugate-gradient steps in the space of the data. inner: those for V', of condition t^2/s^2.

    Source: the weights follow Wu et al., 2023, arXiv 2306.17775, for the Gaussian transition; the expansion is ours.
    """

    def __init__(
        self, prior: Prior, measurement: Measurement, counts: Counts, particles: int, iterations: int, inner: int = 3
    ) -> None:
        self.prior, self.data, self.counts, self.particles = prior, WhiteData(measurement), counts, particles
        self.iterations, self.inner = iterations, inner
        self.levels: list[float] = []

    def grid(self, sigmas: list[float]) -> list[float]:
        """The noise levels as they are; the twist looks one back and one ahead."""
        self.levels = sigmas
        return sigmas

    def final(self, x: Tensor) -> Tensor:
        """The constant of the likelihood: what x0 says of y at the last level it said before."""
        return self.data.constant.expand(len(x))

    def __call__(self, x: Tensor, sigma: float, memory: Tensor | None, rng: Streams) -> ClosureBelief:
        """Return the belief at particles x ``(N, *event)``."""
        del rng
        x0, vjp = denoise_with_vjp(self.prior, x, sigma, self.counts, self.particles)

        def variance(v: Tensor) -> Tensor:
            return sigma**2 * vjp(v)

        def back(w: Tensor) -> Tensor:
            return variance(self.data.adjoint(x0, w))

        def forth(v: Tensor) -> Tensor:
            return self.data.forward(x0, v)

        r = self.data.residual(x0)
        signs = (torch.randint(2, r.shape[1:], generator=generator(0)) * 2.0 - 1).to(r).expand_as(r).contiguous()
        whole = memory is None and r.shape[1] <= WHOLE
        u, pull, log_det = (_whole if whole else solve)(back, forth, r, self.iterations)
        v, _, _ = solve(back, forth, signs, self.iterations)
        p, g, k = self.data.adjoint(x0, u), self.data.adjoint(x0, v), self.data.adjoint(x0, signs)
        spread = variance(k)
        i = self.levels.index(sigma)
        if memory is None:
            # Pure noise knows nothing of the data yet: it is moved to where p(x | y) is. The weight of that is p(y),
            # the same for all; solved short, what would differ is the solver's error.
            log_w = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            if whole:
                log_w = -0.5 * (inner(r, u) + log_det) + (0.5 * inner(pull, pull) - inner(pull, x)) / sigma**2
            shift = x0 + pull
            here, mean, past = x + shift, x0 + vjp(shift), torch.stack([x0, pull], 1)
        else:
            log_w = self._change(memory, self.levels[i - 1], sigma, x, x0, pull, p, g, spread)
            here, mean, past = x, x0, memory[:, :2]
        after = self.levels[i + 1]
        seen, seen_k = pull, spread
        if after > 0:
            precision = 1 / after**2 - 1 / sigma**2
            seen, seen_k = (self._narrowed(variance, rhs, precision) for rhs in (pull, spread))
        kept = torch.stack([here, mean, p, seen, g, seen_k], 1)
        held = torch.cat([torch.stack([x0, pull], 1), past, kept[:, :1], kept[:, 1:]], 1)
        return ClosureBelief(x0, pull, log_w.double(), held)

    def _narrowed(self, variance: Map, image: Tensor, precision: float) -> Tensor:
        """``(I + precision V)^-1 image``."""
        return cg(lambda v: v + precision * variance(v), image, iterations=self.inner, real=True)

    def _change(
        self,
        memory: Tensor,
        t: float,
        s: float,
        x: Tensor,
        x0: Tensor,
        pull: Tensor,
        p: Tensor,
        g: Tensor,
        spread: Tensor,
    ) -> Tensor:
        x_t, mean, p_t, seen, g_t, seen_k = memory[:, 4:].unbind(1)
        c = (s / t) ** 2
        z = (x - c * x_t) / (1 - c)
        first = inner(p_t, x0 - mean) - (1 / s**2 - 1 / t**2) * inner(seen, z - mean)
        return first + 0.5 * (inner(p_t, pull) - inner(p, seen)) + 0.25 * inner(g_t + g, seen_k - spread)


def _whole(back: Map, forth: Map, rhs: Tensor, _: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `solve` returns, from the matrix of ``I + forth back``, a product for each of its columns."""
    eye = torch.eye(rhs.shape[1], dtype=rhs.dtype, device=rhs.device)
    columns = [forth(back(e.expand_as(rhs).contiguous())) for e in eye]
    matrix = torch.stack(columns, 2).double()
    chol = torch.linalg.cholesky(eye.double() + (matrix + matrix.mT) / 2)
    u = torch.cholesky_solve(rhs.double()[..., None], chol)[..., 0].to(rhs)
    return u, back(u), 2 * chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
