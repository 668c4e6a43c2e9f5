"""Scores of ensembles: by hand, by brute force, and on ensembles that are reliable by construction."""

import math

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.metrics.ensemble import (
    anomaly_correlation,
    area_mean,
    bias,
    crps,
    crps_gaussian,
    energy_score,
    mean_square_error,
    rank_histogram,
    rmse,
    spread_skill,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def reliable(members: int, count: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Truth and members from one distribution, whose mean and width differ from place to place."""
    mean, width = 5 * normal(count, count, seed=1), normal(count, count, seed=2).exp()
    draws = mean + width * normal(members + 1, count, count, seed=3)
    return draws[1:], draws[0]


def test_area_weights_are_differences_of_sines() -> None:
    # rows at 90, 0, -90 have cells to 45 degrees: the caps have 1 - sin 45, the belt 2 sin 45 of the half-sum 2
    cap = (1 - math.sin(math.pi / 4)) / 2
    field = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64).expand(3, 4)
    assert float(area_mean(field, [90.0, 0.0, -90.0])) == pytest.approx(cap)  # cos(latitude) would say 0
    assert float(area_mean(field, [-90.0, 0.0, 90.0])) == pytest.approx(cap)
    assert float(area_mean(field, None)) == pytest.approx(1 / 3)
    with pytest.raises(ShapeError, match="2 latitudes"):
        area_mean(field, [0.0, 1.0])


def test_root_is_taken_last() -> None:
    truth, estimate = torch.zeros(2, 1, 2), torch.tensor([[[3.0, 3.0]], [[4.0, 4.0]]])
    assert rmse(truth, estimate) == pytest.approx(math.sqrt(12.5))  # not the mean of 3 and 4
    assert bias(truth, estimate) == pytest.approx(3.5)
    lat = [60.0, 0.0]
    estimate = torch.tensor([[2.0], [1.0]])
    low, high = math.sin(math.pi / 6), 1.0  # cells end at 30 degrees and, the outer ones, at 90 and -30
    weight = torch.tensor([high - low, 2 * low])
    expected = math.sqrt(float((weight * torch.tensor([4.0, 1.0])).sum() / weight.sum()))
    assert rmse(torch.zeros(2, 1), estimate, lat) == pytest.approx(expected)


def test_anomaly_correlation() -> None:
    climatology, truth = normal(4, 6, seed=5), normal(3, 4, 6)
    assert anomaly_correlation(truth, climatology + 2 * (truth - climatology), climatology) == pytest.approx(1)
    assert anomaly_correlation(truth, 2 * climatology - truth, climatology) == pytest.approx(-1)
    shifted = anomaly_correlation(truth + 9, climatology + 9 + (truth - climatology), climatology)
    assert shifted > 0.98  # not centred: a common departure counts
    with pytest.raises(InputError, match="not defined"):
        anomaly_correlation(truth, climatology.expand(3, 4, 6), climatology)


def test_crps_by_hand_and_by_brute_force() -> None:
    members, truth = torch.tensor([[[0.0]], [[2.0]]]), torch.tensor([[1.0]])
    assert float(crps(members, truth)) == pytest.approx(0.0)  # 1 - 2/2
    assert float(crps(members, truth, fair=False)) == pytest.approx(0.5)  # 1 - 1/2
    assert float(crps(members[:1], truth)) == pytest.approx(1.0)  # one member: the absolute error
    x, y = normal(7, 3, 4), normal(3, 4, seed=1)
    gaps = (x[:, None] - x[None]).abs().sum((0, 1)) / 2
    error = (x - y).abs().mean(0)
    assert torch.allclose(crps(x, y), error - gaps / (7 * 6))
    assert torch.allclose(crps(x, y, fair=False), error - gaps / 49)


def test_crps_of_a_normal_distribution() -> None:
    # at its centre: s (2 phi(0) - 1/sqrt(pi)) = 0.23369 s
    assert float(crps_gaussian(torch.tensor(0.0), torch.tensor(2.0), torch.tensor(0.0))) == pytest.approx(
        0.46739, rel=1e-4
    )
    truth = 0.5 + normal(200, 200, seed=9) * 0
    members = normal(5, 200, 200)
    expected = float(crps_gaussian(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(0.5)))
    found = crps(members, truth)
    error = float(found.std()) / math.sqrt(found.numel())
    assert abs(float(found.mean()) - expected) < 4 * error  # fair: no bias at five members
    assert float(crps(members, truth, fair=False).mean()) - expected > 20 * error
    with pytest.raises(InputError, match="not above 0"):
        crps_gaussian(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0))


@pytest.mark.parametrize("members", [2, 5, 20])
def test_reliable_ensembles(members: int) -> None:
    x, y = reliable(members)
    # 10^4 places of log-normal width weigh as some 500 would: 4 standard errors of a ratio of variances are 0.12
    assert spread_skill(x, y) == pytest.approx(1, abs=0.12)
    assert spread_skill(y + 2 * (x - y), y) == pytest.approx(spread_skill(x, y), rel=1e-9)  # both double
    wide = x.mean(0) + 2 * (x - x.mean(0))
    assert spread_skill(wide, y) == pytest.approx(2 * spread_skill(x, y), rel=1e-9)
    counts = rank_histogram(x, y, rng())
    chi2 = float(((counts - counts.double().mean()) ** 2 / counts.double().mean()).sum())
    assert len(counts) == members + 1 and int(counts.sum()) == y.numel()
    assert chi2 < members + 5 * math.sqrt(2 * members) + 5


def test_variances_are_averaged_not_deviations() -> None:
    x = torch.tensor([[[-1.0, -3.0]], [[1.0, 3.0]]], dtype=torch.float64)  # variances 2 and 18
    y = torch.tensor([[2.0, 2.0]], dtype=torch.float64)
    assert spread_skill(x, y) == pytest.approx(math.sqrt(1.5 * 10 / 4))


def test_error_of_the_mean() -> None:
    x, y = reliable(4)
    exact = float(((x.mean(0) - y) ** 2).mean())
    assert mean_square_error(x, y) == pytest.approx(exact)
    assert mean_square_error(x, y, debiased=True) == pytest.approx(exact - float(x.var(0).mean()) / 4)


def test_rank_of_a_known_truth() -> None:
    members = torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]], [[3.0, 3.0]]])
    assert rank_histogram(members, torch.tensor([[0.0, 9.0]]), rng()).tolist() == [1, 0, 0, 1]
    tied = rank_histogram(torch.zeros(3, 50, 50), torch.zeros(50, 50), rng())
    assert abs(tied - 625).max() < 5 * math.sqrt(625)  # ties are spread evenly


def test_energy_score() -> None:
    x, y = normal(6, 1, 1), normal(1, 1, seed=1)
    assert energy_score(x, y) == pytest.approx(float(crps(x, y)))  # of one number it is the CRPS
    assert energy_score(x, y, fair=False) == pytest.approx(float(crps(x, y, fair=False)))
    x, y = normal(5, 2, 3, 4), normal(2, 3, 4, seed=1)
    norm = lambda v: float((v**2).mean((-2, -1)).sum().sqrt())  # noqa: E731
    pairs = sum(norm(a - b) for a in x for b in x)
    assert energy_score(x, y) == pytest.approx(sum(norm(a - y) for a in x) / 5 - pairs / 2 / 20)
    assert energy_score(x[:1], y) == pytest.approx(norm(x[0] - y))
    right, wrong = normal(40, 3, 4), 1 + normal(40, 3, 4)
    truth = normal(3, 4, seed=7)
    assert energy_score(right, truth, [10.0, 0.0, -10.0]) < energy_score(wrong, truth, [10.0, 0.0, -10.0])


def test_bad_input() -> None:
    x, y = normal(3, 4, 5), normal(4, 5)
    with pytest.raises(ShapeError, match="expected \\(M, \\*truth\\)"):
        crps(y, y)
    with pytest.raises(ShapeError, match="expected the same"):
        rmse(y, x[0, :3])
    with pytest.raises(InputError, match="at least 2 members"):
        spread_skill(x[:1], y)
    with pytest.raises(InputError, match="NaN"):
        crps(x, y * math.nan)
    with pytest.raises(InputError, match="not defined"):
        spread_skill(torch.stack([y, y]), y)


def test_agreement_with_xskillscore() -> None:
    """Weighted RMSE, CRPS of the members as they are, and rank counts; an independent implementation."""
    xs = pytest.importorskip("xskillscore", reason="xskillscore is not installed")
    xr = pytest.importorskip("xarray")
    from invdiff.operators.fields.sphere import cell_areas

    lat = [80.0, 40.0, 0.0, -40.0, -80.0]
    truth, members = normal(6, 5, 8, seed=11), normal(7, 6, 5, 8, seed=12)
    dims = ["time", "lat", "lon"]
    y, x = xr.DataArray(truth.numpy(), dims=dims), xr.DataArray(members.numpy(), dims=["member", *dims])
    weights = xr.ones_like(y) * xr.DataArray(cell_areas(lat).numpy(), dims=("lat",))
    assert rmse(truth, members[0], lat) == pytest.approx(float(xs.rmse(y, x[0], dim=dims, weights=weights)), rel=1e-10)
    theirs = float(xs.crps_ensemble(y, x, dim=dims, weights=weights))
    assert float(area_mean(crps(members, truth, fair=False), lat).mean()) == pytest.approx(theirs, rel=1e-10)
    assert float(area_mean(crps(members, truth), lat).mean()) != pytest.approx(theirs, rel=1e-3)  # theirs is not fair
    ranks = xs.rank_histogram(y, x, dim=dims).values
    assert rank_histogram(members, truth, rng()).tolist() == ranks.astype(int).tolist()
    gaussian = xs.crps_gaussian(y, x.mean("member"), x.std("member"), dim=[])
    ours = crps_gaussian(members.mean(0), members.std(0, correction=0), truth)
    assert torch.allclose(ours, torch.from_numpy(gaussian.values), rtol=1e-6)


def test_agreement_with_scores() -> None:
    """Weighted RMSE and bias, fair CRPS and that of the members as they are, ranks; an independent implementation."""
    scores = pytest.importorskip("scores", reason="scores is not installed")
    xr = pytest.importorskip("xarray")
    from invdiff.operators.fields.sphere import cell_areas

    lat = [80.0, 40.0, 0.0, -40.0, -80.0]
    truth, members = normal(6, 5, 8, seed=13), normal(7, 6, 5, 8, seed=14)
    dims = ["time", "lat", "lon"]
    y, x = xr.DataArray(truth.numpy(), dims=dims), xr.DataArray(members.numpy(), dims=["member", *dims])
    weights = xr.ones_like(y) * xr.DataArray(cell_areas(lat).numpy(), dims=("lat",))
    theirs = float(scores.continuous.rmse(x[0], y, weights=weights))
    assert rmse(truth, members[0], lat) == pytest.approx(theirs, rel=1e-10)
    theirs = float(scores.continuous.additive_bias(x[0], y, weights=weights))
    assert bias(truth, members[0], lat) == pytest.approx(theirs, rel=1e-10)
    for fair, method in ((True, "fair"), (False, "ecdf")):
        theirs = float(scores.probability.crps_for_ensemble(x, y, "member", method=method, weights=weights))
        assert float(area_mean(crps(members, truth, fair=fair), lat).mean()) == pytest.approx(theirs, rel=1e-10)
    shares = scores.probability.rank_histogram(x, y, "member").values
    ranks = rank_histogram(members, truth, rng()).double() / truth.numel()
    assert torch.allclose(ranks, torch.from_numpy(shares).double())
