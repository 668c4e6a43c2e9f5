"""Solvers that are fitted to a denoiser and a grid on pilot draws; always judged on other draws."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.random import Streams, generator
from invdiff.schedules import geometric, karras
from invdiff.solvers import (
    DDIM,
    DPMpp2M,
    DPMv3,
    ModelStatistics,
    Plan,
    Scheduled,
    UniPC,
    fit_ratios,
    fit_time_shift,
    model_statistics,
    search,
)
from invdiff.solvers.pilot import trajectory

VARIANCE = torch.tensor([0.05, 0.3, 1.0, 2.0], dtype=torch.float64)
GRID = geometric(0.05, 10.0, 9)


def gaussian(x, sigma):
    """Denoiser of independent entries of variances VARIANCE."""
    return x * (VARIANCE / (VARIANCE + sigma**2)).to(x.dtype)


def shifted(x, sigma):
    """The same about a mean of 1."""
    return 1 + gaussian(x - 1, sigma)


def noise(count, seed, size=4):
    return 10 * torch.randn(count, size, dtype=torch.float64, generator=generator(seed))


def rng(count=16):
    return Streams(1, range(count))


def solve(solver, denoise, x, grid=GRID):
    *_, last = solver.steps(denoise, x, grid, rng(len(x)))
    return last.x


def error(solver, denoise, grid=GRID, size=4):
    """Mean distance from the fine solution, on noise that no fit has seen."""
    x = noise(128, 77, size)
    return float((solve(solver, denoise, x, grid) - trajectory(denoise, x, grid, rng(128))[-1]).norm(dim=1).mean())


def test_the_pilot_follows_the_flow():
    x = noise(16, 5)
    for level, state in zip(GRID[:-1], trajectory(gaussian, x, GRID, rng()), strict=False):
        torch.testing.assert_close(state, x * ((VARIANCE + level**2) / (VARIANCE + 100)).sqrt(), rtol=2e-5, atol=1e-6)


def test_statistics_of_a_gaussian_are_those_of_the_closed_form():
    found = model_statistics(gaussian, noise(16, 5), GRID, rng(), pooled=False)
    for sigma in (0.07, 0.5, 4.0):
        slope, s, b = found.at(sigma, VARIANCE)
        # 1 - l is the denoiser's slope; then f = (1 - l) x - D is zero, and so is its drift
        torch.testing.assert_close(slope, sigma**2 / (VARIANCE + sigma**2), rtol=0, atol=5e-4)
        assert float(s.abs().max()) < 1e-6 and float(b.abs().max()) < 1e-6
    pooled = model_statistics(gaussian, noise(16, 5), GRID, rng())
    assert pooled.l.shape == (len(pooled.times), 1)
    assert float(pooled.at(0.5, VARIANCE)[0]) == pytest.approx(float((0.25 / (VARIANCE + 0.25)).mean()), abs=1e-3)


def test_statistics_see_a_drift():
    # About a mean of 1, f = (1 - l) x - D = -l, the same for all x: b is its derivative in lambda.
    found = model_statistics(shifted, noise(16, 5), GRID, rng(), pooled=False)
    sigma = 0.5
    kept = sigma**2 / (VARIANCE + sigma**2)
    _, s, b = found.at(sigma, VARIANCE)
    torch.testing.assert_close(b, 2 * kept * (1 - kept), rtol=0.02, atol=1e-3)
    assert float(s.abs().max()) < 1e-3


@pytest.mark.parametrize("denoise", [gaussian, shifted])
def test_dpmv3_is_exact_where_the_model_is_its_statistics(denoise):
    found = model_statistics(denoise, noise(16, 5), GRID, rng(), pooled=False)
    few = geometric(0.05, 10.0, 3)  # three steps from 10 to 0
    assert error(DPMv3(found, 1), denoise, few) < 2e-3
    assert error(UniPC(3), denoise, few) > 0.1


def test_dpmv3_with_trivial_statistics_is_the_data_prediction_rule():
    one = torch.ones(2, 1, dtype=torch.float64)
    trivial = ModelStatistics(torch.tensor([-3.0, 3.0], dtype=torch.float64), one, 0 * one, 0 * one)
    n = len(GRID) - 1
    plain = Scheduled(Plan((3,) * n, (False,) * n, tuple(float(i) for i in range(n))))
    x = noise(8, 3)
    torch.testing.assert_close(
        solve(DPMv3(trivial, 3), gaussian, x), solve(plain, gaussian, x), rtol=1e-3, atol=1e-3
    )  # trapezoid rule against exact weights


def test_pooled_statistics_help_at_few_steps():
    found = model_statistics(gaussian, noise(16, 5), GRID, rng())
    assert error(DPMv3(found, 2), gaussian) < 0.5 * error(DPMpp2M(), gaussian)


def mixture(x, sigma):
    means = torch.tensor([[-3.0, 0.0], [2.0, 2.0], [1.0, -3.0]], dtype=torch.float64)
    prior = GaussianMixturePrior(torch.tensor([0.5, 0.3, 0.2]), means, torch.eye(2, dtype=torch.float64))
    return prior.denoise(x, torch.full((1,), sigma, dtype=torch.float64))


def test_compensation_lowers_the_error_of_few_steps():
    grid = geometric(0.05, 10.0, 8)
    fitted = fit_ratios(mixture, noise(32, 5, 2), grid, rng(32))
    assert fitted.ratios is not None and any(r != 1 for r in fitted.ratios) and fitted.ratios[:2] == [1, 1]
    assert error(fitted, mixture, grid, 2) < 0.75 * error(UniPC(3), mixture, grid, 2)


def test_time_shift_lowers_the_error_of_euler():
    fitted = fit_time_shift(DDIM(0.0), gaussian, noise(32, 5), GRID, rng(32))
    assert error(fitted, gaussian) < 0.8 * error(DDIM(0.0), gaussian)
    # Euler's states are too wide or too narrow by something, at most a quarter of the level; the first level is given.
    assert fitted.levels[0] == GRID[0] and any(a != b for a, b in zip(fitted.levels, GRID, strict=False))
    assert all(0.75 * b <= a <= 1.25 * b for a, b in zip(fitted.levels, GRID, strict=False))


def test_time_shift_leaves_an_exact_solver_alone():
    fine = geometric(0.05, 10.0, 60)
    fitted = fit_time_shift(UniPC(3), gaussian, noise(16, 5), fine, rng())
    assert fitted.levels == pytest.approx(fine[:-1], rel=1e-3)


def test_a_searched_plan_beats_all_constant_ones():
    grid = geometric(0.05, 10.0, 8)
    found = search(mixture, noise(32, 5, 2), grid, rng(32), rounds=2)
    places = tuple(float(i) for i in range(8))
    constant = [Scheduled(Plan((k,) * 8, (c,) * 8, places)) for k in (1, 2, 3) for c in (False, True)]
    assert error(found, mixture, grid, 2) < 0.6 * min(error(s, mixture, grid, 2) for s in constant)


def test_a_plan_serves_another_range():
    plan = search(gaussian, noise(16, 5), GRID, rng(), rounds=1).plan
    levels = [s.sigma for s in Scheduled(plan).steps(gaussian, noise(4, 1), karras(0.01, 50.0, 9), rng(4))]
    assert levels[-1] == 0 and levels == sorted(levels, reverse=True) and levels[-2] == pytest.approx(0.01)


def test_fits_need_more_than_one_draw():
    with pytest.raises(InputError, match="starting points"):
        fit_ratios(gaussian, noise(1, 5), GRID, rng(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_fits_in_single_precision_and_complex(dtype):
    x = 10 * torch.randn(16, 4, dtype=dtype, generator=generator(5))
    solvers = [
        DPMv3(model_statistics(gaussian, x, GRID, rng())),
        DPMv3(model_statistics(gaussian, x, GRID, rng(), pooled=False)),
        fit_ratios(gaussian, x, GRID, rng()),
        fit_time_shift(DPMpp2M(), gaussian, x, GRID, rng()),
        search(gaussian, x, GRID, rng(), rounds=1),
    ]
    goal = trajectory(gaussian, x, GRID, rng())[-1]
    for solver in solvers:
        found = solve(solver, gaussian, x)
        assert found.dtype == dtype
        assert float((found - goal).abs().square().mean().sqrt()) < 0.1
