import math

import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators import Matrix
from invdiff.priors.gaussian import GaussianPrior
from invdiff.validation.calibration import ranks, tarp, uniformity
from invdiff.validation.case import Marginals
from invdiff.validation.classifier import c2st
from invdiff.validation.directions import coverage, squared_bias, std_ratio
from invdiff.validation.linear_gaussian import posterior
from invdiff.validation.sliced import project, slices, wasserstein
from invdiff.validation.stein import kernel_stein, posterior_score


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def test_sliced_distance_of_a_shift():
    # Projections move by u.d, so W1 = |d| E|u_1| and W2 = |d| / sqrt(D), whatever the points.
    size, x, u = 3, randn(50, 3), slices(3, 20_000, rng(1))
    d = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)
    w1, w2 = wasserstein(project(x, u), project(x + d, u))
    assert w1 == pytest.approx(3 * 0.5, rel=0.02)  # E|u_1| = 1/2 on the sphere in three dimensions
    assert w2 == pytest.approx(3 / size**0.5, rel=0.02)
    with pytest.raises(ShapeError):
        wasserstein(project(x, u), project(x[:-1], u))


def test_sliced_distance_is_the_optimal_transport():
    from scipy.stats import wasserstein_distance

    a, b, u = randn(40, 1), 0.5 + 2 * randn(40, 1, seed=2), torch.ones(1, 1, dtype=torch.float64)
    found = wasserstein(project(a, u), project(b, u))[0]
    assert found == pytest.approx(wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy()))


def law(k=3):
    return Marginals(torch.ones(1).double(), torch.zeros(1, k).double(), torch.ones(1, k).double())


def test_marginals_of_a_mixture():
    weights, means = torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0], [2.0]]).double()
    stds = torch.tensor([[0.5], [1.5]]).double()
    found = Marginals(weights, means, stds)
    index = (torch.rand(100_000, generator=rng(4)) < 0.7).long()
    x = means[index] + stds[index] * randn(100_000, 1, seed=5)
    assert abs(float(found.mean) - float(x.mean())) < 4 * float(x.std()) / 100_000**0.5
    assert float(found.std) == pytest.approx(float(x.std()), rel=0.02)
    assert float(found.below(torch.tensor([1.0]))) == pytest.approx(float((x < 1).double().mean()), abs=4e-3 * 1.6)
    points = Marginals.of_draws(x)
    assert float(points.below(torch.tensor([1.0]).double())) == pytest.approx(float((x < 1).double().mean()))


def test_bias_spread_and_coverage_of_exact_draws():
    n, k = 500, 40
    x = randn(n, k, seed=6)
    bias2 = squared_bias(x, law(k))
    assert abs(float(bias2.mean())) < 4 * (2 / k) ** 0.5 / n  # its deviation is sqrt(2)/n a direction
    assert std_ratio(x, law(k)) == pytest.approx(1, abs=4 / (2 * n * k) ** 0.5)
    for level in (0.5, 0.9):
        assert coverage(x, law(k), level) == pytest.approx(level, abs=4 * (level * (1 - level) / n / k) ** 0.5)


def test_bias_spread_and_coverage_of_wrong_draws():
    x = 0.3 + 1.4 * randn(40_000, 4, seed=7)
    # The mean's deviation is 1.4/200; that of the mean of four squares 2 * 0.3 * 0.007 / 2, 2.3 % of 0.09.
    assert float(squared_bias(x, law(4)).mean()) == pytest.approx(0.09, rel=0.1)
    assert std_ratio(x, law(4)) == pytest.approx(1.4, rel=0.03)
    z = 1.4 * 1.6449
    expected = 0.5 * (math.erf((0.3 + z) / 2**0.5) - math.erf((0.3 - z) / 2**0.5))
    assert coverage(x, law(4), 0.9) == pytest.approx(expected, abs=0.01)


def test_interval_ends():
    # 80 % of the law lies between the 1st and the 9th of 9 draws in the mean; here those two hold nearly all.
    x = torch.tensor([[-9.0], [0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7], [9.0]]).double()
    assert coverage(x, law(1), 0.8) == pytest.approx(1)


def test_bias_of_populations_counts_populations():
    # Four copies of each draw: a quarter of the information. Taken as independent the noise would look like bias.
    x = randn(100, 50, seed=8).repeat_interleave(4, 0)
    assert abs(float(squared_bias(x, law(50), unit=4).mean())) < 4 * (2 / 50) ** 0.5 / 100
    assert float(squared_bias(x, law(50)).mean()) > 0.5 * 0.75 / 100
    assert bool(squared_bias(x, law(50), unit=400).isnan().all())


def test_classifier():
    # The neighbours' law is that of 2n votes in all but rounding: the deviation of an accuracy is about 1/(2 sqrt(2n)).
    n = 800
    a, b = randn(n, 4, seed=9), randn(n, 4, seed=10)
    assert c2st(a, b) == pytest.approx(0.5, abs=5 / (2 * (2 * n) ** 0.5))
    assert c2st(a + 5, b) > 0.98
    narrow = torch.tensor([1.0, 1.0, 1.0, 1e-3], dtype=torch.float64)  # an error in a narrow direction counts as well
    wrong = a * narrow
    wrong[:, 3] *= 20
    assert c2st(wrong, b * narrow) > 0.8
    with pytest.raises(ShapeError):
        c2st(a, b[:-1])


def test_stein_kernel_by_automatic_differentiation():
    x, s, w = randn(5, 3, seed=11), randn(5, 3, seed=12), 1.7

    def k(a, b):
        return (1 + ((a - b) ** 2).sum() / w**2) ** -0.5

    total = 0.0
    for i in range(5):
        for j in range(5):
            a, b = x[i], x[j]
            ga, gb = torch.func.grad(k, argnums=(0, 1))(a, b)
            cross = torch.func.jacfwd(torch.func.grad(k, argnums=0), argnums=1)(a, b)
            total += float(s[i] @ s[j] * k(a, b) + s[i] @ gb + s[j] @ ga + cross.trace())
    assert kernel_stein(x, s, w) == pytest.approx(math.sqrt(total / 3) / 5, rel=1e-9)


def test_stein_discrepancy_falls_for_exact_draws_only():
    def of(x):
        return kernel_stein(x, -x, 1.5)

    few, many = of(randn(100, 2, seed=13)), of(randn(1600, 2, seed=14))
    assert many < 0.4 * few  # as n^(-1/2): a quarter
    assert of(1.5 * randn(1600, 2, seed=14)) > 5 * many and of(0.3 + randn(1600, 2, seed=14)) > 3 * many


@pytest.mark.parametrize("complex_", [False, True])
def test_posterior_score_of_a_gaussian(complex_):
    dtype = torch.complex128 if complex_ else torch.float64
    matrix = torch.randn(2, 3, generator=rng(15), dtype=dtype)
    prior = GaussianPrior(
        torch.ones(3, dtype=dtype), torch.diag(torch.tensor([0.5, 1.0, 2.0])), "complex" if complex_ else "real"
    )
    measurement = Measurement(torch.randn(2, generator=rng(16), dtype=dtype), Matrix(matrix), Gaussian(0.4))
    exact = posterior(prior, measurement)
    x = exact.sample(4, rng(17))
    found = posterior_score(prior, measurement, x)
    centred = x - exact.mean
    parts = (torch.view_as_real(centred) if complex_ else centred).flatten(1)
    torch.testing.assert_close(found, -torch.linalg.solve(exact.covariance, parts.mT).mT, rtol=1e-3, atol=1e-3)


def problems(count=300, draws=39, size=3, spread=1.0, shift=0.0):
    """x ~ N(0, 1), y = x + n, n ~ N(0, 1): the posterior is N(y/2, 1/2)."""
    truth = randn(count, size, seed=20)
    mean = 0.5 * (truth + randn(count, size, seed=21))
    return truth, mean + shift + spread * 0.5**0.5 * randn(draws, count, size, seed=22)


def test_ranks_of_exact_draws_are_uniform():
    truth, draws = problems()
    found = ranks(truth, draws)
    assert int(found.min()) >= 0 and int(found.max()) <= 39
    for k in range(3):
        assert uniformity(found[:, k], 39, rng(1)).p_value > 0.01
    assert tarp(truth, draws, rng(2)).p_value > 0.01


@pytest.mark.parametrize(("spread", "shift"), [(0.6, 0.0), (1.7, 0.0), (1.0, 0.4)])
def test_wrong_draws_are_found_out(spread, shift):
    truth, draws = problems(spread=spread, shift=shift)
    assert uniformity(ranks(truth, draws)[:, 0], 39, rng(1)).p_value < 1e-3
    assert tarp(truth, draws, rng(2)).p_value < 0.02


def test_uniformity_p_value():
    from scipy.stats import kstest

    found = uniformity(torch.arange(200) // 2, 99, rng(3))
    assert found.p_value > 0.9  # as even as can be
    skewed = torch.rand(150, generator=rng(4), dtype=torch.float64) ** 1.3
    u = uniformity((skewed * 1e6).long(), 999_999, rng(5))
    known = kstest(skewed.numpy(), "uniform")
    assert u.deviation == pytest.approx(known.statistic, abs=1e-4)
    assert u.p_value == pytest.approx(known.pvalue, rel=0.1)


def test_shapes_are_checked():
    with pytest.raises(ShapeError):
        ranks(torch.zeros(4, 2), torch.zeros(5, 3, 2))
    with pytest.raises(ShapeError):
        tarp(torch.zeros(4, 2), torch.zeros(4, 2), rng())
