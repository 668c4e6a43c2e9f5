"""Each solver's order of convergence, measured on a prior whose probability-flow ODE is known exactly."""

import math

import pytest
import torch

from invdiff.errors import InputError, UnknownNameError
from invdiff.random import Streams, generator
from invdiff.schedules import geometric, karras
from invdiff.solvers import DDIM, DPMpp2M, Heun, Renoise, State, named_solver, solver_names

VARIANCE = torch.tensor([0.05, 0.3, 1.0, 2.0], dtype=torch.float64)


def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return x * (VARIANCE / (VARIANCE + sigma**2)).to(x.dtype)


def end_error(solver: object, steps: int) -> float:
    """Relative error against the exact map ``x_0 = x_T sqrt(v + s^2) / sqrt(v + S^2)``."""
    x = 10.0 * torch.randn(64, 4, dtype=torch.float64, generator=generator(0))
    sigmas = geometric(0.05, 10.0, steps + 1)[:-1]  # stop at 0.05: the last step to 0 is first order by design
    *_, last = solver.steps(denoise, x, sigmas, Streams(0, range(64)))  # type: ignore[attr-defined]
    exact = x * ((VARIANCE + 0.05**2) / (VARIANCE + 100.0)).sqrt()
    return float((last.x - exact).norm() / exact.norm())


@pytest.mark.parametrize(("solver", "order"), [(DDIM(0.0), 1), (DPMpp2M(0.0), 2), (Heun(), 2)])
def test_order_of_convergence(solver: object, order: int) -> None:
    errors = [end_error(solver, n) for n in (40, 80, 160)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("solver", [DDIM(1.0), DPMpp2M(1.0), DDIM(0.85), DDIM(0.0), DPMpp2M(0.0), Heun()])
def test_draws_have_the_priors_variance(solver: object) -> None:
    n = 20_000
    x = torch.randn(n, 4, dtype=torch.float64, generator=generator(1)) * (VARIANCE + 400.0).sqrt()
    rng = _OneStream(n)
    *_, last = solver.steps(denoise, x, karras(0.005, 20.0, 200), rng)  # type: ignore[attr-defined]
    ratio = last.x.std(0) / VARIANCE.sqrt()
    # statistical error 0.5 % (one sd); first-order steps shrink by up to 2.5 % at 200 steps, second-order ones do not
    limit = 0.03 if isinstance(solver, DDIM) else 0.02
    assert float((ratio - 1).abs().max()) < limit
    assert float(last.x.mean(0).abs().max()) < 0.05


class _OneStream(Streams):
    """One generator for the whole batch: quick, where draws need not be independent of the chunking."""

    def __init__(self, n: int) -> None:
        super().__init__(0, [0])

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.generators[0], dtype=like.dtype)


@pytest.mark.parametrize("name", solver_names())
def test_resuming_gives_the_same_bits(name: str) -> None:
    solver = named_solver(name)
    x = torch.randn(3, 4, dtype=torch.float64, generator=generator(2))
    sigmas = karras(0.01, 5.0, 7)
    rng = Streams(0, range(3))
    states = []
    for state in solver.steps(denoise, x, sigmas, rng):
        states.append((state, rng.state()))
    middle, generators = states[3]
    again = Streams(0, range(3))
    again.restore(generators)
    kept = State(middle.step, middle.total, middle.sigma, middle.x, middle.x0)
    *_, last = solver.steps(denoise, torch.empty(0), sigmas, again, kept)
    assert torch.equal(last.x, states[-1][0].x)
    assert last.step == last.total == 7
    assert last.sigma == 0


@pytest.mark.parametrize("name", solver_names())
def test_evaluations_as_declared(name: str) -> None:
    solver, calls = named_solver(name), []

    def counted(x: torch.Tensor, sigma: float) -> torch.Tensor:
        calls.append(sigma)
        return denoise(x, sigma)

    list(solver.steps(counted, torch.ones(1, 4), karras(0.01, 5.0, 6), Streams(0, [0])))
    k = solver.evaluations_per_step
    assert len(calls) == k * 6 - (k - 1)


def test_absurd_options_are_refused() -> None:
    with pytest.raises(InputError, match="eta"):
        DDIM(1.5)
    with pytest.raises(InputError, match="eta"):
        DPMpp2M(0.5)
    with pytest.raises(InputError, match="zeta"):
        Renoise(-0.1)
    with pytest.raises(UnknownNameError, match="heun"):
        named_solver("hoin")
    with pytest.raises(InputError, match="sigma"):
        karras(1.0, 0.5, 3)
    with pytest.raises(InputError, match="steps"):
        geometric(0.1, 1.0, 0)


def test_grids_end_at_zero_and_fall() -> None:
    for grid in (karras(0.01, 10.0, 9), geometric(0.01, 10.0, 9)):
        assert len(grid) == 10 and grid[-1] == 0
        assert all(a > b for a, b in zip(grid, grid[1:], strict=False))
        assert grid[0] == pytest.approx(10.0) and grid[-2] == pytest.approx(0.01)
