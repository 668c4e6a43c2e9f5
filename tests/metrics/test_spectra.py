"""Spectra: their sums are variances, and a wave is found at its length."""

import math

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.metrics.spectra import area_spectrum, zonal_spectrum

RNG = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("count", [16, 15])
def test_zonal_energy_is_that_of_the_field(count: int) -> None:
    lat = torch.tensor([60.0, 0.0, -30.0])
    x = torch.randn(2, 3, count, generator=RNG, dtype=torch.float64)
    circle = 2 * math.pi * 6371e3 * torch.tensor([0.5, 1.0, math.sqrt(0.75)], dtype=torch.float64)
    assert torch.allclose(zonal_spectrum(x, lat).sum(-1), circle * x.square().mean(-1), rtol=1e-6)


def test_a_zonal_wave_has_its_number() -> None:
    angle = torch.arange(24, dtype=torch.float64) * (2 * math.pi / 24)
    found = zonal_spectrum(2 + 3 * torch.cos(5 * angle)[None], [0.0])[0] / (2 * math.pi * 6371e3)
    assert found[0] == pytest.approx(4) and found[5] == pytest.approx(4.5) and float(found.sum()) == pytest.approx(8.5)


def test_bands_sum_to_the_variance() -> None:
    x = torch.randn(3, 12, 20, generator=RNG, dtype=torch.float64)
    lengths, power = area_spectrum(x, (2.0, 2.0))
    assert torch.allclose(power.sum(-1), x.var((-2, -1), correction=0)) and power.shape == (3, 19)
    assert bool((lengths.diff() < 0).all()) and float(lengths[-1]) > 2 * 2.0


def test_a_wave_is_found_at_its_length() -> None:
    column = torch.arange(48, dtype=torch.float64) + 0.5
    wave = torch.cos(math.pi * 12 * column / 48).expand(32, 48)  # eight intervals of 25 km long
    lengths, power = area_spectrum(wave, (25.0, 25.0))
    at = int(power.argmax())
    assert float(power[at]) == pytest.approx(0.5) and float(power.sum()) == pytest.approx(0.5)
    assert float(lengths[at]) < 200 <= 2 * 48 * 25 / 12 + 1e-9 and float(lengths[at - 1]) > 200
    trend = torch.linspace(0, 1, 48, dtype=torch.float64).expand(32, 48)
    _, power = area_spectrum(trend, (25.0, 25.0))
    assert float(power[-10:].sum() / power.sum()) < 1e-3  # a Fourier series would see a jump at the rim


def test_what_cannot_be_told() -> None:
    with pytest.raises(ShapeError, match="latitudes"):
        zonal_spectrum(torch.zeros(3, 8), [0.0])
    with pytest.raises(ShapeError, match="two rows"):
        area_spectrum(torch.zeros(1, 8), (1.0, 1.0))
    with pytest.raises(InputError, match="NaN"):
        area_spectrum(torch.full((4, 8), math.nan), (1.0, 1.0))
