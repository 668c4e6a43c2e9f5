"""Each solver's order of convergence, measured on priors whose probability-flow ODE is known."""

import math

import pytest
import torch

from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.random import Streams, generator
from invdiff.schedules import geometric, karras
from invdiff.solvers import (
    DDIM,
    DEIS,
    GHVB,
    PNDM,
    DenoisingMCMC,
    DPMpp2M,
    DPMpp3M,
    DualFast,
    HeavyBall,
    Heun,
    LangevinPC,
    Renoise,
    State,
    UniPC,
)

VARIANCE = torch.tensor([0.05, 0.3, 1.0, 2.0], dtype=torch.float64)


def gaussian(x, sigma):
    """Denoiser of independent entries of variances VARIANCE."""
    return x * (VARIANCE / (VARIANCE + sigma**2)).to(x.dtype)


@pytest.fixture(scope="module")
def mixture():
    """Denoiser of three Gaussians in the plane."""
    means = torch.tensor([[-2.0, 0.0], [1.5, 1.0], [1.0, -2.0]], dtype=torch.float64)
    prior = GaussianMixturePrior(torch.tensor([0.5, 0.3, 0.2]), means, 0.3 * torch.eye(2, dtype=torch.float64))
    return lambda x, sigma: prior.denoise(x, torch.full((1,), sigma, dtype=torch.float64))


class OneHot(Streams):
    """The k-th draw of noise is 1 in row k + 1 and 0 elsewhere.

    A solver that is linear in x and in its noise, started from a 1 in row 0, then ends with its response to each
    source of noise in a row of its own: the sum of their squares is the variance of its draws, without sampling error.
    """

    def __init__(self):
        super().__init__(0, [0])
        self.calls = 0

    def normal(self, like):
        self.calls += 1
        out = torch.zeros_like(like)
        out[self.calls] = 1
        return out


START = 10.0 * torch.randn(64, 4, dtype=torch.float64, generator=generator(0))


def flow(sigma):
    """The exact solution from START at level 10: ``x_T sqrt(v + s^2) / sqrt(v + T^2)``."""
    return START * ((VARIANCE + sigma**2) / (VARIANCE + 100.0)).sqrt()


def end(solver, denoise, x, steps, rng, low=0.05):
    """x at level `low`; the step to 0, which is first order by design, is not taken."""
    grid = geometric(low, 10.0, steps + 1)
    return next(state.x for state in solver.steps(denoise, x, grid, rng) if state.step == steps)


def orders(error, steps):
    found = [error(n) for n in steps]
    return [math.log2(a / b) for a, b in zip(found, found[1:], strict=False)]


@pytest.fixture(scope="module")
def mixture_flow(mixture):
    return end(UniPC(3), mixture, START[:, :2], 1000, Streams(0, range(64)), low=0.1)


# Multistep rules of third order start with a first-order step, whose error is of second order: DPMpp3M and DEIS(3) are
# between the two, nearer the second at more steps. UniPC's corrector takes that error away.
ODE = [
    (DDIM(0.0), 1, 0.1),
    (Heun(), 2, 0.1),
    (DPMpp2M(), 2, 0.1),
    (DPMpp3M(), 2.5, 0.6),
    (DEIS(1), 1, 0.1),
    (DEIS(2), 2, 0.1),
    (DEIS(3), 2.5, 0.6),
    (PNDM(), 2, 0.15),
    (UniPC(1), 2, 0.1),
    (UniPC(2), 3, 0.1),
    (GHVB(1), 1, 0.1),
    (GHVB(2), 2, 0.15),
    (HeavyBall(DPMpp2M()), 1, 0.1),
]


@pytest.mark.parametrize(("solver", "order", "within"), ODE, ids=lambda v: getattr(v, "name", None))
def test_order_on_a_gaussian(solver, order, within):
    def error(n):
        return float((end(solver, gaussian, START, n, Streams(0, range(64))) - flow(0.05)).norm())

    for found in orders(error, (40, 80, 160)):
        assert found == pytest.approx(order, abs=within)


@pytest.mark.parametrize(("solver", "order", "within"), ODE, ids=lambda v: getattr(v, "name", None))
def test_order_on_a_mixture(solver, order, within, mixture, mixture_flow):
    def error(n):
        return float((end(solver, mixture, START[:, :2], n, Streams(0, range(64)), low=0.1) - mixture_flow).norm())

    for found in orders(error, (60, 120)):
        assert found == pytest.approx(order, abs=max(within, 0.15))


@pytest.mark.parametrize(
    ("solver", "of_noise", "order"),
    [(DPMpp3M(), False, 3), (DEIS(2), True, 2), (DEIS(3), True, 3), (DEIS(3, 1.0), True, 3), (PNDM(), True, 2)],
    ids=["dpmpp3m", "deis2", "deis3", "rho-ab3", "pndm"],
)
def test_order_of_the_rule_with_an_exact_past(solver, of_noise, order):
    def error(n):
        grid = geometric(0.05, 10.0, n + 1)
        images = [gaussian(flow(s), s) for s in grid[:3]][::-1]
        past = images if not of_noise else [(flow(s) - d) / s for s, d in zip(grid[2::-1], images, strict=True)]
        count = solver.order - 1 if isinstance(solver, DEIS) else 3 if isinstance(solver, PNDM) else 2
        state = State(3, n + 1, grid[3], flow(grid[3]), images[0], tuple(past[:count]))
        states = solver.steps(gaussian, START, grid, Streams(0, range(64)), state)
        return float((next(s.x for s in states if s.step == n - 1) - flow(grid[n - 1])).norm())

    # rho-AB has its error at the first, long steps in sigma, and is late in coming to its order.
    assert orders(error, (80, 160))[0] == pytest.approx(order, abs=0.5 if isinstance(solver, DPMpp3M) else 0.2)


def variance_error(solver, steps, low=0.05):
    """Relative error of the variance of the draws, for each entry, exactly."""
    x = torch.zeros(4 * steps + 2, 4, dtype=torch.float64)
    x[0] = (VARIANCE + 100).sqrt()
    return (end(solver, gaussian, x, steps, OneHot(), low) ** 2).sum(0) / (VARIANCE + low**2) - 1


@pytest.mark.parametrize(
    ("solver", "order", "within"),
    [
        (DDIM(1.0), 1, 0.1),
        (DDIM(0.85), 1, 0.1),
        (DPMpp2M(1.0), 2, 0.1),
        (DPMpp2M(1.0, damping=0.3), 2, 0.3),
        (DPMpp3M(1.0), 2, 0.5),
    ],
    ids=["ancestral", "ddim 0.85", "dpmpp2m-sde", "damped", "dpmpp3m-sde"],
)
def test_weak_order_of_stochastic_solvers(solver, order, within):
    found = orders(lambda n: float(variance_error(solver, n).abs().max()), (80, 160))
    assert found[0] == pytest.approx(order, abs=within)


@pytest.mark.parametrize("steps", [20, 40])
def test_damping_gives_few_steps_the_right_variance(steps):
    def worst(solver):
        x = torch.zeros(4 * steps + 2, 4, dtype=torch.float64)
        x[0] = (VARIANCE + 1600).sqrt()
        grid = karras(0.002, 40.0, steps)
        *_, last = solver.steps(gaussian, x, grid, OneHot())
        return float(((last.x**2).sum(0).sqrt() / VARIANCE.sqrt() - 1).abs().max())

    assert worst(DPMpp2M(1.0, damping=0.3)) < 0.02 < worst(DPMpp2M(1.0))


def test_what_does_not_converge_to_the_prior_and_by_how_much():
    # A Langevin step of snr r has, by itself, a variance 1/(1 - r^2) times the right one where sigma rules.
    steady = 1 / (1 - 0.16**2)
    found = variance_error(LangevinPC(DPMpp2M(1.0)), 320, low=5.0)
    assert float(found[0]) == pytest.approx(steady - 1, rel=0.3)
    # DiffPIR's fixed share of fresh noise narrows the wide directions, the more steps the less, never not.
    few, many = variance_error(Renoise(0.3), 40), variance_error(Renoise(0.3), 320)
    assert -0.25 < float(few.min()) < float(many.min()) < -0.05
    # With an exact denoiser, DualFast's mixing is an error that stays.
    pushed = [float(variance_error(DualFast(DPMpp2M(), 0.1), n).abs().max()) for n in (80, 320)]
    assert pushed[1] == pytest.approx(pushed[0], rel=0.1) and pushed[1] > 0.01


def test_the_chain_of_denoising_mcmc_has_the_variance_it_says():
    a, solver = 0.7, DenoisingMCMC(DPMpp2M(), share=0.5, a=0.7)
    steps, grid = 400, geometric(0.05, 10.0, 401)
    m = grid[round(0.5 * 401)]
    says = (1 + a) * (VARIANCE + m**2) / (2 * VARIANCE + (1 + a) * m**2) - 1
    torch.testing.assert_close(variance_error(solver, steps), says, rtol=0, atol=2e-3)


@pytest.mark.parametrize("solver", [DDIM(1.0), DPMpp2M(1.0), DPMpp3M(1.0), DDIM(0.85)], ids=lambda s: s.name)
def test_draws_have_the_priors_variance(solver):
    n = 4000
    x = torch.randn(n, 4, dtype=torch.float64, generator=generator(1)) * (VARIANCE + 400.0).sqrt()
    *_, last = solver.steps(gaussian, x, karras(0.005, 20.0, 200), _OneStream(n))
    # statistical error 1.1 % (one sd); first-order steps shrink by up to 2.5 % at 200 steps
    assert float((last.x.std(0) / VARIANCE.sqrt() - 1).abs().max()) < 0.06
    assert float((last.x.mean(0) / VARIANCE.sqrt()).abs().max()) < 4 / n**0.5


class _OneStream(Streams):
    """One generator for the whole batch: quick, where draws need not be independent of the chunking."""

    def __init__(self, n):
        super().__init__(0, [0])

    def normal(self, like):
        return torch.randn(like.shape, generator=self.generators[0], dtype=like.dtype)
