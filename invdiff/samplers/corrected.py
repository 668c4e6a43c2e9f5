"""Importance weights for a guided sampler: how much each draw counts, whatever guided it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance
from invdiff.linalg import inner
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.samplers.smc_data import WhiteData
from invdiff.schedules import karras
from invdiff.solvers.base import State

__all__ = ["Corrected"]


class Corrected:
    """A guidance under DPM-Solver++ 2M (SDE), each draw with the weight of its whole path.

    The steps of the guided and of the unguided chain are Gaussians of the same variance, so with n the noise drawn

        log w = log p(y | x_0) + sum_t [-|d_t|^2 / 2 - <d_t, n_t>],   d_t = (1 - c) e(G - D) / sqrt(a),

    G the guided and D the prior's denoised image, ``c = s^2/t^2``, ``a = s^2 (1 - c)``, e the solver's extrapolation:
    the draws, weighted, are draws of the posterior of the discretised prior, whatever the guidance, and their mean
    weight estimates the evidence. `ess` of the posterior says how good the guidance was; where it is about 1 (many
    data, poor guidance) the weights repair nothing. The last step, which draws nothing, is taken as it is: its error
    vanishes with sigma_min. D is what the guidance itself evaluates: no evaluation is added.

    Args:
        guidance: ``(prior, measurement) -> Guidance``. nfe: steps. uses_vjp, name: as in `Guided`.

    Source: the weights of Wu et al., 2023, arXiv 2306.17775, without resampling; Lu et al., 2022, arXiv 2211.01095.
    """

    exact_for, unit = "any", 1

    def __init__(
        self,
        guidance: Callable[[Prior, Measurement], Guidance],
        nfe: int = 100,
        uses_vjp: bool = True,
        name: str = "corrected",
    ) -> None:
        if nfe < 1:
            raise InputError(f"Corrected got nfe = {nfe}; expected at least 1")
        self.guidance, self.nfe, self.uses_vjp, self.name = guidance, nfe, uses_vjp, name
        self.counts = Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step; the last one has the weights."""
        seen = _Seen(prior)
        guidance = self.guidance(seen, measurement)
        guidance.counts = self.counts
        guidance.begin()
        sigmas = karras(prior.sigma_min, prior.sigma_max, self.nfe)
        if resume is None:
            x, first = start(like, sigmas[0], rng), 0
            log_w = torch.zeros(len(like), dtype=torch.float64, device=like.device)
            before: tuple[Tensor, Tensor] | None = None
        else:
            x, first = resume.x, resume.step
            log_w, *rest = resume.memory
            before = (rest[0], rest[1])
            guidance.restore(tuple(rest[2:]))

        for i in range(first, self.nfe):
            t, s = sigmas[i], sigmas[i + 1]
            guided = guidance(x, t)
            if seen.x0 is None:
                raise InputError(f"{type(guidance).__name__} did not ask the prior for a denoised image")
            mean, pull = seen.x0, guided - seen.x0
            if s == 0:
                break
            c = (s / t) ** 2
            a = s**2 * (1 - c)
            ahead = 0.0 if i == 0 else 0.5 * math.log(t / s) / math.log(sigmas[i - 1] / t)
            mean_before, pull_before = before or (mean, pull)
            d = ((1 - c) / math.sqrt(a)) * torch.lerp(pull_before, pull, 1 + ahead)
            n = rng.normal(x)
            x = c * x + (1 - c) * torch.lerp(mean_before, mean, 1 + ahead) + math.sqrt(a) * (d + n)
            log_w = log_w - 0.5 * inner(d, d).double() - inner(d, n).double()
            before = (mean, pull)
            yield State(i + 1, self.nfe, s, x, guided, (log_w, mean, pull, *guidance.carried()))
        log_w = log_w + WhiteData(measurement).log_likelihood(guided)
        yield State(self.nfe, self.nfe, 0.0, guided, guided, log_weight=log_w)


class _Seen(Prior):
    """A prior that remembers the denoised image of the last call."""

    def __init__(self, prior: Prior) -> None:
        self.inner = prior
        self.domain, self.sample_shape, self.scale = prior.domain, prior.sample_shape, prior.scale
        self.sigma_min, self.sigma_max, self.units = prior.sigma_min, prior.sigma_max, prior.units
        self.x0: Tensor | None = None

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Pass on, and remember."""
        out = self.inner.denoise(x, sigma)
        self.x0 = out.detach()
        return out
