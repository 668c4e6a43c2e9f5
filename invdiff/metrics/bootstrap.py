"""Intervals for scores of a time series, whose neighbours are not independent: whole blocks are drawn again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.errors import InputError

__all__ = ["block_bootstrap"]


def block_bootstrap(
    series: Tensor,
    block: int,
    rng: torch.Generator,
    statistic: Callable[[Tensor], Tensor] = lambda rows: rows.mean(0),
    resamples: int = 1000,
    level: float = 0.9,
) -> tuple[Tensor, Tensor]:
    """Interval of a statistic of ``series (T, ...)`` from blocks of `block` times that follow each other.

    Blocks begin anywhere and wrap round the end (the circular block bootstrap of Politis and Romano, 1992), so every
    time is drawn equally often. Give differences of two methods to ask whether one is better.

    Args:
        statistic: of rows ``(T, ...)``; along the first axis. Root mean squares take the root here, after the mean.
        level: of the interval, whose ends are quantiles of the resampled statistics.

    Raises:
        InputError: there are fewer than two blocks, or a number is out of range.
    """
    count = len(series)
    if not (1 <= block <= count // 2 and resamples > 1 and 0 < level < 1):
        raise InputError(f"block_bootstrap got {count} times, {block=}, {resamples=}, {level=}; it needs two blocks")
    blocks = -(-count // block)
    starts = torch.randint(count, (resamples, blocks, 1), generator=rng)
    rows = ((starts + torch.arange(block)) % count).reshape(resamples, -1)[:, :count]
    found = torch.stack([statistic(series[r]) for r in rows]).double()
    low, high = torch.quantile(found, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64), dim=0)
    return low, high
