"""MCGDiff: the data as observations of the noisy image itself, in the singular basis of the operator; no gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.smc_data import WhiteData, as_events, as_real, normal_rows

__all__ = ["SpectralBelief", "SpectralTwist"]


@dataclass
class SpectralBelief:
    """The denoised image `mean` ``(N, *event)`` and the observed coordinates: y_i = x_i at noise level tau_i.

    Args:
        right: the singular vectors ``(R, D)``. y, tau: ``(N or 1, R)`` and ``(R,)``, in the unit of x.
        log_twist, memory: as `invdiff.samplers.smc.Belief`; nothing is remembered.
    """

    mean: Tensor
    log_twist: Tensor
    memory: Tensor
    y: Tensor
    right: Tensor
    tau: Tensor

    def pick(self, index: Tensor) -> SpectralBelief:
        """The belief of the particles ``index``."""
        return SpectralBelief(
            self.mean[index], self.log_twist[index], self.memory[index], self.y[index], self.right, self.tau
        )

    def move(self, x: Tensor, t: float, s: float, rng: Streams, before: float | None) -> tuple[Tensor, Tensor]:
        """An ancestral step whose observed coordinates are drawn from the product of the step and the twist.

        ``x_s ~ N(m, a)``, ``m = c x + (1 - c) D``, and where ``tau_i <= s`` times ``N(y_i; x_i, v)``,
        ``v = s^2 - tau_i^2``: mean ``K y_i + (1 - K) m_i``, variance ``(1 - K) a``, ``K = a / (a + v)``.
        """
        del before
        c = (s / t) ** 2
        a = s**2 * (1 - c)
        moved = c * as_real(x).double() + (1 - c) * as_real(self.mean).double()
        if s == 0:
            return as_events(moved, x), -self.log_twist
        n = normal_rows(rng, len(x), moved.shape[1], x)
        m_i, n_i = moved @ self.right.mT, n @ self.right.mT
        ahead = self.tau <= s
        v = (s**2 - self.tau**2).clamp_min(0)
        gain = torch.where(ahead, a / (a + v), 0)
        x_i = gain * self.y + (1 - gain) * m_i + ((1 - gain) * a).sqrt() * n_i
        moved = moved + math.sqrt(a) * n + (x_i - m_i - math.sqrt(a) * n_i) @ self.right
        log_ratio = torch.where(ahead, _log_normal(self.y - m_i, a + v), 0).sum(1)
        log_ratio = log_ratio - _potential(self.y, x_i, s, self.tau)
        return as_events(moved, x), log_ratio - self.log_twist


class SpectralTwist:
    """``psi_t(x) = prod_i N(y_i; x_i, t^2 - tau_i^2)`` over the singular directions whose noise tau_i is below t.

    With ``S^-1/2 A = U diag(s) V^T``, ``y_i = (U^T S^-1/2 y)_i / s_i`` is x_i plus noise of deviation
    ``tau_i = 1/s_i``: the diffused x at level tau_i. There the particle's coordinate is set to y_i, before that it is
    drawn towards it. The noise grid is made to hold the tau_i: each takes the place of the nearest level. Data noisier
    than the first level say nothing and are left out; none counts as more precise than the last level above 0. The
    paper adds a small kappa to the twist's variance; here it is 0.

    Source: Cardoso, Janati, Le Corff and Moulines, 2023, arXiv 2308.07983, algorithm 1 and section 3.2.

    Raises:
        InputError: the operator is nonlinear, or holds several problems.
    """

    def __init__(self, prior: Prior, measurement: Measurement, counts: Counts, particles: int) -> None:
        op = measurement.operator
        if not isinstance(op, LinearOperator) or op.n_problems > 1:
            raise InputError(f"MCGDiff needs one linear operator for all problems; got {op!r}")
        self.prior, self.counts, self.particles = prior, counts, particles
        data = WhiteData(measurement)
        zero = torch.zeros(1, *op.domain_shape, dtype=_dtype(measurement), device=measurement.y.device)
        u, s, right = torch.linalg.svd(data.rows(zero)[0], full_matrices=False)
        kept = s > 1e-6 * s[0]
        self.singular, self.right, u = s[kept], right[kept], u[:, kept]
        white = data.residual(zero.expand(measurement.n_problems, *op.domain_shape)).double()[:, data.measured]
        seen = white @ u
        self.y, self.tau = seen / self.singular, 1 / self.singular
        outside = (white**2).sum(1) - (seen**2).sum(1)  # data that no x can explain
        self.constant = data.constant - 0.5 * outside + 0.5 * len(self.singular) * math.log(2 * math.pi)

    def grid(self, sigmas: list[float]) -> list[float]:
        """The noise grid with the nearest level to each tau_i moved there."""
        levels = torch.tensor(sigmas[:-1], dtype=torch.float64)
        self.tau = self.tau.clamp_min(sigmas[-2])
        informative = self.tau < sigmas[0]
        taken: dict[int, float] = {}
        snapped = self.tau.clone()
        for i, tau in enumerate(self.tau.tolist()):
            if tau >= sigmas[0]:
                continue  # it must not lift a level above the first
            near = int((levels.log() - math.log(tau)).abs()[1:].argmin()) + 1
            snapped[i] = taken.setdefault(near, tau)  # two that share a level share its noise
        # What is left out is counted as known to the prior alone: its evidence at the first level.
        first = sigmas[0] ** 2 + self.tau[~informative] ** 2
        dropped = _log_normal(self.y[:, ~informative], first).sum(1)
        self.constant = self.constant - self.singular.log().sum() + dropped
        self.tau, self.y, self.right = snapped[informative], self.y[:, informative], self.right[informative]
        return [taken.get(k, level) for k, level in enumerate(sigmas)]

    def final(self, x: Tensor) -> Tensor:
        """What turns the density of the y_i into that of y; the particles have met all data, ``(N,)``."""
        return self.constant.expand(len(x))

    def __call__(self, x: Tensor, sigma: float, memory: Tensor | None, rng: Streams) -> SpectralBelief:
        """Return the belief at particles x ``(N, *event)``."""
        del memory, rng
        self.counts.nfe += self.particles
        x0 = self.prior.denoise(x, torch.full((1,), sigma, dtype=x.real.dtype, device=x.device))
        y = self.y.expand(len(x), -1)
        log_twist = _potential(y, as_real(x).double() @ self.right.mT, sigma, self.tau)
        return SpectralBelief(x0, log_twist, x.real.new_empty(len(x), 0), y, self.right, self.tau)


def _potential(y: Tensor, x: Tensor, sigma: float, tau: Tensor) -> Tensor:
    v = sigma**2 - tau**2
    return torch.where(v > 0, _log_normal(y - x, v.clamp_min(1e-300)), 0).sum(1)


def _log_normal(r: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * r**2 / variance - 0.5 * (2 * math.pi * variance).log()


def _dtype(measurement: Measurement) -> torch.dtype:
    real = measurement.y.real.dtype
    return real.to_complex() if measurement.operator.domain == "complex" else real
