"""PNDM: a pseudo-linear multistep rule through the DDIM transfer map, after a pseudo-Runge-Kutta start."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise
from invdiff.solvers.quadrature import combine

__all__ = ["PNDM"]


class PNDM(Stepwise):
    """``x_s = x_t + (s - t) e'`` (the DDIM map), ``e' = (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3)/24``, e_0 the newest noise.

    The first three steps take ``e' = (e_0 + 2 e_a + 2 e_b + e_c)/6`` with e_a and e_b at the middle of the step and
    e_c at its end: four evaluations each. The middle is that of the time of the Karras grid, ``sigma = tau^7``, in
    which the weights assume equal steps. Second order, since the map is.

    Source: Liu, Ren, Lin and Zhao, 2022, arXiv 2202.09778, algorithm 2.
    """

    name = "pndm"
    extra_evaluations = 9

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        del rng
        t, s, x = sigmas[state.step], sigmas[state.step + 1], state.x
        x0 = denoise(x, t)
        if s == 0:
            return state.then(s, x0, x0)
        noise = (x - x0) / t
        if len(state.memory) < 3:
            mean = self._runge_kutta(denoise, x, noise, t, s)
        else:
            mean = combine((55 / 24, -59 / 24, 37 / 24, -9 / 24), (noise, *state.memory))
        return state.then(s, x + (s - t) * mean, x0, (noise, *state.memory[:2]))

    @staticmethod
    def _runge_kutta(denoise: Denoise, x: Tensor, noise: Tensor, t: float, s: float) -> Tensor:
        middle = ((t ** (1 / 7) + s ** (1 / 7)) / 2) ** 7

        def noise_at(level: float, direction: Tensor) -> Tensor:
            there = x + (level - t) * direction
            return (there - denoise(there, level)) / level

        a = noise_at(middle, noise)
        b = noise_at(middle, a)
        return combine((1 / 6, 1 / 3, 1 / 3, 1 / 6), (noise, a, b, noise_at(s, b)))
