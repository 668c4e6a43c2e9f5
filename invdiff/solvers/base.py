"""What all solvers share: the state they yield, and the loop. A solver is a generator, so that progress bars,
checkpoints, trajectory diagnostics and active acquisition are one mechanism: whoever pulls the next state decides.

Everything is in variance-exploding form: ``x = x0 + sigma n``, D(x, sigma) the denoised image, and the
probability-flow ODE is ``dx/dsigma = (x - D)/sigma``, or ``dx/dlambda = D - x`` in ``lambda = -log sigma``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams

__all__ = ["Denoise", "Solver", "State", "Stepwise", "steps_within"]

Denoise = Callable[[Tensor, float], Tensor]


@dataclass
class State:
    """Where a run stands: x ``(N, *event)`` after `step` of `total` steps, at noise level `sigma`.

    `x0` is the denoised image of the step just made, `memory` what a method keeps of the steps before, newest first.
    With them, x and the state of the generators a solver goes on after an interruption to the same bits.
    `log_weight` ``(N,)`` comes with the last state of a method whose draws are weighted.
    """

    step: int
    total: int
    sigma: float
    x: Tensor
    x0: Tensor | None = None
    memory: tuple[Tensor, ...] = ()
    log_weight: Tensor | None = None

    def then(self, sigma: float, x: Tensor, x0: Tensor, memory: tuple[Tensor, ...] = ()) -> State:
        """The state one step later."""
        return State(self.step + 1, self.total, sigma, x, x0, memory)


class Solver(Protocol):
    """Integrates from ``sigmas[0]`` to ``sigmas[-1] = 0``, given any denoiser.

    A run of n steps takes ``evaluations_per_step n - (evaluations_per_step - 1)`` evaluations (one in the step to 0),
    and `extra_evaluations` at its start.
    """

    name: str
    evaluations_per_step: int
    extra_evaluations: int

    def steps(
        self, denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step; the last one's x is the draw."""
        ...


class Stepwise:
    """The loop of all our solvers: a method writes `step`, from one state to the next.

    `stochastic` says whether noise is drawn on the way (an SDE solver).
    """

    name = "stepwise"
    evaluations_per_step = 1
    extra_evaluations = 0
    stochastic = False

    def steps(
        self, denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step, from the beginning or from the state of an interrupted run."""
        state = State(0, len(sigmas) - 1, sigmas[0], x) if resume is None else resume
        while state.step < state.total:
            state = self.step(denoise, state, sigmas, rng)
            yield state

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """Go from ``sigmas[state.step]`` to the next level."""
        raise TypeError(f"{type(self).__name__} does not define step(denoise, state, sigmas, rng)")


def steps_within(solver: Solver, nfe: int) -> int:
    """The number of steps that `nfe` evaluations pay for.

    Raises:
        InputError: not even one step.
    """
    k = solver.evaluations_per_step
    least = solver.extra_evaluations + k
    if nfe < least:
        raise InputError(f"nfe = {nfe}; {solver.name} needs at least {least}")
    return (nfe - solver.extra_evaluations + k - 1) // k
