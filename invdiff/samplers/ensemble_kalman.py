"""EnKG: ensemble Kalman guidance; the ensemble's own covariances stand for the operator's derivative."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import start
from invdiff.schedules import karras
from invdiff.solvers import DDIM
from invdiff.solvers.base import State

__all__ = ["EnKG"]


class EnKG:
    """Euler steps of the probability-flow ODE; before each, the ensemble ``x_1..x_J`` is moved towards the data:

    ``x_j <- x_j - h sum_k C_jk (x_k - mean x)``,  ``C_jk = Re<G_j - y, G_k - mean G>_{S^-1} / J``,  ``G_j = A(c_j)``,
    c_j the end of the ODE from x_j. C replaces the derivative of A by the regression of G on x over the ensemble, so A
    is only evaluated, as a black box. Far from the data the step is the paper's, ``h = g / |C|_F``. That has the same
    length whatever the noise and never comes to rest, so near them h is at most one over the number of moves: ensemble
    Kalman inversion reaches the posterior of a Gaussian ensemble after the time 1, and all steps together take no more.

    The moves stay within the span of the ensemble, and its draws depend on each other; exact for no prior. Where x and
    -x give the same data (phase retrieval) the regression vanishes on average, and the ensemble goes astray.

    Args:
        nfe: network evaluations per draw in all, the ODEs included.
        ensemble: J; the official code uses 2048.
        scale: g; the official code uses 2, with which a single datum is overshot by as much as it was missed.
        updates: moves before each Euler step; the official code uses 2.
        stride: the ODE at i steps before the end takes ``1 + i // stride`` evaluations, 20 at most.

    Source: Zheng et al., 2024, arXiv 2409.20175, algorithm 1; the limit on h is ours.
    """

    name, exact_for, uses_vjp = "enkg", "none", False

    def __init__(
        self, nfe: int = 1000, ensemble: int = 64, scale: float = 1.0, updates: int = 2, stride: int = 8
    ) -> None:
        if nfe < 1 or ensemble < 2 or scale <= 0 or updates < 1 or stride < 1:
            raise InputError(
                f"EnKG got nfe = {nfe}, ensemble = {ensemble}, scale = {scale}, updates = {updates}, stride ="
                f" {stride}; expected at least 1, 2, above 0, 1 and 1"
            )
        self.nfe, self.unit, self.scale, self.updates, self.stride = nfe, ensemble, scale, updates, stride
        self.counts = Counts()

    def levels(self, prior: Prior) -> list[float]:
        """The noise levels: as many as `nfe` pays for."""
        steps = 1
        while sum(1 + self.updates * self._inner(i, steps + 1) for i in range(steps + 1)) <= self.nfe:
            steps += 1
        return karras(prior.sigma_min, prior.sigma_max, steps)

    def _inner(self, i: int, steps: int) -> int:
        """Evaluations of one ODE at step i; the first step, pure noise, is not guided."""
        return 0 if i == 0 else min(1 + (steps - i) // self.stride, 20)

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each Euler step."""
        network = Guidance(prior, measurement)
        network.counts = self.counts
        levels = self.levels(prior)
        total = len(levels) - 1
        x, first = (start(like, levels[0], rng), 0) if resume is None else (resume.x, resume.step)
        for i in range(first, total):
            t, s = levels[i], levels[i + 1]
            for _ in range(self.updates if i > 0 else 0):
                x = self._towards_data(network, x, t, self._inner(i, total), 1 / (self.updates * (total - 1)), rng)
            x0 = network.denoise(x, t)
            x = x0 + (s / t) * (x - x0)
            yield State(i + 1, total, s, x, x0)

    def _towards_data(
        self, network: Guidance, x: Tensor, t: float, evaluations: int, longest: float, rng: Streams
    ) -> Tensor:
        """One move of each ensemble."""
        end = x
        levels = karras(min(network.prior.sigma_min, t / 10), t, evaluations)
        for state in DDIM(0.0).steps(network.denoise, x, levels, rng):
            end = state.x
        error = -network.measurement.noise.whiten(network.measurement.residual(end))
        error = error.reshape(-1, self.unit, error[0].numel())
        apart = error - error.mean(1, keepdim=True)
        coefficients = (error @ apart.mH).real / self.unit
        h = (self.scale / coefficients.flatten(1).norm(dim=1).clamp_min(1e-30)).clamp_max(longest)[:, None, None]
        members = x.reshape(-1, self.unit, x[0].numel())
        step = (h * coefficients).to(x.dtype) @ (members - members.mean(1, keepdim=True))
        return (members - step).reshape(x.shape)
