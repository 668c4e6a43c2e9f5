"""DDNM+: the data replace what they determine, as far as their noise is below that of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts
from invdiff.guidance.pseudo_inverse import PseudoInverse
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.samplers.ddrm import spectral_step
from invdiff.samplers.spectrum import spectrum
from invdiff.schedules import ddpm
from invdiff.solvers.base import State

__all__ = ["DDNMPlus"]

Step = Callable[[Tensor, Tensor, float, float, Streams], Tensor]


class DDNMPlus:
    """``x0' = x0 + L A^+ (y - A x0)`` with L, and the noise drawn, such that each level has the variance it should.

    Where the operator's singular values s_i are at hand (`invdiff.samplers.spectrum.spectrum`) each direction has its
    own ``lambda_i = min(1, sqrt(1 - eta^2) s s_i/sigma_y)``, s the level stepped to; this is DDRM's step with
    ``eta_b = 1``. Elsewhere (multi-coil MRI, CT) it is the paper's simplified form: ancestral steps with one lambda,
    A^+ by conjugate gradients and the data's noise in x taken as ``n = sigma_y/|A|``,

        ``lambda = min(1, d/(a n))``, noise drawn ``sqrt(d^2 - (a lambda n)^2)``,   a = 1 - s^2/t^2, d^2 = s^2 a.

    Args:
        eta: the paper uses 0.85.
        repeats: r, how often a level is repeated after going back to it by adding noise (the paper's time travel of
            length 1); it uses 1 for most tasks, 3 for the hard ones.
        iterations: conjugate-gradient steps of A^+ in the simplified form.
        nfe: network evaluations in all; the paper uses 100. The levels are those of `invdiff.samplers.ddrm.DDRM`.

    Source: Wang, Yu and Zhang, 2023, arXiv 2212.00490, eq. 17-19, algorithm 2 and appendix I.
    Raises InputError: values out of range, a nonlinear operator, noise that is not Gaussian, or (in the simplified
    form) one level of noise for each datum.
    """

    exact_for, unit, uses_vjp = "none", 1, False
    name = "ddnm-plus"

    def __init__(self, eta: float = 0.85, repeats: int = 1, iterations: int = 10, nfe: int = 100) -> None:
        if not 0 <= eta <= 1 or repeats < 1 or iterations < 1 or nfe < repeats:
            raise InputError(
                f"DDNMPlus got eta = {eta}, repeats = {repeats}, iterations = {iterations}, nfe = {nfe}; expected eta"
                " from 0 to 1, the others at least 1 and nfe >= repeats"
            )
        self.eta, self.repeats, self.iterations, self.nfe = eta, repeats, iterations, nfe
        self.counts = Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each noise level."""
        step = self._step(measurement)
        total = self.nfe // self.repeats
        sigmas = ddpm(prior.sigma_min, prior.sigma_max, total, 0.5)
        x, first = (start(like, sigmas[0], rng), 0) if resume is None else (resume.x, resume.step)
        for i in range(first, total):
            t, s = sigmas[i], sigmas[i + 1]
            for k in range(self.repeats if s > 0 else 1):
                x = x if k == 0 else x.add(rng.normal(x), alpha=math.sqrt(t**2 - s**2))
                self.counts.nfe += 1
                x0 = prior.denoise(x, torch.full((1,), t, dtype=x.real.dtype, device=x.device))
                x = step(x, x0, t, s, rng) if s > 0 else x0
            yield State(i + 1, total, s, x, x0)

    def _step(self, measurement: Measurement) -> Step:
        try:
            known = spectrum(measurement, "DDNM+")
        except InputError:
            return self._simplified(measurement)
        return lambda x, x0, t, s, rng: spectral_step(known, x, x0, t, s, self.eta, 1.0, rng)

    def _simplified(self, measurement: Measurement) -> Step:
        op, noise = measurement.operator, measurement.noise
        if not isinstance(op, LinearOperator) or not isinstance(noise, Gaussian) or not isinstance(noise.sigma, float):
            raise InputError(
                f"DDNM+ needs a linear operator and Gaussian noise of one level; got {op!r} and {type(noise).__name__}"
            )
        inverse, level = PseudoInverse(measurement, "DDNM+", self.iterations), noise.sigma / op.norm()

        def step(x: Tensor, x0: Tensor, t: float, s: float, rng: Streams) -> Tensor:
            a = 1 - (s / t) ** 2
            deviation = s * math.sqrt(a)
            share = min(1.0, deviation / (a * level))
            x0 = x0 + share * inverse(measurement.residual(x0))
            fresh = math.sqrt(max(0.0, deviation**2 - (a * share * level) ** 2))
            return (a * x0 + (1 - a) * x).add(rng.normal(x), alpha=fresh)

        return step
