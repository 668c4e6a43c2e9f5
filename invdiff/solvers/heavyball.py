"""Momentum against divergence at few steps: Polyak's heavy ball around any ODE solver, and its generalised form."""

from __future__ import annotations

from collections.abc import Sequence

from invdiff.errors import InputError
from invdiff.random import Streams
from invdiff.solvers.base import Denoise, State, Stepwise
from invdiff.solvers.quadrature import combine

__all__ = ["GHVB", "HeavyBall"]


class HeavyBall(Stepwise):
    """``v <- (1 - beta) v + beta m``, ``x_s = (s/t) x_t + (1 - s/t) v``, where the inner solver's own step is the same
    with m for v: m is the denoised image that it steps towards. beta = 1 is the inner solver.

    First order whatever the inner solver is, with a larger region of stability. The step to 0 is the inner solver's.
    Source: Wizadwongsa et al., 2023, arXiv 2307.11118, eq. 10-11, in data-prediction form.
    """

    def __init__(self, inner: Stepwise, beta: float = 0.8) -> None:
        _check("HeavyBall", beta)
        if inner.stochastic:
            raise InputError(f"HeavyBall got {inner.name}, which draws noise that momentum averages: use an ODE solver")
        self.inner, self.beta, self.name = inner, beta, f"heavyball-{inner.name}"
        self.evaluations_per_step, self.extra_evaluations = inner.evaluations_per_step, inner.extra_evaluations

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step; the velocity is kept before the inner solver's memory."""
        t, s, x = sigmas[state.step], sigmas[state.step + 1], state.x
        velocity, memory = (state.memory[0], state.memory[1:]) if state.memory else (None, ())
        inner = State(state.step, state.total, state.sigma, x, state.x0, memory)
        after = self.inner.step(denoise, inner, sigmas, rng)
        if s == 0:
            return after
        towards = (after.x - s / t * x) / (1 - s / t)
        velocity = towards if velocity is None else velocity.lerp(towards, self.beta)
        after.x, after.memory = s / t * x + (1 - s / t) * velocity, (velocity, *after.memory)
        return after


class GHVB(Stepwise):
    """``v_n = (1 - beta) v_{n-1} + beta e_n``, ``x_s = x_t + (s - t) sum_j a_j v_{n-j}``, ``e = (x - x0)/sigma``.

    The a_j restore the order that the lag of v costs: ``(2 + beta)/(2 beta)``, ``-(2 - beta)/(2 beta)`` for order 2.
    beta = 1 is Adams-Bashforth. They assume equal steps, so more than order 2 is seen on such grids only.
    Source: Wizadwongsa et al., 2023, arXiv 2307.11118, table 1.
    """

    # a_j beta = (c_j + d_j beta)/k
    _TABLE = {
        1: (1, [(0, 1)]),
        2: (2, [(2, 1), (-2, 1)]),
        3: (12, [(18, 5), (-24, 8), (6, -1)]),
        4: (24, [(46, 9), (-78, 19), (42, -5), (-10, 1)]),
    }

    def __init__(self, order: int = 2, beta: float = 0.8) -> None:
        _check("GHVB", beta)
        if order not in self._TABLE:
            raise InputError(f"GHVB got order = {order}; it expects 1 to 4")
        self.order, self.beta, self.name = order, beta, f"ghvb{order}"

    def step(self, denoise: Denoise, state: State, sigmas: Sequence[float], rng: Streams) -> State:
        """One step."""
        del rng
        t, s, x = sigmas[state.step], sigmas[state.step + 1], state.x
        x0 = denoise(x, t)
        if s == 0:
            return state.then(s, x0, x0)
        noise = (x - x0) / t
        velocities = (state.memory[0].lerp(noise, self.beta) if state.memory else noise, *state.memory)
        velocities = velocities[: self.order]
        k, rows = self._TABLE[len(velocities)]
        weights = [(s - t) * (c + d * self.beta) / (k * self.beta) for c, d in rows]
        return state.then(s, x + combine(weights, velocities), x0, velocities)


def _check(name: str, beta: float) -> None:
    if not 0 < beta <= 1:
        raise InputError(f"{name} got beta = {beta}; it expects above 0, up to 1 (no momentum)")
