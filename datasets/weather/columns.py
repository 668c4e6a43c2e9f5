"""Where observations lie among the levels of a state's channels: two channels and a share, linear in ln p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from invdiff.operators.fields.axes import axis_neighbours

__all__ = ["Column", "column_of"]


@dataclass(frozen=True)
class Column:
    """Observation = ``(1 - share) x[low] + share x[high]``, where `inside`; arrays ``(M,)``."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    share: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def at(self, rows: NDArray[np.int64]) -> Column:
        """Return those of some observations."""
        return Column(self.low[rows], self.high[rows], self.share[rows], self.inside[rows])


def column_of(
    channels: Sequence[tuple[str, float | None]], variable: NDArray[np.str_], level: NDArray[np.float64]
) -> Column:
    """Find the channels about each observation.

    A level without a pressure (NaN) meets the channel near the surface and no other. A level that the state has is met
    exactly; between two it is linear in ln p; outside them nothing is extrapolated.

    Args:
        channels: quantity and level (Pa, or None) of each channel.
        variable, level: of the observations, ``(M,)``.
    """
    low, share = np.zeros(len(variable), np.int64), np.zeros(len(variable))
    high, inside = low.copy(), np.zeros(len(variable), bool)
    for kind in sorted(set(variable.tolist())):
        of_kind = [(p, i) for i, (k, p) in enumerate(channels) if k == kind]
        surface = [i for p, i in of_kind if p is None]
        rows = np.flatnonzero((variable == kind) & np.isnan(level))
        if surface:
            low[rows] = high[rows] = surface[0]
            inside[rows] = True
        levels = sorted((p, i) for p, i in of_kind if p is not None)
        rows = np.flatnonzero((variable == kind) & ~np.isnan(level))
        if not levels or not len(rows):
            continue
        index = np.array([i for _, i in levels])
        pressure = torch.tensor([p for p, _ in levels], dtype=torch.float64)
        near = axis_neighbours(pressure, torch.from_numpy(level[rows]), "level", log=True)
        low[rows], high[rows] = index[near.index[:, 0].numpy()], index[near.index[:, 1].numpy()]
        share[rows], inside[rows] = near.weight[:, 1].numpy(), near.inside.numpy()
    return Column(low, high, share, inside)
