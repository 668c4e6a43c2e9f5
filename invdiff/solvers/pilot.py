"""Pilot draws: a fine solution of the probability-flow ODE from a few starts, to which solvers are fitted.

What is fitted belongs to a denoiser and a grid; a few draws (8 to 64) are enough since all statistics are pooled over
them. The pilot takes its evaluations once, before the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.schedules import refined
from invdiff.solvers.base import Denoise, Stepwise
from invdiff.solvers.unipc import UniPC

__all__ = ["run", "trajectory"]


def trajectory(denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, steps: int = 160) -> list[Tensor]:
    """Return the solution at each of `sigmas` from x at the first: `steps` steps, at least four between two levels."""
    if len(x) < 2:
        raise InputError(f"a fit got {len(x)} starting points; it expects at least 2, better 16")
    times = max(4, -(-steps // len(sigmas)))
    with torch.no_grad():
        states = list(UniPC().steps(denoise, x, refined(sigmas, times), rng))
    # The last interval, to 0, is not refined.
    return [x, *[state.x for state in states if state.step % times == 0 or state.sigma == 0]]


def run(solver: Stepwise, denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams) -> list[Tensor]:
    """Return the solver's own x at each of `sigmas`."""
    with torch.no_grad():
        return [x, *[state.x for state in solver.steps(denoise, x, sigmas, rng)]]
