"""UniPC: an exponential multistep predictor whose next evaluation also corrects the step before, at no extra cost;
with DC-Solver's dynamic compensation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise
from invdiff.solvers.quadrature import combine, exponential_weights

__all__ = ["UniPC", "unipc_step"]


class UniPC(Stepwise):
    """Predictor ``x_s = (s/t) x_t + sum_j w_j D_j`` over the last `order` denoised images, the w_j exact for D
    polynomial in ``lambda = -log sigma``; once D_s at the predicted x_s is known, the corrector takes the same step
    from x_t again with D_s among them: one order more.

    With the full solution of the paper's linear system B(h) drops out of the update, as it does here; its shortcut
    (1/2 for the predictor of order 2 and the corrector of order 1) is not taken.

    Args:
        order: of the predictor, 1 to 3.
        ratios: DC-Solver's rho, one a step: before the step, D_t is replaced by the parabola through the last three
            images at ``lambda_t + (rho - 1)(lambda_t - lambda_previous)``; 1 leaves it. `fit_ratios` finds them.

    A state's x is the predicted one; the last is not corrected. The order is at most that of the steps to come, so
    that the step to 0 is first order.
    Source: Zhao et al., 2023, arXiv 2302.04867, algorithms 1 and 2; Zhao et al., 2024, arXiv 2409.03755, eq. 9-10.
    """

    def __init__(self, order: int = 3, ratios: Sequence[float] | None = None) -> None:
        if not 1 <= order <= 3:
            raise InputError(f"UniPC got order = {order}; it expects 1 to 3")
        self.order, self.ratios = order, ratios
        self.name = f"unipc{order}" if ratios is None else f"dc-unipc{order}"

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        del rng
        if self.ratios is not None and len(self.ratios) != state.total:
            raise InputError(f"UniPC has {len(self.ratios)} ratios for a run of {state.total} steps; fit them for it")
        ratio = 1.0 if self.ratios is None else self.ratios[state.step]
        return unipc_step(denoise, state, sigmas, self.order, ratio=ratio)


def unipc_step(
    denoise: Denoise, state: State, sigmas: Sequence[float], order: int, correct: bool = True, ratio: float = 1.0
) -> State:
    """One step of predictor order `order`, from a state that is corrected first where `correct` says so.

    The memory is the corrected x of the step before, then the last denoised images.
    """
    i, x = state.step, state.x
    t, s = sigmas[i], sigmas[i + 1]
    x0 = denoise(x, t)
    if s == 0:
        return state.then(s, x0, x0)
    before, images = state.memory[0] if state.memory else None, (x0, *state.memory[1:])
    if before is not None and correct:
        used = images[: order + 1]
        x = _integrate(before, used, sigmas[i - 1], t, sigmas[i - len(used) + 1 : i + 1])
    if ratio != 1 and len(images) == 3:
        images = (_compensated(images, sigmas[i - 2 : i + 1], ratio), *images[1:])
    used = images[: min(order, state.total - i)]
    x_s = _integrate(x, used, t, s, sigmas[i - len(used) + 1 : i + 1])
    return state.then(s, x_s, x0, (x, *images[:2]))


def _integrate(x: Tensor, images: Sequence[Tensor], t: float, s: float, levels: Sequence[float]) -> Tensor:
    """``(s/t) x + sum_j w_j D_j``; images newest first, their levels oldest first."""
    return (s / t * x).add(combine(exponential_weights(levels[::-1], t, s), images))


def _compensated(images: Sequence[Tensor], levels: Sequence[float], ratio: float) -> Tensor:
    """The parabola through three images (newest first; levels oldest first), `ratio` steps after the second."""
    times = [-math.log(v) for v in levels[::-1]]
    where = times[1] + ratio * (times[0] - times[1])
    weights = [math.prod((where - q) / (p - q) for k, q in enumerate(times) if k != j) for j, p in enumerate(times)]
    return combine(weights, images)
