"""Block-bootstrap intervals, on series whose spread of the mean is known."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.metrics.bootstrap import block_bootstrap


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_width_for_independent_and_for_correlated_series() -> None:
    count, rho = 2000, 0.9
    white = torch.randn(count, generator=rng(), dtype=torch.float64)
    low, high = block_bootstrap(white, 1, rng(1))
    assert float(high - low) == pytest.approx(2 * 1.645 / count**0.5, rel=0.12)
    red = torch.empty(count, dtype=torch.float64)
    red[0] = white[0]
    for t in range(1, count):
        red[t] = rho * red[t - 1] + (1 - rho**2) ** 0.5 * white[t]
    naive, blocks = (high - low for low, high in (block_bootstrap(red, b, rng(2)) for b in (1, 100)))
    true = 2 * 1.645 * ((1 + rho) / (1 - rho) / count) ** 0.5  # the variance of a mean of an AR(1)
    assert float(naive) < 0.4 * true and float(blocks) == pytest.approx(true, rel=0.3)


def test_statistic_and_limits() -> None:
    series = torch.stack([torch.full((40,), 3.0), torch.full((40,), 4.0)], 1)
    low, high = block_bootstrap(series, 5, rng(), lambda rows: rows.square().mean().sqrt())
    assert float(low) == float(high) == pytest.approx(12.5**0.5)
    with pytest.raises(InputError, match="two blocks"):
        block_bootstrap(series, 21, rng())
