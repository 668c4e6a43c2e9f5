"""The two states of a run, as intervals that hold each other apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.metrics.free_energy import State, inside
from invdiff.molecules.config import StatesConfig

__all__ = ["folded"]

Interval = tuple[float | None, float | None]


def folded(states: StatesConfig, period: Sequence[float | None]) -> StatesConfig:
    """Return the states with the edges of periodic variables within one period, from -period/2 to period/2.

    Raises InputError: an interval of a variable that is not periodic is empty, or the states overlap.
    """
    a, b = (
        [_folded(interval, p, name) for interval, p in zip(state, period, strict=True)]
        for name, state in (("a", states.a), ("b", states.b))
    )
    if all(_meet(one, other, p) for one, other, p in zip(a, b, period, strict=True)):
        raise InputError(f"states a {a} and b {b} overlap; a free-energy difference is between states apart")
    return states.model_copy(update={"a": a, "b": b})


def _folded(interval: Interval, period: float | None, name: str) -> Interval:
    low, high = interval
    if low is None or high is None:
        return interval
    if period is None:
        if not low < high:
            raise InputError(f"state {name}: {low} is not below {high}, and its variable is not periodic")
        return interval
    if abs(high - low) >= period:
        return None, None
    turn = [v - period * round(v / period) for v in (low, high)]
    # The upper end of the circle is its lower end.
    return (-period / 2 if turn[0] >= period / 2 else turn[0]), (period / 2 if turn[1] <= -period / 2 else turn[1])


def _meet(one: Interval, other: Interval, period: float | None) -> bool:
    """Whether two intervals share more than an edge."""
    edges = sorted({v for v in (*one, *other) if v is not None})
    if period is not None:
        edges = sorted({-period / 2, period / 2, *edges})
    points = [(x + y) / 2 for x, y in zip(edges, edges[1:], strict=False)]
    if period is None:
        points += [edges[0] - 1, edges[-1] + 1] if edges else [0.0]
    s: Tensor = torch.tensor(points, dtype=torch.float64)[:, None]
    first, second = (inside(s, _state(i)) for i in (one, other))
    return bool((first & second).any())


def _state(interval: Interval) -> State:
    return (interval,)
