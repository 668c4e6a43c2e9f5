"""DEIS: Adams-Bashforth on the predicted noise, with exact weights for any grid."""

from __future__ import annotations

from collections.abc import Sequence

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise
from invdiff.solvers.quadrature import combine, integral_weights

__all__ = ["DEIS"]


class DEIS(Stepwise):
    """``x_s = x_t + sum_j C_j e_j``, ``e = (x - x0)/sigma`` at the last `order` levels, ``C_j = int_t^s l_j dsigma``.

    The l_j are the polynomials through those levels in a time tau with ``sigma = tau^power``. The paper's tAB uses the
    time of a variance-preserving process; in sigma form the like is the time of the Karras grid, power 7. Power 1 is
    its rhoAB. The order is at most the number of levels passed and that of steps to come.

    Source: Zhang and Chen, 2023 (ICLR), arXiv 2204.13902, eq. 15.
    """

    def __init__(self, order: int = 3, power: float = 7.0) -> None:
        if not 1 <= order <= 4 or power <= 0:
            raise InputError(f"DEIS got order = {order}, power = {power}; expected order 1 to 4 and power > 0")
        self.order, self.power, self.name = order, power, f"deis{order}"

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        del rng
        i, x = state.step, state.x
        t, s = sigmas[i], sigmas[i + 1]
        x0 = denoise(x, t)
        if s == 0:
            return state.then(s, x0, x0)
        noises = ((x - x0) / t, *state.memory)
        used = noises[: state.total - i]
        p = self.power
        times = [sigmas[i - j] ** (1 / p) for j in range(len(used))]
        weights = integral_weights(times, t ** (1 / p), s ** (1 / p), lambda u: p * u ** (p - 1))
        return state.then(s, x + combine(weights, used), x0, noises[: self.order - 1])
