"""What all solvers share: the state they yield. A solver is a generator, so that progress bars, checkpoints,
trajectory diagnostics and active acquisition are one mechanism: whoever pulls the next state decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from invdiff.random import Streams

__all__ = ["Denoise", "Solver", "State"]

Denoise = Callable[[Tensor, float], Tensor]


@dataclass
class State:
    """Where a run stands: x ``(N, *event)`` after `step` of `total` steps, at noise level `sigma`.

    `x0` is the denoised image of the step just made; with it and x a solver can go on after an interruption.
    """

    step: int
    total: int
    sigma: float
    x: Tensor
    x0: Tensor | None = None


class Solver(Protocol):
    """Integrates from ``sigmas[0]`` to ``sigmas[-1] = 0``, given any denoiser."""

    name: str
    evaluations_per_step: int

    def steps(
        self, denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step; the last one's x is the draw."""
        ...
