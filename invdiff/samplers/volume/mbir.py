"""DiffusionMBIR: predictor and corrector slice by slice, then one ADMM sweep on the noisy volume."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance, NormalEquations
from invdiff.linalg import cg, power_norm
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start as noise
from invdiff.samplers.volume.admm import Split, slice_axis, start, sweep
from invdiff.schedules import geometric
from invdiff.solvers.base import State
from invdiff.solvers.langevin import langevin

__all__ = ["MBIR"]

SMALL_STEPS = 1000  # evaluations from which the published predictor is used


class MBIR:
    """``min_x |y - A x|^2/2 + lambda |D x|_1`` within a variance-exploding predictor-corrector.

    From level t to the next level s, on a geometric grid:

    1. predictor  ``x <- x + (t^2 - s^2) score + sqrt(t^2 - s^2) z``, with ``score = (E[x0|x] - x)/t^2``;
    2. corrector  one Langevin step of signal-to-noise ratio 0.16;
    3. data       ``x <- CG_1[(A^H A + rho D^H D) x = A^H y + rho D^H (d - u); x]``,
       ``d <- shrink(D x + u, lambda/rho)``, ``u <- u + D x - d``; d and u are zero at the beginning of
       the run and shared by all its steps.

    The data step acts on the noisy x, not on the denoised one, and does not know the noise level of the data.

    After the last step one pass ``x <- x + A^H (y - A x)/(A^H A 1)`` where x is real (as in the released CT script;
    there is none for MRI).

    Differences from the release, all without effect at its 2000 steps and noiseless data: the corrector uses the level
    that x has after the predictor; its step follows sigma, not the norms of a batch; D does not wrap from the last
    slice to the first. Below 1000 evaluations the predictor is the ancestral step
    ``x <- x0 + (s/t)^2 (x - x0) + s sqrt(1 - s^2/t^2) z``, which has the same limit: the published one leaves
    ``s^2 (s/t)^2 + t^2 - s^2`` for ``s^2``, far too much noise where steps are large.

    Args:
        nfe: network evaluations per slice, two a step (the release's 4000).
        rho: penalty over the largest eigenvalue of ``A^H A``: 10 for 8 views of 256 x 256 pixels is 0.005.
        threshold: ``lambda/rho`` in the prior's unit, over its standard deviation: 0.004 for images in [0, 1] whose
            deviation is about 0.25 is 0.016.
        snr: of the corrector.

    Draws differ less than those of the posterior: the penalty has no noise of its own, and neighbours are drawn
    together (docs/volumes.md).

    Source: Chung, Ryu, McCann, Klasky and Ye, 2023, arXiv 2211.10655, algorithm 2 (and its released code).
    """

    name, exact_for, unit, uses_vjp = "mbir", "none", 1, False

    def __init__(self, nfe: int = 4000, rho: float = 0.005, threshold: float = 0.016, snr: float = 0.16) -> None:
        if nfe < 1 or not (rho > 0 and threshold >= 0 and 0 < snr < 0.7):
            raise InputError(
                f"MBIR got nfe = {nfe}, rho = {rho}, threshold = {threshold}, snr = {snr}; expected at least 1, above"
                " 0, at least 0, and 0 to 0.7"
            )
        self.nfe, self.rho, self.threshold, self.snr = nfe, rho, threshold, snr
        self.counts = Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step; its memory is d and u."""
        network = Guidance(prior, measurement)
        network.counts = self.counts
        equations = NormalEquations(measurement, "MBIR")
        b = equations.information
        largest = power_norm(equations.precision, b, iterations=8).to(b.real.dtype)
        rho = self.rho * largest.reshape(-1, *(1,) * (b.ndim - 1))
        threshold = self.threshold * prior.scale
        axis = slice_axis(prior)
        sigmas = geometric(prior.sigma_min, prior.sigma_max, (self.nfe + 1) // 2)
        x = noise(like, sigmas[0], rng) if resume is None else resume.x
        state = State(0, len(sigmas) - 1, sigmas[0], x) if resume is None else resume
        while state.step < state.total:
            t, s = sigmas[state.step], sigmas[state.step + 1]
            x0 = network.denoise(state.x, t)
            x = self._predict(state.x, x0, t, s, rng)
            if s > 0:
                x, x0 = langevin(network.denoise, x, s, self.snr, rng)
            split: tuple[Tensor, ...] = ()
            if axis is None or x.shape[axis] < 2:  # nothing to couple
                x = cg(equations.precision, b.expand_as(x), x, iterations=1)
            else:
                split = Split(*state.memory) if state.memory else start(x, axis)
                x, split = sweep(
                    equations.precision, b, x, split, axis=axis, rho=rho, threshold=threshold, iterations=1
                )  # fmt: skip
            if s == 0 and not x.is_complex():
                x = _final(measurement, x)
            state = state.then(s, x, x0, split)
            yield state

    def _predict(self, x: Tensor, x0: Tensor, t: float, s: float, rng: Streams) -> Tensor:
        kept = (s / t) ** 2
        fresh = math.sqrt(t**2 - s**2)
        fresh = fresh if self.nfe >= SMALL_STEPS else fresh * s / t
        x = torch.lerp(x0, x, kept)
        return x.add_(rng.normal(x), alpha=fresh) if s > 0 else x


def _final(measurement: Measurement, x: Tensor) -> Tensor:
    """One pass of simultaneous iterative reconstruction, where ``A^H A 1`` is positive."""
    op = measurement.operator
    assert isinstance(op, LinearOperator)  # NormalEquations has seen to it
    column = op.normal(torch.ones_like(x))
    step = op.adjoint(measurement.residual(x))
    seen = column > 1e-3 * column.amax(tuple(range(1, x.ndim)), keepdim=True)
    return x + torch.where(seen, step / torch.where(seen, column, 1), 0)
