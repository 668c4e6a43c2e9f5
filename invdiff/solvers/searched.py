"""A solver schedule found by search: for each step its order, whether it is corrected, and its place in the grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.schedules import at
from invdiff.solvers.base import Denoise, State, Stepwise
from invdiff.solvers.pilot import trajectory
from invdiff.solvers.unipc import unipc_step

__all__ = ["Plan", "Scheduled", "search"]


@dataclass(frozen=True)
class Plan:
    """What each of n steps does.

    Args:
        orders: 1 to 3, of the predictor.
        corrected: whether the evaluation at the step's start also corrects the step before.
        positions: where the step starts in the grid it is given, as a fractional index, 0 first, ascending.
    """

    orders: tuple[int, ...]
    corrected: tuple[bool, ...]
    positions: tuple[float, ...]


class Scheduled(Stepwise):
    """The exponential multistep rule of `unipc` with a plan: the unified sampling framework, searched by `search`.

    The grid that a run is given is read at the plan's positions, so that a plan may serve another range of noise.
    Source: Liu, Ning, Yang and Wang, 2024 (ICLR), arXiv 2312.07243, algorithm 1.
    """

    name = "searched"

    def __init__(self, plan: Plan) -> None:
        n = len(plan.orders)
        rising = all(a < b for a, b in zip(plan.positions, plan.positions[1:], strict=False))
        if not n == len(plan.corrected) == len(plan.positions) or not set(plan.orders) <= {1, 2, 3} or not rising:
            raise InputError(f"got {plan}; it expects orders 1 to 3, corrections and rising positions, one a step")
        self.plan = plan

    def steps(
        self, denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each step, on the plan's own grid."""
        if len(sigmas) - 1 != len(self.plan.positions):
            raise InputError(f"a plan of {len(self.plan.positions)} steps was given a grid of {len(sigmas) - 1}")
        grid = [at(sigmas, p) for p in self.plan.positions] + [0.0]
        return super().steps(denoise, x, grid, rng, resume)

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        del rng
        i = state.step
        return unipc_step(denoise, state, sigmas, self.plan.orders[i], self.plan.corrected[i])


def search(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, rounds: int = 3, seed: int = 0
) -> Scheduled:
    """Find the plan for a denoiser and a grid: the least mean distance of the last x from the fine solution's, over
    pilot draws (not squared, or the few draws that end in another mode would be all that counts).

    From the best of the constant plans (each order, corrected or not), `rounds` times over the steps: try every other
    order and correction of the step, and its place moved by up to half a step either way; keep what is better. A
    trial costs one run of the pilot, a round about seven times the number of steps of them.

    The paper searches by evolution with a learned predictor of image quality; here the error against the fine solution
    from the same start is known, and no predictor is needed.

    Args:
        x: pilot noise ``(N, *event)`` at ``sigmas[0]``. seed: of the moves that are tried.
    """
    total = len(sigmas) - 1
    goal = trajectory(denoise, x, sigmas, rng)[-1]
    moves = torch.Generator().manual_seed(seed)

    def error(plan: Plan) -> float:
        with torch.no_grad():
            *_, last = Scheduled(plan).steps(denoise, x, sigmas, rng)
        return float((last.x - goal).flatten(1).abs().square().sum(1).sqrt().mean())

    places = tuple(float(i) for i in range(total))
    starts = [Plan((order,) * total, (c,) * total, places) for order in (1, 2, 3) for c in (False, True)]
    best, least = min(((plan, error(plan)) for plan in starts), key=lambda pair: pair[1])
    for _ in range(rounds):
        for i in range(total):
            for plan in _changed(best, i, moves):
                found = error(plan)
                if found < least:
                    best, least = plan, found
    return Scheduled(best)


def _changed(plan: Plan, i: int, moves: torch.Generator) -> Iterator[Plan]:
    """The plan with another order, correction or place of step i; the first and the last place stay."""
    for order in {1, 2, 3} - {plan.orders[i]}:
        yield replace(plan, orders=_with(plan.orders, i, order))
    if i > 0:
        yield replace(plan, corrected=_with(plan.corrected, i, not plan.corrected[i]))
    if 0 < i < len(plan.orders) - 1:
        low, here, high = plan.positions[i - 1 : i + 2]
        for _ in range(4):
            push = float(torch.rand(1, generator=moves)) - 0.5
            moved = here + push * (high - here if push > 0 else here - low)
            yield replace(plan, positions=_with(plan.positions, i, moved))


def _with(values: tuple, i: int, value: object) -> tuple:
    return (*values[:i], value, *values[i + 1 :])
