"""Sequential Monte Carlo: exact where it must be, evidence against closed forms, populations and interruptions."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import Operator
from invdiff.operators.matrix import Matrix
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.random import Streams, generator
from invdiff.samplers.named import sampler
from invdiff.samplers.smc import SMC
from invdiff.sampling import sample
from invdiff.validation.linear_gaussian import components
from invdiff.validation.mixture import lattice_problem, posterior
from invdiff.validation.sampler_problem import agreement, exact_posterior, problem


def run(measurement, prior, method, draws, **options):
    return sample(measurement, prior, method, draws, device="cpu", progress=False, **options)


@pytest.mark.parametrize("domain", ["real", "complex"])
def test_a_gaussian_prior_is_exact_in_three_steps_and_every_weight_is_the_evidence(domain) -> None:
    case = problem(domain, generator(3))
    exact, spread = exact_posterior(case)
    # 16 directions: the whole covariance of 8 complex entries. Starting at a finite noise level instead of infinity
    # scatters the log-weights by about scale / sigma_max = 1/2000 for each prior deviation.
    method = SMC(3, unit=50, particles=1, directions=16, keep_weights=True, sigma_max=2000.0)
    found = run(case.measurement, case.prior, method, 1000)
    log_w = found.dataset["log_weight"].values
    assert abs(log_w - exact.log_evidence).max() < 0.02
    close = agreement(torch.from_numpy(found.draws.values), exact, spread)
    # five standard errors of 1000 independent draws
    assert float(close.bias.abs().max()) < 5 / math.sqrt(1000)
    assert float((close.ratio - 1).abs().max()) < 5 / math.sqrt(2000)


@pytest.mark.parametrize(("method", "nfe", "limit"), [("smc", 100, 0.25), ("mcgdiff", 800, 0.5)])
def test_the_evidence_of_a_mixture(method, nfe, limit) -> None:
    # Each has a standard error of about 0.1 (smc) and 0.25 (mcgdiff) at this size; three of them are averaged.
    errors = []
    for seed in range(3):
        prior, measurement = lattice_problem(8, 2, generator(100 + seed))
        found = run(measurement, prior, sampler(method, nfe), 64, seed=seed)
        errors.append(found.diagnostics["log_evidence"] - posterior(prior, measurement).log_evidence)
    assert abs(sum(errors) / 3) < limit


@pytest.mark.parametrize("domain", ["real", "complex"])
def test_the_modes_of_a_mixture_get_their_weights(domain) -> None:
    prior, measurement = lattice_problem(6, 1, generator(14), sigma=0.3, domain=domain)
    exact = posterior(prior, measurement)
    zero = torch.zeros(1)

    def shares(draws: Tensor) -> Tensor:
        return prior.responsibilities(draws.to(prior.means.dtype), zero).mean(0).double()

    found = shares(torch.from_numpy(run(measurement, prior, "smc", 384).draws.values))
    # Exact draws, as many, are about 0.04 away; guidance alone (mmps) 0.29 and 0.35.
    assert 0.5 * float((found - exact.weights).abs().sum()) < 0.13


def test_the_low_rank_covariance_is_the_true_one_where_the_data_look() -> None:
    from invdiff.guidance.base import Counts
    from invdiff.samplers.smc_moments import MomentTwist

    rng = generator(5)
    root = torch.randn(20, 20, generator=rng, dtype=torch.float64)
    spread, matrix = root @ root.T / 20, torch.randn(3, 20, generator=rng, dtype=torch.float64)
    prior = GaussianPrior(torch.zeros(20, dtype=torch.float64), spread)
    measurement = Measurement(torch.randn(3, generator=rng, dtype=torch.float64), Matrix(matrix), Gaussian(0.5))
    x = torch.randn(4, 20, generator=rng, dtype=torch.float64)
    belief = MomentTwist(prior, measurement, Counts(), 1, 2)(x, 0.7, None, Streams(0, range(4)))
    covariance = spread @ torch.linalg.inv(spread + 0.49 * torch.eye(20, dtype=torch.float64)) * 0.49
    expected = covariance @ matrix.T
    for factor in belief.factor:
        torch.testing.assert_close(factor @ (factor.mT @ matrix.T), expected, rtol=1e-8, atol=1e-10)
    s = matrix @ expected + 0.25 * torch.eye(3, dtype=torch.float64)
    residual = measurement.residual(prior.denoise(x, torch.full((1,), 0.7)))
    law = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), s)
    # the twist leaves out the constant of the whitened noise
    constant = -3 * math.log(0.5 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(belief.log_twist + constant, law.log_prob(residual), rtol=1e-8, atol=1e-8)


class Square(Operator):
    """``y = (x_1^2, x_1 x_2)``: two posterior modes of equal weight, x and -x."""

    domain_shape = range_shape = (2,)

    def _forward(self, x: Tensor) -> Tensor:
        return x[:, :1] * x


class Bent(Operator):
    """``y = x + x^3/4``, mixed: one mode, far from Gaussian."""

    domain_shape = range_shape = (2,)

    def _forward(self, x: Tensor) -> Tensor:
        bent = x + x**3 / 4
        return torch.stack([bent[:, 0] + bent[:, 1], bent[:, 0] - 0.5 * x[:, 1]], 1)


@pytest.mark.parametrize(
    ("operator", "twist", "limit"),
    [(Square(), "moments", 0.15), (Bent(), "moments", 0.15), (Bent(), "krylov", 0.15), (Bent(), "pigdm", 0.15)],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_a_nonlinear_operator(operator, twist, limit) -> None:
    prior = GaussianPrior(torch.zeros(2), torch.eye(2))
    measurement = Measurement(torch.tensor([1.2, -0.8]), operator, Gaussian(0.3))
    found = run(measurement, prior, SMC(100, unit=32, twist=twist, iterations=2), 512)
    # truth on a grid of spacing 0.02, which resolves a likelihood of width 0.1 and more
    grid = torch.arange(-5, 5, 0.02, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    joint = measurement.to(torch.float64).log_likelihood(points) - 0.5 * (points**2).sum(1) - math.log(2 * math.pi)
    p = torch.softmax(joint, 0)
    evidence = float(torch.logsumexp(joint, 0)) + 2 * math.log(0.02)
    right = points[:, 0] > 0
    mean = (p[right, None] * points[right]).sum(0) / p[right].sum()
    x, w = torch.from_numpy(found.draws.values).double(), torch.from_numpy(found.weights.values)
    assert abs(found.diagnostics["log_evidence"] - evidence) < limit
    side = x[:, 0] > 0
    assert float(w[side].sum()) == pytest.approx(float(p[right].sum()), abs=0.15)  # 16 populations
    assert float(((w[side, None] * x[side]).sum(0) / w[side].sum() - mean).abs().max()) < 0.08


def test_conjugate_gradients_know_the_determinant() -> None:
    from invdiff.samplers.smc_krylov import solve

    rng = generator(7)
    a = torch.randn(5, 4, 9, generator=rng, dtype=torch.float64)
    v = torch.randn(9, 9, generator=rng, dtype=torch.float64)
    v, rhs = v @ v.T, torch.randn(5, 4, generator=rng, dtype=torch.float64)

    def back(w: Tensor) -> Tensor:
        return (v @ (a.mT @ w[..., None]))[..., 0]

    u, image, log_det = solve(back, lambda x: (a @ x[..., None])[..., 0], rhs, 4)
    system = torch.eye(4, dtype=torch.float64) + a @ v @ a.mT
    torch.testing.assert_close(u, torch.linalg.solve(system, rhs), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(image, back(u), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(log_det, torch.logdet(system), rtol=1e-6, atol=1e-8)


def test_many_data_by_conjugate_gradients() -> None:
    # 24 data of 24 unknowns, more than the moment twist forms one by one.
    case = problem("real", generator(8), size=24, data=24, sigma=0.5)
    exact, spread = exact_posterior(case)
    found = run(case.measurement, case.prior, SMC(60, unit=16, particles=1, iterations=10), 256)
    assert found.diagnostics["log_evidence"] == pytest.approx(exact.log_evidence, abs=0.3)
    x, w = components(torch.from_numpy(found.draws.values)), torch.from_numpy(found.weights.values)
    error = ((w[:, None] * x).sum(0) - components(exact.mean[None])[0]) / exact.std
    assert float(error.abs().max()) < 5 / math.sqrt(found.ess())


def small(**options) -> SMC:
    return SMC(24, **options)


def test_a_part_of_a_population_is_the_first_of_it() -> None:
    case = problem("real", generator(1))
    five, all_eight = (run(case.measurement, case.prior, small(), n) for n in (5, 8))
    assert five.dataset.sizes["draw"] == 5
    torch.testing.assert_close(five.draws.values, all_eight.draws.values[:5], rtol=0, atol=0)
    assert five.diagnostics["nfe"] == round(24 * 8 / 5)  # the three that were dropped are paid for


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch) -> None:
    from invdiff.engine.checkpoint import Checkpoint

    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))  # keep every state
    prior, measurement = lattice_problem(12, 1, generator(2))
    whole = run(measurement, prior, small(), 16)

    class Stop(Exception):
        pass

    def interrupt(state, _):
        if state.step == 4:
            raise Stop

    with pytest.raises(Stop):
        run(measurement, prior, small(), 16, checkpoint=tmp_path / "c", watch=interrupt)
    resumed = run(measurement, prior, small(), 16, checkpoint=tmp_path / "c", resume=True)
    torch.testing.assert_close(resumed.draws.values, whole.draws.values, rtol=0, atol=0)
    torch.testing.assert_close(resumed.dataset.log_weight.values, whole.dataset.log_weight.values, rtol=0, atol=0)


def test_several_problems_have_weights_and_evidence_of_their_own() -> None:
    case = problem("real", generator(4))
    y = torch.stack([case.y, -case.y])
    both = run(Measurement(y, Matrix(case.matrix), Gaussian(case.sigma), batched=True), case.prior, small(), 16)
    assert both.dataset["log_weight"].dims == ("draw", "problem")
    for k in range(2):
        exact, _ = exact_posterior(type(case)(case.mean, case.spread, case.matrix, y[k], case.sigma, case.domain))
        assert both.diagnostics["log_evidence"][k] == pytest.approx(exact.log_evidence, abs=0.04)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"nfe": 1}, "nfe"),
        ({"unit": 0}, "unit"),
        ({"twist": "best"}, "twist"),
        ({"threshold": 1.5}, "threshold"),
        ({"keep_weights": True}, "keep_weights"),
        ({"twist": "mcgdiff", "nfe": 3}, "mcgdiff"),
    ],
)
def test_options_that_make_no_sense(options, word) -> None:
    with pytest.raises(InputError, match=word):
        SMC(**options)


def test_a_solver_beside_it_is_refused() -> None:
    for name in ("smc", "mcgdiff", "mmps-weighted"):
        with pytest.raises(InputError, match="takes no solver"):
            sampler(name, solver="heun")


def test_mixture_noise_starts_wide_of_its_widest_direction() -> None:
    # 2 modes 200 apart in 100 dimensions: an average deviation would start within the prior itself.
    means = torch.zeros(2, 100)
    means[1, 0] = 200
    prior = GaussianMixturePrior(torch.ones(2), means, torch.eye(100))
    assert prior.sigma_max >= 10 * 100


def test_mcgdiff_keeps_its_levels_below_the_first_where_data_say_nothing() -> None:
    from invdiff.guidance.base import Counts
    from invdiff.samplers.mcgdiff import SpectralTwist

    matrix = torch.diag(torch.tensor([1.0, 1e-4, 1e-5]))
    prior = GaussianPrior(torch.zeros(3), torch.eye(3))
    twist = SpectralTwist(prior, Measurement(torch.ones(3), Matrix(matrix), Gaussian(0.1)), Counts(), 1)
    levels = twist.grid([50.0, 45.0, 1.0, 0.01, 0.0])
    assert levels == sorted(levels, reverse=True) and len(set(levels)) == 5
    found = run(Measurement(torch.ones(3), Matrix(matrix), Gaussian(0.1)), prior, sampler("mcgdiff", 40), 8)
    assert bool(torch.isfinite(torch.from_numpy(found.draws.values)).all())
