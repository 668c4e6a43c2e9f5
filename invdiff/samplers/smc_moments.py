"""The moment-matched twist: x0 given x is Gaussian with the denoiser's own mean and covariance, in low-rank form."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from invdiff.guidance.base import Counts
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.smc_data import WhiteData, as_events, as_real, denoise_with_vjp, normal_rows

__all__ = ["MomentBelief", "MomentTwist", "log_normal"]

SMALL = 8  # events of up to so many real components have their whole covariance formed


@dataclass
class MomentBelief:
    """``x0 = mean + L z + sqrt(rest) (I - Q Q^T) z'`` and ``r = B z + n``, ``n ~ N(0, W)``, z and z' standard normal.

    Where A is linear, r is the whitened residual of the mean, ``B = S^-1/2 A L``, ``W = I``, and the rows of A lie in
    the span of Q; else see `MomentTwist`.

    Args:
        mean: the denoised image, ``(N, *event)``. factor: L ``(N, D, k)``. basis: Q ``(N, D, k)``.
        rest: variance outside the basis beyond L's, ``(N,)``. residual: r ``(N, m)``. seen: B ``(N, m, k)``.
        noise: W ``(N, m, m)``. memory: leading directions of L, ``(N, D, e)``.
        log_twist: ``log N(r; 0, W + B B^T)`` ``(N,)``.
    """

    mean: Tensor
    factor: Tensor
    basis: Tensor
    rest: Tensor
    residual: Tensor
    seen: Tensor
    noise: Tensor
    memory: Tensor
    log_twist: Tensor

    def pick(self, index: Tensor) -> MomentBelief:
        """The belief of the particles ``index``."""
        return MomentBelief(*(getattr(self, f.name)[index] for f in fields(self)))

    def move(self, x: Tensor, t: float, s: float, rng: Streams, before: float | None) -> tuple[Tensor, Tensor]:
        """Draw ``x_s ~ p(x_s | x_t, y)`` of the Gaussian belief; the weight is ``1 / p(y | x_s, x_t)``, also its.

        ``x_s = (1 - c) x0 + c x_t + sqrt(a) n``, ``c = s^2/t^2``, ``a = s^2 (1 - c)``: z is drawn given y, and
        ``p(y | x_s, x_t)`` follows from z given x_s, which is Gaussian.
        """
        del before
        count, size, k = self.factor.shape
        m = self.residual.shape[1]
        fresh = normal_rows(rng, count, size + k + m, x)
        n, z, e = fresh[:, :size, None], fresh[:, size : size + k, None], fresh[:, size + k :, None]
        # z given y: shift a draw (z, n) of the joint law by the gain times what it misses.
        miss = self.residual[..., None] - self.seen @ z - torch.linalg.cholesky(self.noise) @ e
        z = z + self.seen.mT @ torch.linalg.solve(self.noise + self.seen @ self.seen.mT, miss)

        c = (s / t) ** 2
        a = s**2 * (1 - c)
        inside = self.basis @ (self.basis.mT @ n)
        wide = (a + (1 - c) ** 2 * self.rest)[:, None, None]  # variance outside the basis
        shift = (1 - c) * (self.factor @ z) + math.sqrt(a) * inside + wide.sqrt() * (n - inside)
        moved = c * as_real(x).double() + (1 - c) * as_real(self.mean).double() + shift[..., 0]
        if s == 0:
            forecast = log_normal(self.residual - (self.seen @ z)[..., 0], self.noise)
            return as_events(moved, x), -forecast

        precise = self.basis.mT @ self.factor  # R^-1 L of the noise a inside the basis and `wide` outside
        inside = self.basis @ precise
        precise = inside / a + (self.factor - inside) / wide
        chol = torch.linalg.cholesky(
            torch.eye(k, dtype=torch.float64, device=x.device) + (1 - c) ** 2 * self.factor.mT @ precise
        )
        z_mean = torch.cholesky_solve((1 - c) * precise.mT @ shift, chol)
        root = torch.linalg.solve_triangular(chol, self.seen.mT, upper=False)
        forecast = log_normal(self.residual - (self.seen @ z_mean)[..., 0], self.noise + root.mT @ root)
        return as_events(moved, x), -forecast


class MomentTwist:
    """``psi(x) = N(y; A D(x), A V A^H + S)``, ``V = Cov[x0|x] = sigma^2 J``, J the denoiser's Jacobian.

    V is known on a few directions: the rows of A, the leading ones of the step before, and one random probe for the
    mean variance of all others; ``V ~ V Q (Q^T V Q)^-1 Q^T V + v (I - Q Q^T)`` (Nystrom) has the right V A^H. One
    gradient through the network each, so `m + directions + 1` a step, and D where the event has no more components:
    then V is whole, and every step is exact for a Gaussian prior.

    A nonlinear A is replaced by its linear regression on z over the 2 k points ``mean +- sqrt(k) L_j`` (A itself is
    evaluated there, not its derivative, which says nothing where it happens to vanish): the mean of A there gives r,
    its covariance with z gives B, and what z does not explain is added to the noise, in W.

    Source: Boys et al., 2023, arXiv 2310.06721 and Rozet et al., 2024, arXiv 2405.13712 for the moments; Wu et al.,
    2023, arXiv 2306.17775 for the twist; Arasaratnam and Haykin, 2009, IEEE Trans. Autom. Control 54, for the points.
    """

    def __init__(self, prior: Prior, measurement: Measurement, counts: Counts, particles: int, directions: int) -> None:
        self.prior, self.data, self.counts, self.particles = prior, WhiteData(measurement), counts, particles
        self.directions = directions
        self.linear = isinstance(measurement.operator, LinearOperator)
        self._rows: Tensor | None = None

    def grid(self, sigmas: list[float]) -> list[float]:
        """The noise levels as they are."""
        return sigmas

    def final(self, x: Tensor) -> Tensor:
        """``log p(y | x)``, shape ``(N,)``."""
        return self.data.log_likelihood(x)

    def __call__(self, x: Tensor, sigma: float, memory: Tensor | None, rng: Streams) -> MomentBelief:
        """Return the belief at particles x ``(N, *event)``."""
        x0, vjp = denoise_with_vjp(self.prior, x, sigma, self.counts, self.particles)
        rows = self._linearised(x0)
        count, size = len(x), as_real(x[:1]).shape[1]
        k = rows.shape[1] + self.directions + 1
        whole = size <= max(SMALL, k)
        if whole:
            basis = torch.eye(size, dtype=torch.float64, device=x.device).expand(count, size, size)
            memory = x.real.new_empty(count, 0)
        else:
            if memory is None:
                memory = normal_rows(rng, count, size * self.directions, x).reshape(count, size, -1)
            basis = _span(torch.cat([rows.mT.expand(count, -1, -1), memory], 2))

        def cov(v: Tensor) -> Tensor:
            return sigma**2 * as_real(vjp(as_events(v.contiguous(), x))).double()

        image = torch.stack([cov(basis[..., j]) for j in range(basis.shape[2])], 2)  # V Q
        factor = image @ _inverse_root(basis.mT @ image, torch.finfo(x.real.dtype).eps)
        rest = torch.zeros(count, dtype=torch.float64, device=x.device)
        if not whole:
            probe = normal_rows(rng, count, size, x)
            probe = probe - (basis @ (basis.mT @ probe[..., None]))[..., 0]
            left = (probe * cov(probe)).sum(1) - ((factor.mT @ probe[..., None]) ** 2).sum((1, 2))
            rest = (left / (probe**2).sum(1)).clamp_min(0)
            memory = image[..., -self.directions :]  # a step of subspace iteration towards the leading directions
        noise = torch.eye(rows.shape[1], dtype=torch.float64, device=x.device).expand(count, -1, -1)
        if self.linear:
            residual, seen = self.data.residual(x0).double()[:, self.data.measured], rows @ factor
        else:
            residual, seen, unexplained = self._regression(x0, factor)
            noise = noise + unexplained
        log_twist = log_normal(residual, noise + seen @ seen.mT)
        return MomentBelief(x0, factor, basis, rest, residual, seen, noise, memory, log_twist)

    def _regression(self, x0: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean residual ``(N, m)``, regression on z ``(N, m, k)`` and covariance left over ``(N, m, m)``."""
        k = factor.shape[2]
        steps = [sign * math.sqrt(k) * factor[..., j] for sign in (1, -1) for j in range(k)]
        images = [self.data.residual(x0 + as_events(step, x0)).double()[:, self.data.measured] for step in steps]
        r = torch.stack(images, 2)  # (N, m, 2 k)
        mean = r.mean(2)
        seen = (r[..., k:] - r[..., :k]) / (2 * math.sqrt(k))  # r falls where A rises
        r = r - mean[..., None]
        values, turn = torch.linalg.eigh(r @ r.mT / (2 * k) - seen @ seen.mT)
        return mean, seen, (turn * values.clamp_min(0)[:, None]) @ turn.mT

    def _linearised(self, x0: Tensor) -> Tensor:
        if not self.linear:
            return self.data.rows(x0)
        if self._rows is None:
            self._rows = self.data.rows(x0)
        return self._rows


def log_normal(r: Tensor, covariance: Tensor) -> Tensor:
    """``log N(r; 0, C) + m/2 log(2 pi)`` of r ``(N, m)`` and C ``(N, m, m)``."""
    chol = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(chol.expand(len(r), -1, -1), r[..., None], upper=False)
    return -0.5 * (white**2).sum((1, 2)) - chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _span(columns: Tensor) -> Tensor:
    """An orthonormal basis ``(N, D, k)`` of the columns, each brought to unit length first."""
    length = torch.linalg.vector_norm(columns, dim=1, keepdim=True)
    q, r = torch.linalg.qr(columns / length.clamp_min(torch.finfo(columns.dtype).tiny))
    return q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1, 1)[:, None]  # so it is a continuous function


def _inverse_root(gram: Tensor, eps: float) -> Tensor:
    """``(Q^T V Q)^-1/2``, symmetric, on the directions in which it is positive beyond rounding, 0 on the others.

    The symmetric root is a continuous function of V, even where eigenvectors are not.
    """
    values, turn = torch.linalg.eigh((gram + gram.mT) / 2)
    good = values > 10 * eps * values[:, -1:].clamp_min(0)
    root = torch.where(good, values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt(), 0)
    return (turn * root[:, None]) @ turn.mT
