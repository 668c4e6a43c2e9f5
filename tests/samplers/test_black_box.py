"""Samplers for operators that can only be evaluated, and RED-diff: their parts, and what they make of the data."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import invdiff
from invdiff.errors import InputError
from invdiff.guidance.base import Guidance
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import Operator
from invdiff.operators.imaging.phase_retrieval import PhaseRetrieval
from invdiff.operators.matrix import Matrix
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.random import Streams, generator
from invdiff.samplers.ensemble_kalman import EnKG
from invdiff.samplers.named import sampler
from invdiff.samplers.reddiff import REDDiff
from invdiff.samplers.svdd import SVDD
from invdiff.samplers.tree import DTS
from invdiff.samplers.tree_nodes import NONE, Tree
from invdiff.schedules import karras
from invdiff.solvers import State


class BlackBox(Operator):
    """``y = tanh(x)`` of the first entry through numpy: there is nothing to differentiate."""

    domain_shape, range_shape = (2,), (1,)

    def _forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(x.detach().numpy()[:, :1]))


@pytest.mark.parametrize("name", ["svdd", "dts", "enkg"])
def test_black_box_operators(name: str) -> None:
    prior = GaussianPrior(torch.zeros(2), torch.eye(2))
    measurement = Measurement(torch.tensor([0.8]), BlackBox(), Gaussian(0.1))
    made = invdiff.sample(measurement, prior, name, 64, nfe=200, progress=False)
    x = torch.from_numpy(made.draws.values)
    grid = torch.linspace(-4, 4, 4001)
    law = torch.exp(-0.5 * grid**2 - 0.5 * ((0.8 - torch.tanh(grid)) / 0.1) ** 2)
    mean = float((law * grid).sum() / law.sum())  # 1.10, deviation 0.27
    assert abs(float(x[:, 0].mean()) - mean) < 0.3
    assert 0.05 < float(x[:, 0].std()) < 0.6
    assert abs(float(x[:, 1].mean())) < 0.6  # of what was not measured, the prior (the draws of a tree depend)


@pytest.mark.parametrize("name", ["pnpdm", "daps", "reddiff", "svdd", "dts", "enkg"])
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_an_interrupted_run_goes_on_to_the_same_bits(name: str, share: float) -> None:
    prior = GaussianPrior(torch.zeros(3), torch.eye(3))
    measurement = Measurement(torch.ones(2), Matrix(torch.tensor([[1.0, 0, 0], [0, 1, 1]])), Gaussian(0.2))
    like = torch.empty(64, 3)

    def run(resume: State | None = None, states: list[Tensor] | None = None) -> list[tuple[State, list[Tensor]]]:
        rng = Streams(4, range(64))
        if states is not None:
            rng.restore(states)
        out = []
        for state in sampler(name, 60).steps(prior, measurement, like, rng, resume):
            memory = tuple(m.clone() for m in state.memory)
            assert state.x0 is not None
            kept = State(state.step, state.total, state.sigma, state.x.clone(), state.x0.clone(), memory)
            out.append((kept, rng.state()))
        return out

    whole = run()
    middle, states = whole[min(len(whole) - 2, int(share * len(whole)))]
    assert torch.equal(run(middle, states)[-1][0].x, whole[-1][0].x)


# ---- RED-diff -----------------------------------------------------------------------------------------------------
def test_a_step_of_red_diff_is_the_papers() -> None:
    rng = generator(0)
    a, y, mu = (torch.randn(s, dtype=torch.float64, generator=rng) for s in ((3, 5), (3,), (2, 5)))
    prior = GaussianPrior(torch.zeros(5, dtype=torch.float64), 4 * torch.eye(5, dtype=torch.float64))
    size2 = torch.full((2, 1), Matrix(a).norm() ** 2, dtype=torch.float64)
    zero = torch.zeros(2, 5, dtype=torch.float64)
    resume = State(0, 10, 1.0, mu, None, (zero, zero, size2))
    method = REDDiff(nfe=10, weight=0.3, rate=0.05)
    state = next(method.steps(prior, Measurement(y, Matrix(a), Gaussian(0.1)), mu, Streams(1, [0, 1]), resume))
    sigma = min(2 * math.sqrt(math.exp(0.1 + 19.9 / 2) - 1), prior.sigma_max)
    noisy = mu + sigma * Streams(1, [0, 1]).normal(mu)
    predicted = (noisy - 4 / (4 + sigma**2) * noisy) / sigma
    gradient = (mu @ a.T - y) @ a / Matrix(a).norm() ** 2 + 0.3 * sigma * (predicted - (noisy - mu) / sigma)
    torch.testing.assert_close(state.memory[0], 0.1 * gradient, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(state.x, mu - 0.05 * 2 * gradient.sign(), rtol=1e-5, atol=1e-5)


def test_adams_averages_are_corrected_for_their_start() -> None:
    prior = GaussianPrior(torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64))
    measurement = Measurement(torch.zeros(1, dtype=torch.float64), Matrix(torch.eye(1).double()), Gaussian(1.0))
    mu, average, square = (torch.full((1, 1), v, dtype=torch.float64) for v in (0.5, 1e6, 1e14))
    resume = State(4, 10, 1.0, mu, None, (average, square, torch.ones(1, 1, dtype=torch.float64)))
    state = next(REDDiff(nfe=10).steps(prior, measurement, mu, Streams(0, [0]), resume))  # the gradient is about 1
    step = 0.1 * (0.9 * 1e6 / (1 - 0.9**5)) / math.sqrt(0.99 * 1e14 / (1 - 0.99**5))
    assert float(mu - state.x) == pytest.approx(step, rel=1e-4)


def test_red_diff_fits_the_data() -> None:
    prior = GaussianPrior(torch.zeros(3), torch.eye(3))
    measurement = Measurement(torch.tensor([1.5]), Matrix(torch.tensor([[1.0, 1.0, 0.0]])), Gaussian(0.2))
    found = invdiff.sample(measurement, prior, "reddiff", 4, nfe=300, progress=False)
    assert found.diagnostics["chi2_ratio"] < 1
    assert float(found.std()[2]) < 0.5  # not measured: the posterior's deviation is 1, but this is a fit


@pytest.mark.parametrize("name", ["pnpdm", "daps", "reddiff", "svdd", "dts"])  # not enkg: see its docstring
def test_phase_retrieval(name: str) -> None:
    """Nonlinear and complex: the draws explain the data far better than the prior does."""
    rng = generator(0)
    op = PhaseRetrieval(Matrix(normal((16, 3), torch.complex64, rng)), power=2)
    prior = GaussianPrior(torch.zeros(3, dtype=torch.complex64), torch.eye(3), "complex")
    clean = op(prior.sample(1, rng))
    measurement = Measurement(Gaussian(0.3).sample(clean, rng)[0], op, Gaussian(0.3))
    found = invdiff.sample(measurement, prior, name, 64, nfe=200, progress=False)
    assert found.diagnostics["chi2_ratio"] < 0.1 * chi2_ratio_of(prior, measurement)


def chi2_ratio_of(prior: GaussianPrior, measurement: Measurement) -> float:
    return float(measurement.chi2(prior.sample(200, generator(1))).mean()) / measurement.count


# ---- SVDD -----------------------------------------------------------------------------------------------------------
def test_svdd_chooses_by_value() -> None:
    """With two children a step, the better is kept with the probability that their values say."""
    prior = GaussianPrior(torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64))
    y, sigma, t, s, n = 1.0, 0.8, 2.0, 1.0, 8000
    measurement = Measurement(torch.tensor([y], dtype=torch.float64), Matrix(torch.eye(1).double()), Gaussian(sigma))
    x = torch.full((n, 1), 0.5, dtype=torch.float64)
    x0 = x / (1 + t**2)
    network = Guidance(prior, measurement)
    chosen, image = SVDD(children=2)._choose(network, x, x0, t, s, Streams(0, range(n)))
    torch.testing.assert_close(image, chosen / (1 + s**2))
    mean, std = (x0 + (s / t) ** 2 * (x - x0))[0], s * math.sqrt(1 - (s / t) ** 2)
    # The law of the kept one of two: E over pairs of softmax; its mean by a large sample drawn directly.
    pairs = mean + std * torch.randn(400_000, 2, generator=generator(1), dtype=torch.float64)
    value = -((y - pairs / (1 + s**2)) ** 2) / (2 * sigma**2)
    expected = float((torch.softmax(value, 1) * pairs).sum(1).mean())
    assert abs(float(mean) - expected) > 0.05  # the choice matters here
    assert abs(float(chosen.mean()) - expected) < 5 * std / math.sqrt(n)
    first = mean + std * Streams(0, range(n)).normal(x)  # the first child of each; neither comes before the other
    assert abs(float(((chosen - first).abs() < 1e-9).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(n)


# ---- the tree -------------------------------------------------------------------------------------------------------
def test_values_are_log_mean_exp_of_the_finished_children() -> None:
    tree = Tree(Tree.empty(20), leaves=2)
    a, b = tree.add(0), tree.add(0)
    leaves = [tree.add(a), tree.add(a), tree.add(b)]
    tree.back_up(leaves[0], 1.0)
    assert tree.value[a] == pytest.approx(1.0) and tree.value[b] == NONE
    tree.back_up(leaves[1], -2.0)
    tree.back_up(leaves[2], 0.5)
    first = math.log((math.exp(1.0) + math.exp(-2.0)) / 2)
    assert tree.value[a] == pytest.approx(first)
    assert tree.value[0] == pytest.approx(math.log((math.exp(first) + math.exp(0.5)) / 2))
    assert list(tree.visits[[0, a, b]]) == [3, 2, 1]
    chance = math.exp(first) / (math.exp(first) + math.exp(0.5))
    picks = [tree.choose(0, (i + 0.5) / 1000) for i in range(1000)]
    assert picks.count(a) / 1000 == pytest.approx(chance, abs=2e-3)


def test_a_tree_is_rebuilt_from_its_arrays() -> None:
    arrays = Tree.empty(10)
    tree = Tree(arrays, leaves=2)
    tree.back_up(tree.add(tree.add(0)), 0.3)
    again = Tree(arrays, leaves=2)
    assert again.size == 3 and again.children == tree.children and again.leaf(lambda: 0.5) == 2


def chain_variance(levels: list[float]) -> float:
    """Variance of the reverse chain's end for a standard normal prior: a first-order chain is too narrow."""
    v = levels[0] ** 2
    for t, s in zip(levels[:-1], levels[1:], strict=True):
        kept = 1 / (1 + t**2) + (s / t) ** 2 * t**2 / (1 + t**2)
        v = kept**2 * v + s**2 * (1 - (s / t) ** 2)
    return v


@pytest.mark.parametrize(("width", "limit"), [(1e9, 0.07), (2.0, 0.16)])
def test_draws_of_a_tree_follow_the_posterior_of_its_chain(width: float, limit: float) -> None:
    """Every path from the root is importance sampling, which is unbiased; a narrow tree leans to what it found first.

    (Measured: 0.62 where the chain's posterior mean is 0.70, at 480 evaluations a draw; it closes slowly.)
    """
    prior = GaussianPrior(torch.zeros(1), torch.eye(1))
    measurement = Measurement(torch.tensor([1.5]), Matrix(torch.eye(1)), Gaussian(0.7))
    made = invdiff.sample(measurement, prior, DTS(60, 32, levels=10, width=width), 32 * 12, progress=False)
    v = chain_variance(karras(prior.sigma_min, prior.sigma_max, 10))
    trees = made.draws.values.reshape(12, 32).mean(1)
    # The standard error of the mean over twelve trees is about 0.025.
    assert float(trees.mean()) == pytest.approx(1.5 * v / (v + 0.49), abs=limit)
    assert float(made.draws.std()) == pytest.approx(math.sqrt(v * 0.49 / (v + 0.49)), rel=0.25)


# ---- the ensemble ---------------------------------------------------------------------------------------------------
def test_a_move_of_the_ensemble_is_a_kalman_flow_step() -> None:
    """For the identity as the chain's end, dx = -h Cov(x, G) S^-1 (G - y)."""
    rng = generator(4)
    a, y = torch.randn(2, 3, dtype=torch.float64, generator=rng), torch.randn(2, dtype=torch.float64, generator=rng)

    class Flat(GaussianPrior):
        def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
            return x

    prior = Flat(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    network = Guidance(prior, Measurement(y, Matrix(a), Gaussian(sigma)))
    x = torch.randn(16, 3, dtype=torch.float64, generator=rng)
    moved = EnKG(ensemble=8)._towards_data(network, x, 1.0, 1, 1e-3, Streams(0, range(16)))
    for part in (slice(0, 8), slice(8, 16)):
        e = x[part]
        g = e @ a.T
        cross = (e - e.mean(0)).T @ (g - g.mean(0)) / 8
        expected = e - 1e-3 * (g - y) / sigma**2 @ cross.T
        torch.testing.assert_close(moved[part], expected)


def test_the_ensemble_stays_within_what_was_asked() -> None:
    prior = GaussianPrior(torch.zeros(3), torch.eye(3))
    for nfe in (1, 7, 40, 400):
        steps = len(EnKG(nfe).levels(prior)) - 1
        assert sum(1 + 2 * EnKG(nfe)._inner(i, steps) for i in range(steps)) <= nfe


@pytest.mark.parametrize("made", [lambda: SVDD(children=0), lambda: DTS(10, levels=10), lambda: EnKG(ensemble=1)])
def test_absurd_settings_are_refused(made) -> None:
    with pytest.raises(InputError):
        made()
    with pytest.raises(InputError):
        sampler("svdd", 10, "heun")
