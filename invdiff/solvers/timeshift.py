"""Time shift: the network is told the noise level that a solver's state really has, not the one of the grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise
from invdiff.solvers.pilot import run, trajectory

__all__ = ["TimeShift", "fit_time_shift"]


class TimeShift(Stepwise):
    """The inner solver with ``D(x, tau_i)`` in place of ``D(x, sigma_i)`` at the levels of its grid.

    Args:
        inner: one evaluation a step, at the levels of the grid.
        levels: tau_i, one a step; see `fit_time_shift`.

    Source: Li et al., 2024 (ICLR), arXiv 2305.15583, algorithm 3.
    """

    def __init__(self, inner: Stepwise, levels: Sequence[float]) -> None:
        if inner.evaluations_per_step != 1 or inner.extra_evaluations:
            raise InputError(f"TimeShift got {inner.name}; it expects a solver of one evaluation a step")
        self.inner, self.levels, self.stochastic = inner, levels, inner.stochastic
        self.name = f"timeshift-{inner.name}"

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        if len(self.levels) != state.total:
            raise InputError(f"TimeShift has {len(self.levels)} levels for a run of {state.total} steps")
        tau = self.levels[state.step]
        return self.inner.step(lambda x, _: denoise(x, tau), state, sigmas, rng)


def fit_time_shift(
    inner: Stepwise,
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    rng: Streams,
    window: float = 0.25,
    cutoff: float = 0.2,
) -> TimeShift:
    """Find the tau_i from pilot draws x ``(N, *event)`` at ``sigmas[0]``.

    ``tau_i^2 = sigma_i^2 + (m_i - m*_i)``, m the mean square of the solver's states, m* that of the fine solution:
    the level whose law has the spread that the states have. It is kept within a factor ``1 +- window`` of sigma_i, and
    below `cutoff` of the steps from the end sigma_i stays, as in the paper (its cutoff time).

    The paper takes the variance over the pixels of each image while sampling. That needs data of unit variance, and
    one network level a draw; a pilot needs neither, and a level that depends on the batch would tie draws together.
    """
    exact = trajectory(denoise, x, sigmas, rng)
    total = len(sigmas) - 1
    levels = list(sigmas[:-1])
    for i in range(1, total - round(cutoff * total)):
        states = run(TimeShift(inner, levels), denoise, x, sigmas, rng)  # with what is known so far
        excess = _mean_square(states[i]) - _mean_square(exact[i])
        shifted = max(0.0, sigmas[i] ** 2 + excess) ** 0.5
        levels[i] = min(max(shifted, (1 - window) * sigmas[i]), (1 + window) * sigmas[i])
    return TimeShift(inner, levels)


def _mean_square(x: Tensor) -> float:
    return float((x.real**2).mean() + (x.imag**2).mean()) / 2 if x.is_complex() else float((x**2).mean())
