"""The Gaussian part of a fields prior, its climatology, and a network that begins as that Gaussian."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.networks.field_unet import FieldUNet
from invdiff.priors.fields_calendar import Calendar, hours_and_season
from invdiff.priors.fields_gaussian import LowRankGaussian, fit_low_rank, gaspari_cohn, great_circle
from invdiff.priors.fields_guess import FieldsPrior, FirstGuess
from invdiff.priors.gaussian import GaussianPrior

SHAPE = (2, 3, 4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def low_rank(rank: int = 5) -> LowRankGaussian:
    u = torch.linalg.qr(torch.randn(24, rank, generator=rng(1), dtype=torch.float64)).Q
    return LowRankGaussian(u, torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5], dtype=torch.float64)[:rank], 0.2, SHAPE)


def dense(g: LowRankGaussian) -> torch.Tensor:
    u = g.directions
    return (u * (g.variances - g.tail)) @ u.mT + g.tail * torch.eye(len(u), dtype=u.dtype)


def test_low_rank_is_the_dense_gaussian() -> None:
    g, x = low_rank(), torch.randn(3, *SHAPE, generator=rng(2), dtype=torch.float64)
    exact = GaussianPrior(torch.zeros(SHAPE, dtype=torch.float64), dense(g))
    for sigma in (torch.tensor([0.7]), torch.tensor([0.1, 1.0, 30.0])):
        assert torch.allclose(g.denoise(x, sigma), exact.denoise(x, sigma), atol=1e-9)
        assert torch.allclose(g.covariance(x, sigma)(x), exact.covariance(x, sigma)(x), atol=1e-9)
    assert g.scale == pytest.approx(exact.scale)
    draws = g.sample(40000, rng(3)).flatten(1)
    assert torch.allclose(draws.mT @ draws / len(draws), dense(g), atol=0.15)  # 9 sqrt(2/40000) = 0.06, of 300 entries
    with pytest.raises(InputError, match="tail"):
        LowRankGaussian(g.directions, g.variances, 0.7, SHAPE)


def test_fit_finds_what_the_samples_are_from() -> None:
    g = low_rank()
    samples = g.sample(20000, rng(4)).flatten(1)
    found = fit_low_rank(samples, SHAPE, 5, shrink=0.0)
    assert torch.allclose(dense(found), dense(g), atol=0.25)
    everywhere = fit_low_rank(samples, SHAPE, 5, lambda: torch.ones(24, 24), 0.0)
    assert torch.allclose(dense(everywhere), dense(found), atol=2e-3)  # none: but by subspace iteration, not exactly
    alone = fit_low_rank(samples, SHAPE, 23, lambda: torch.eye(24), 0.1)
    assert torch.allclose(dense(alone), 1.1 * torch.diag(samples.square().mean(0)), atol=0.05)
    assert float(dense(alone).trace()) == pytest.approx(1.1 * float(samples.square().mean(0).sum()), rel=1e-6)
    with pytest.raises(InputError, match="at most"):
        fit_low_rank(torch.zeros(3, 13000), (1, 1, 13000), 2, lambda: torch.eye(2))


def test_localisation() -> None:
    d = torch.tensor([0.0, 250.0, 500.0, 999.0, 1000.0, 3000.0], dtype=torch.float64)
    c = gaspari_cohn(d, 1000.0)
    assert c[0] == 1 and c[-1] == 0 and c[-2] == 0
    assert c[1] == pytest.approx(1 - 5 / 3 / 4 + 5 / 8 / 8 + 1 / 32 - 1 / 128)
    assert bool((c.diff() <= 0).all()) and c[2] == pytest.approx(5 / 24)  # both pieces meet at half the reach
    points = great_circle(torch.rand(40, generator=rng()) * 60, torch.rand(40, generator=rng(1)) * 80)
    assert float(torch.linalg.eigvalsh(gaspari_cohn(points, 3000.0)).min()) > -1e-6
    far = great_circle(torch.tensor([0.0, 0.0, 90.0]), torch.tensor([0.0, 180.0, 7.0]))
    assert far[0, 1] == pytest.approx(np.pi * 6371) and far[0, 2] == pytest.approx(np.pi / 2 * 6371)


def calendar(offsets: tuple[float, ...] = (-1.0, 0.0)) -> Calendar:
    hours = (0.0, 6.0, 12.0, 18.0)
    climatology = torch.tensor([-1.0, 0.0, 1.0, 0.0])[:, None, None, None].expand(4, 1, 3, 4).clone()
    return Calendar(hours, climatology, torch.tensor([280.0]), torch.tensor([2.0]), torch.zeros(2, 3, 4), offsets)


def test_what_is_normal_at_a_time_of_day() -> None:
    times = np.array(["2019-03-01T12:00", "2019-07-01T21:00", "2019-01-01T00:00"], "datetime64[ns]")
    normal = calendar().normal(times)
    assert normal.shape == (3, 2, 3, 4)
    assert normal[0, 1, 0, 0] == pytest.approx(282.0) and normal[0, 0, 0, 0] == pytest.approx(280 + 2 * 5 / 6)
    assert normal[1, 1, 0, 0] == pytest.approx(279.0)  # between 18 and 24 hours, round the clock
    told = calendar().condition(times, torch.tensor([0, 2, 1]))
    assert told.shape == (3, calendar().conditions, 3, 4) and told[:, 0, 0, 0].tolist() == [0.0, 2.0, 1.0]
    assert told[0, 3, 0, 0] == pytest.approx(0.0, abs=1e-6) and told[0, 5, 0, 0] == pytest.approx(-1.0)  # sin, cos
    hour, season = hours_and_season(times[1:])
    assert hour.tolist() == [21.0, 0.0] and season[0] == pytest.approx(0.498, abs=1e-3) and season[1] == 0
    with pytest.raises(InputError, match="datetime64"):
        hours_and_season(np.array([1.0]))


def test_the_year_is_as_long_as_its_calendar_has_it() -> None:
    import cftime

    last = [cftime.Datetime360Day(2001, 12, 30, 12), cftime.DatetimeNoLeap(2004, 12, 31, 12)]
    assert [float(hours_and_season(np.array([t]))[1][0]) for t in last] == [359.5 / 360, 364.5 / 365]
    hour, season = hours_and_season(np.array(["2004-12-31T12", "2005-12-31T18"], "datetime64[h]"))
    assert season.tolist() == [365.5 / 366, 364.75 / 365] and hour.tolist() == [12.0, 18.0]


def test_what_is_normal_at_a_time_of_year() -> None:
    annual = torch.stack([torch.full((1, 3, 4), 2.0), torch.full((1, 3, 4), 0.5)])
    plain, seasonal = calendar(), replace(calendar(), annual=annual)
    times = np.array(["2019-01-01T00", "2019-07-02T12", "2019-04-02T06"], "datetime64[ns]")
    more = (seasonal.normal(times) - plain.normal(times)) / seasonal.deviations()
    assert torch.allclose(more, torch.tensor([2.0, -2.0, 0.5])[:, None, None, None].expand_as(more), atol=0.03)
    told = seasonal.condition(times)
    assert torch.allclose(told[:, -1:] - plain.condition(times)[:, -1:], more[:, 1:], atol=1e-5)
    planes = told[:, 1 + len(seasonal.static) : -1, 0, 0]  # sine of hour and season, cosine of both
    assert torch.allclose(planes[:, 1], torch.tensor([0.0, 0.0, 1.0]), atol=0.02)
    assert torch.allclose(planes[:, 3], torch.tensor([1.0, -1.0, 0.0]), atol=0.02)


def test_a_network_begins_as_the_exact_gaussian() -> None:
    g = low_rank().to(torch.float32)
    network = FirstGuess(FieldUNet(2 * 2 + calendar().conditions - 1, 2, [8], 1, 8), [g, g], highest=5.0)
    prior = FieldsPrior(network, calendar(), 0.01, 5.0)
    x, sigma = torch.randn(3, *SHAPE, generator=rng(5)), torch.tensor([0.4])
    with pytest.raises(InputError, match="at\\(times\\)"):
        prior.denoise(x, sigma)
    now = prior.at(np.array(["2019-03-01T12:00"], "datetime64[ns]"))
    assert torch.equal(now.denoise(x, sigma), g.denoise(x, sigma))
    with torch.no_grad():
        network.backbone.leave.bias.fill_(1.0)  # type: ignore  # F = 1: D departs by s(sigma)
    s2 = float((g.covariance(x, sigma)(torch.eye(24).reshape(24, *SHAPE)).flatten(1).diagonal()).mean())
    assert torch.allclose(now.denoise(x, sigma) - g.denoise(x, sigma), torch.tensor(s2**0.5), atol=1e-5)
    assert torch.equal(now.denoise(x, torch.tensor([5.1])), g.denoise(x, torch.tensor([5.1])))  # beyond its range
    several = prior.at(np.array(["2019-03-01T12:00", "2019-03-01T18:00"], "datetime64[ns]"))
    with pytest.raises(ShapeError, match="2 times"):
        several.denoise(x, sigma)


def test_cross_fitted_gaussians_are_told_apart() -> None:
    first, second = low_rank().to(torch.float32), low_rank(3).to(torch.float32)
    network = FirstGuess(None, [first, second])
    x, sigma = torch.randn(2, *SHAPE, generator=rng(6)), torch.tensor([0.5, 0.5])
    told = calendar().condition(np.array(["2019-03-01T12:00"] * 2, "datetime64[ns]"), torch.tensor([1, 0]))
    out = network(x, sigma, told)
    assert torch.allclose(out[:1], second.denoise(x[:1], sigma[:1])) and torch.allclose(
        out[1:], first.denoise(x[1:], sigma[1:])
    )
