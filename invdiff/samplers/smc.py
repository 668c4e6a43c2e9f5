"""Twisted sequential Monte Carlo: weighted populations that are exact for any prior as they grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.mcgdiff import SpectralTwist
from invdiff.samplers.resampling import effective_size, log_mean_exp, systematic, tempered
from invdiff.samplers.smc_closure import WHOLE, ClosureTwist
from invdiff.samplers.smc_krylov import KrylovTwist
from invdiff.samplers.smc_moments import MomentTwist
from invdiff.schedules import karras
from invdiff.solvers.base import State

__all__ = ["SMC", "Belief", "Twist", "resampled"]

TWISTS = ("auto", "moments", "closure", "krylov", "pigdm", "mcgdiff")
LIVELY = 0.7  # share of a population that has to stay effective in a step where data are many
FEW_DATA = 16  # real data up to which the moment-matched covariance is formed one gradient a datum


class Belief(Protocol):
    """What a twist holds of x0 and y at the particles ``(N, *event)`` of one noise level.

    `mean` is the denoised image, `log_twist` the log of the approximate ``p(y | x)`` ``(N,)``, `memory` what the next
    call of the twist wants to know, ``(N, ...)``.
    """

    mean: Tensor
    log_twist: Tensor
    memory: Tensor

    def pick(self, index: Tensor) -> Belief:
        """The belief of the particles ``index``."""
        ...

    def move(self, x: Tensor, t: float, s: float, rng: Streams, before: float | None) -> tuple[Tensor, Tensor]:
        """Draw ``x_s ~ q`` and return it with ``log p(x_s | x) - log q(x_s | x) - log_twist``, shape ``(N,)``.

        `before` is the noise level of the step before, None in the first.
        """
        ...


class Twist(Protocol):
    """``(x, sigma, memory) -> Belief``; `final` is the log-likelihood of the data, the last twist.

    `grid` may move levels of the noise grid (descending, 0 last) to where the method needs them.
    """

    def grid(self, sigmas: list[float]) -> list[float]:
        """The noise levels of the run."""
        ...

    def __call__(self, x: Tensor, sigma: float, memory: Tensor | None, rng: Streams) -> Belief:
        """Look at particles x ``(N, *event)``."""
        ...

    def final(self, x: Tensor) -> Tensor:
        """``log p(y | x)`` at sigma = 0, shape ``(N,)``."""
        ...


class SMC:
    """Populations of particles that follow the reverse diffusion, drawn and weighted by what the data say.

    With ``p(x_s | x_t)`` the prior's reverse step, ``psi_t(x) ~ p(y | x_t = x)`` the twist and q a proposal that looks
    ahead through it,

        x_s ~ q(. | x_t),   w <- w p(x_s | x_t) psi_s(x_s) / (psi_t(x_t) q(x_s | x_t)),   psi_0(x) = p(y | x),

    and where a population's effective size falls below `threshold` of its particles they are resampled. The
    weighted particles are exact draws as their number grows, whatever the twist, up to the error of the prior's own
    reverse steps; the mean weight is an unbiased estimate of the evidence ``p(y)`` of that discretised prior.

    A population of ``unit * particles`` is resampled at the end to `unit` draws that share its mean weight as their
    `log_weight`; with ``keep_weights`` the particles themselves are the draws, each with its own weight.

    Args:
        nfe: network evaluations per draw; the number of steps is ``nfe // particles``.
        unit: draws of one population.
        particles: particles per draw.
        twist: "moments" (the denoiser's own covariance, one gradient a datum and a few more a step; any number of data
            but meant for few), "closure" (the same by conjugate gradients, see `ClosureTwist`; linear operators),
            "krylov" (with ratios of transition densities, which collapse where data are many), "pigdm" (isotropic) or
            "mcgdiff" (see `invdiff.samplers.mcgdiff`; no gradient); "auto" is "moments" up to 16 real data, and beyond
            "closure", or "krylov" where the operator is nonlinear.
        directions: leading directions of the denoiser's covariance that "moments" follows beside the data's.
        iterations: conjugate-gradient steps of "closure", "krylov" and "pigdm".
        threshold: effective size over size that calls for resampling, 0 (never) to 1 (always).
        keep_weights: see above; needs ``particles = 1``.
        sigma_max, sigma_min, rho: the noise grid, `invdiff.schedules.karras`; None for the prior's own ends.

    With "closure" the weights are those of what is not Gaussian in the prior, to second order, and where a step's would
    leave less than 0.7 of a population effective they are shrunk to a power that does not; a run in which that happens
    often warns of it.

    Nonlinear operators are made linear inside the twist only ("moments" by regression, "krylov" and "pigdm" at the
    denoised image): the last weight is the exact likelihood.

    Source: Wu, Trippe, Naesseth, Blei and Cunningham, 2023, arXiv 2306.17775, algorithm 1.
    """

    exact_for = "any"

    def __init__(
        self,
        nfe: int = 100,
        unit: int = 8,
        particles: int = 2,
        twist: str = "auto",
        directions: int = 2,
        iterations: int = 20,
        threshold: float = 0.5,
        keep_weights: bool = False,
        sigma_max: float | None = None,
        sigma_min: float | None = None,
        rho: float = 7.0,
    ) -> None:
        if unit < 1 or particles < 1 or nfe < particles:
            raise InputError(f"SMC got {nfe=}, {unit=}, {particles=}; expected unit, particles >= 1, nfe >= particles")
        if twist not in TWISTS:
            raise InputError(f"SMC got twist {twist!r}; it expects one of {', '.join(TWISTS)}")
        if directions < 1 or iterations < 1 or not 0 <= threshold <= 1:
            raise InputError(
                f"SMC got {directions=}, {iterations=}, {threshold=}; expected at least 1, at least 1, and 0 to 1"
            )
        if twist == "mcgdiff" and nfe < 2 * particles:
            raise InputError(
                f"mcgdiff got {nfe=} for {particles} particles a draw; it expects at least {2 * particles}"
            )
        if keep_weights and particles > 1:
            raise InputError(f"SMC got keep_weights with {particles} particles per draw; expected particles = 1")
        self.nfe, self.unit, self.particles, self.twist = nfe, unit, particles, twist
        self.directions, self.iterations, self.threshold = directions, iterations, threshold
        self.keep_weights, self.sigma_max, self.sigma_min, self.rho = keep_weights, sigma_max, sigma_min, rho
        self.name = "mcgdiff" if twist == "mcgdiff" else "smc"
        self.uses_vjp = twist != "mcgdiff"
        self.counts = Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step; on the way its x is one particle a draw, at the end the draws."""
        if len(like) % self.unit:
            raise InputError(f"SMC got {len(like)} draws; it expects whole populations, a multiple of {self.unit}")
        many = measurement.take([n for n in range(len(like)) for _ in range(self.particles)])
        look, many_data = self._twist(prior, many), self._kind(measurement) == "closure"
        total = self.nfe // self.particles
        sigmas = karras(self.sigma_min or prior.sigma_min, self.sigma_max or prior.sigma_max, total, self.rho)
        sigmas = look.grid(sigmas)
        populations, size = len(like) // self.unit, self.unit * self.particles
        first, memory = 0, None
        if resume is None:
            x = sigmas[0] * rng.normal(like.repeat_interleave(self.particles, 0).unflatten(0, (len(like), -1)))
            x, log_w = x.flatten(0, 1), torch.zeros(populations, size, dtype=torch.float64, device=like.device)
        else:
            (x, log_w, memory), first = resume.memory, resume.step

        for i in range(first, total):
            t, s = sigmas[i], sigmas[i + 1]
            belief = look(x, t, memory, rng)
            gain = belief.log_twist.reshape(populations, size)
            log_w = log_w + (self._gain(gain) if many_data and memory is not None else gain)
            low = effective_size(log_w) < self.threshold * size
            index = systematic(log_w, _one_number(rng, like, populations))
            index = torch.where(low[:, None], index, torch.arange(size, device=index.device))
            log_w = torch.where(low[:, None], log_mean_exp(log_w)[:, None], log_w)
            rows = (index + size * torch.arange(populations, device=index.device)[:, None]).reshape(-1)
            x, belief = x[rows], belief.pick(rows)
            x, change = belief.move(x, t, s, rng, sigmas[i - 1] if i > 0 else None)
            log_w = log_w + change.reshape(populations, size)
            if s > 0:
                shown = slice(None, None, self.particles)  # one particle a draw
                yield State(i + 1, total, s, x[shown], belief.mean[shown], (x, log_w, belief.memory))
            memory = belief.memory
        log_w = log_w + look.final(x).reshape(populations, size)
        yield self._last(x, log_w, like, rng)

    def _gain(self, log_twist: Tensor) -> Tensor:
        """What a look of many data adds to the log-weights: no more than leaves `LIVELY` of a population."""
        log_twist, powers = tempered(log_twist, LIVELY)
        self.counts.weighed += 1
        self.counts.shrunk += bool((powers < 1).any())
        return log_twist

    def knows_evidence(self, measurement: Measurement) -> bool:
        """Whether the mean weight is ``p(y)``: of many data the determinants in it are cut short."""
        return self._kind(measurement) != "closure" or measurement.count <= max(WHOLE, self.iterations)

    def _last(self, x: Tensor, log_w: Tensor, like: Tensor, rng: Streams) -> State:
        total = self.nfe // self.particles
        if self.keep_weights:
            return State(total, total, 0.0, x, log_weight=log_w.reshape(-1))
        draws, log_weight = resampled(x, log_w, self.unit, rng, like)
        return State(total, total, 0.0, draws, log_weight=log_weight)

    def _kind(self, measurement: Measurement) -> str:
        if self.twist != "auto":
            return self.twist
        if measurement.count <= FEW_DATA:
            return "moments"
        return "closure" if isinstance(measurement.operator, LinearOperator) else "krylov"

    def _twist(self, prior: Prior, measurement: Measurement) -> Twist:
        kind = self._kind(measurement)
        if kind == "mcgdiff":
            return SpectralTwist(prior, measurement, self.counts, self.particles)
        if kind == "moments":
            return MomentTwist(prior, measurement, self.counts, self.particles, self.directions)
        if kind == "closure":
            return ClosureTwist(prior, measurement, self.counts, self.particles, self.iterations)
        return KrylovTwist(prior, measurement, self.counts, self.particles, self.iterations, kind == "pigdm")


def resampled(x: Tensor, log_w: Tensor, unit: int, rng: Streams, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return `unit` draws of each population in random order, and the population's log mean weight for each."""
    populations, size = log_w.shape
    index = systematic(log_w, _one_number(rng, like, populations), unit)
    # In random order, because the comb goes through the particles in turn: the first few draws are as good as any.
    order = rng.uniform(like.real.new_empty(len(like), 1)).reshape(populations, unit).argsort(1)
    rows = index.gather(1, order) + size * torch.arange(populations, device=x.device)[:, None]
    return x[rows.reshape(-1)], log_mean_exp(log_w)[:, None].expand(populations, unit).reshape(-1)


def _one_number(rng: Streams, like: Tensor, populations: int) -> Tensor:
    return rng.uniform(like.real.new_empty(len(like), 1)).reshape(populations, -1)[:, 0]
