"""DC-Solver: fit the compensation ratios of UniPC on a few pilot draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State
from invdiff.solvers.pilot import trajectory
from invdiff.solvers.unipc import UniPC, unipc_step

__all__ = ["fit_ratios"]


def fit_ratios(denoise: Denoise, x: Tensor, sigmas: Sequence[float], rng: Streams, order: int = 3) -> UniPC:
    """Return UniPC with the ratio of each step that brings the corrected x nearest to the fine solution.

    One step after the other, each from the states that the ratios before it lead to; x is ``(N, *event)`` pilot noise
    at ``sigmas[0]``. A trial takes one evaluation. The last two steps, which are not corrected, are left as they are.

    Source: Zhao et al., 2024, arXiv 2409.03755, algorithm 1.
    """
    from scipy.optimize import minimize_scalar

    exact = trajectory(denoise, x, sigmas, rng)
    state, ratios = State(0, len(sigmas) - 1, sigmas[0], x), []
    while state.step < state.total:
        known = denoise(state.x, sigmas[state.step])  # one evaluation serves all trials
        goal = exact[state.step + 1]

        def stepped(ratio: float, state: State = state, known: Tensor = known) -> State:
            return unipc_step(lambda *_: known, state, sigmas, order, ratio=ratio)

        def error(ratio: float, stepped: Callable[[float], State] = stepped, goal: Tensor = goal) -> float:
            after = unipc_step(denoise, stepped(ratio), sigmas, order)
            return float(((after.memory[0] if after.memory else after.x) - goal).norm())

        ratio = 1.0
        if len(state.memory) == 3 and state.step + 2 < state.total:
            found = minimize_scalar(error, bounds=(0.0, 2.0), method="bounded", options={"xatol": 1e-2})
            ratio = float(found.x) if found.fun < error(1.0) else 1.0
        ratios.append(ratio)
        state = stepped(ratio)
    return UniPC(order, ratios)
