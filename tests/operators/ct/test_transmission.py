"""X-ray counting noise: moments from theory, the likelihood from SciPy's Poisson distribution."""

import math

import pytest
import torch

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian, Transmission
from invdiff.operators.ct import ParallelCT
from invdiff.random import Streams, generator


def test_counts_have_the_mean_and_variance_of_theory():
    clean = torch.full((1, 100_000), 1.5, dtype=torch.float64)
    noise = Transmission(1000.0, electronic=5.0)
    counts = noise.counts(noise.sample(clean, generator(1)))
    mean = 1000 * math.exp(-1.5)
    variance = mean + 25
    # standard errors from 1e5 draws: 0.05 counts, and sqrt(2/1e5) = 0.45 % of the variance; four of each
    assert counts.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / 1e5))
    assert counts.var().item() == pytest.approx(variance, rel=0.018)


def test_weights_are_one_over_the_variance_of_y():
    clean = torch.full((1, 100_000), 2.0, dtype=torch.float64)
    noise = Transmission(2e4, electronic=20.0)
    y = noise.sample(clean, generator(2))
    # the logarithm's curvature adds 1/N = 0.04 %, the estimate scatters by 0.45 %; four of those
    assert y.var().item() * noise.weights(clean)[0, 0].item() == pytest.approx(1, rel=0.02)
    assert torch.allclose(torch.as_tensor(noise.gaussian(y).sigma) ** -2, noise.weights(y))


def test_likelihood_is_the_poisson_distribution():
    from scipy.stats import poisson

    blank = torch.tensor([50.0, 80.0, 100.0], dtype=torch.float64)
    counts = torch.tensor([[3.0, 20.0, 101.0], [7.0, 1.0, 90.0]], dtype=torch.float64)
    clean = torch.tensor([[1.0, 1.5, 0.0], [2.0, 3.0, 0.2]], dtype=torch.float64)
    noise = Transmission(blank)
    expected = poisson.logpmf(counts.numpy(), (blank * torch.exp(-clean)).numpy()).sum(1)
    found = noise.log_likelihood(noise.from_counts(counts), clean, 3)
    torch.testing.assert_close(found, torch.from_numpy(expected))


def test_likelihood_of_a_measurement_is_largest_near_the_truth():
    op = ParallelCT((16, 16), torch.linspace(0, 3, 12), 24)
    truth = torch.zeros(1, 1, 16, 16)
    truth[..., 5:11, 4:12] = 0.1
    noise = Transmission(1e5)
    m = Measurement(noise.sample(op.forward(truth), generator(0))[0], op, noise)
    values = [float(m.log_likelihood(s * truth)) for s in (0.9, 1.0, 1.1)]
    assert values[1] > max(values[0], values[2])
    approximate = Measurement(m.y, op, noise.gaussian(m.y))
    # chi2 of 288 data has standard deviation 24
    assert float(approximate.chi2(truth)) == pytest.approx(op.size, abs=4 * 24)
    assert isinstance(approximate.noise, Gaussian)


def test_streams_do_not_depend_on_their_neighbours():
    noise, clean = Transmission(30.0, electronic=2.0), torch.rand(3, 5, generator=generator(3))
    together = noise.sample(clean, Streams(7, [0, 1, 2]))
    assert torch.equal(noise.sample(clean[1:2], Streams(7, [1])), together[1:2])
    assert torch.equal(noise.sample(clean, Streams(7, [0, 1, 2])), together)


def test_photon_starved_rays_stay_finite_and_weigh_little():
    noise = Transmission(100.0, electronic=3.0)
    y = noise.sample(torch.full((1, 1000), 20.0), generator(4))
    assert torch.isfinite(y).all() and noise.weights(y).median() < 1.0


def test_absurd_counts_are_refused():
    with pytest.raises(InputError, match="counts go down to -3"):
        Transmission(100.0).from_counts(torch.tensor([5.0, -3.0]))
    assert torch.isfinite(Transmission(100.0, electronic=2.0).from_counts(torch.tensor([5.0, -3.0]))).all()
    with pytest.raises(InputError, match="not finite"):
        Transmission(100.0, electronic=2.0).from_counts(torch.tensor([5.0, math.nan]))
    for blank in (0.0, -5.0, math.nan):
        with pytest.raises(InputError, match="blank"):
            Transmission(blank)
    with pytest.raises(InputError, match="electronic"):
        Transmission(10.0, electronic=-1.0)
    for low in (-1000.0, -40.0):  # counts beyond all numbers, and those of which single ones are not told apart
        with pytest.raises(InputError, match="not Hounsfield units"):
            Transmission(1e3).sample(torch.tensor([[low, 500.0]]), generator(0))
    with pytest.raises(InputError, match="gaussian"):
        Transmission(10.0).whiten(torch.zeros(1, 2))
