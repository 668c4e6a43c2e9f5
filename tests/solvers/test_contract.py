"""What every solver keeps: states to resume from, evaluations as declared, wrappers that compose, refusals."""

import pytest
import torch

from invdiff.errors import InputError, UnknownNameError
from invdiff.random import Streams, generator
from invdiff.schedules import at, ddpm, geometric, karras, refined
from invdiff.solvers import (
    DDIM,
    DEIS,
    GHVB,
    DenoisingMCMC,
    DPMpp2M,
    DPMpp3M,
    DPMv3,
    DualFast,
    HeavyBall,
    Heun,
    LangevinPC,
    Plan,
    Renoise,
    Scheduled,
    State,
    Stepwise,
    TimeShift,
    UniPC,
    model_statistics,
    named_solver,
    solver_names,
)
from invdiff.solvers.base import steps_within

VARIANCE = torch.tensor([0.05, 0.3, 1.0, 2.0], dtype=torch.float64)


def gaussian(x, sigma):
    """Denoiser of independent entries of variances VARIANCE."""
    return x * (VARIANCE / (VARIANCE + sigma**2)).to(x.dtype)


def pilots(size):
    return 10 * torch.randn(16, size, dtype=torch.float64, generator=generator(5))


STEPS = 7
GRID = karras(0.01, 5.0, STEPS)


def cases():
    statistics = model_statistics(gaussian, pilots(4), GRID, Streams(0, range(16)))
    plan = Plan((1, 2, 3, 3, 2, 2, 1), (False, True, True, False, True, True, False), (0.0, 0.7, 2, 3.2, 4, 5, 6))
    return {name: named_solver(name) for name in solver_names()} | {
        "dpmv3": DPMv3(statistics, 3),
        "dc-unipc": UniPC(3, ratios=[1, 1, 1.2, 0.9, 1.1, 1, 1]),
        "timeshift": TimeShift(DPMpp2M(), [s * 1.01 for s in GRID[:-1]]),
        "searched": Scheduled(plan),
        "dualfast heavyball": DualFast(HeavyBall(DEIS())),
        "langevin heun": LangevinPC(Heun(), corrections=2),
        "dmcmc unipc": DenoisingMCMC(UniPC()),
    }


CASES = cases()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64], ids=["real", "complex"])
def test_resuming_gives_the_same_bits(name, dtype):
    solver = CASES[name]
    x = 5 * torch.randn(3, 4, dtype=dtype, generator=generator(2))
    rng = Streams(0, range(3))
    states = [(state, rng.state()) for state in solver.steps(gaussian, x, GRID, rng)]
    assert states[-1][0].x.dtype == dtype
    for stop in (0, 1, 2, 3, 5):
        kept, generators = states[stop]
        again = Streams(0, range(3))
        again.restore(generators)
        memory = tuple(m.clone() for m in kept.memory)
        state = State(kept.step, kept.total, kept.sigma, kept.x.clone(), kept.x0.clone(), memory)
        *_, last = solver.steps(gaussian, torch.empty(0), GRID, again, state)
        assert torch.equal(last.x, states[-1][0].x)
        assert last.step == last.total == STEPS and last.sigma == 0


@pytest.mark.parametrize("name", CASES)
def test_evaluations_as_declared(name):
    solver, calls = CASES[name], []

    def counted(x, sigma):
        calls.append(sigma)
        return gaussian(x, sigma)

    states = list(solver.steps(counted, torch.ones(1, 4), GRID, Streams(0, [0])))
    k = solver.evaluations_per_step
    assert len(calls) == k * STEPS - (k - 1) + solver.extra_evaluations
    assert steps_within(solver, len(calls)) == STEPS
    assert [state.step for state in states] == list(range(1, STEPS + 1))
    assert min(calls) > 0


@pytest.mark.parametrize("name", CASES)
def test_stochastic_solvers_say_so(name):
    solver = CASES[name]
    a, b = (list(solver.steps(gaussian, torch.ones(1, 4), GRID, Streams(seed, [0])))[-1].x for seed in (0, 1))
    assert torch.equal(a, b) == (not solver.stochastic)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_any_number_of_steps(name, steps):
    if name in ("dc-unipc", "timeshift", "searched"):
        pytest.skip("fitted for a number of steps")
    *_, last = CASES[name].steps(gaussian, torch.ones(2, 4), karras(0.01, 5.0, steps), Streams(0, [0, 1]))
    assert bool(torch.isfinite(last.x).all())


def last_x(solver):
    x = pilots(4)
    return list(solver.steps(gaussian, x, GRID, Streams(0, range(16))))[-1].x


def test_wrappers_that_do_nothing_are_the_inner_solver():
    inner = last_x(DPMpp2M())
    for solver in (HeavyBall(DPMpp2M(), 1.0), DualFast(DPMpp2M(), 0.0), TimeShift(DPMpp2M(), GRID[:-1])):
        torch.testing.assert_close(last_x(solver), inner, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(last_x(UniPC(ratios=[1.0] * STEPS)), last_x(UniPC()))
    torch.testing.assert_close(last_x(GHVB(1, 1.0)), last_x(DDIM(0.0)))
    torch.testing.assert_close(last_x(DEIS(1)), last_x(DDIM(0.0)))


def test_a_constant_plan_is_unipc():
    plan = Plan((3,) * STEPS, (True,) * STEPS, tuple(float(i) for i in range(STEPS)))
    torch.testing.assert_close(last_x(Scheduled(plan)), last_x(UniPC(3)))


def test_dpmpp2m_by_hand():
    # Two steps from x = 1 with D = x^2: the second extrapolates.
    t, m, s = 4.0, 2.0, 0.5
    *_, last = DPMpp2M().steps(lambda x, _: x**2, torch.ones(1, 1), [t, m, s, 0.0], Streams(0, [0]))
    middle = m / t + (1 - m / t)
    d = 1 + (middle**2 - 1) / 2
    assert float(last.x) == pytest.approx((s / m * middle + (1 - s / m) * d) ** 2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DDIM(1.5), "eta"),
        (lambda: DPMpp2M(0.5), "eta"),
        (lambda: DPMpp3M(-1.0), "eta"),
        (lambda: Renoise(-0.1), "zeta"),
        (lambda: DEIS(5), "order"),
        (lambda: UniPC(0), "order"),
        (lambda: GHVB(2, 0.0), "beta"),
        (lambda: HeavyBall(DPMpp2M(1.0)), "noise"),
        (lambda: DualFast(DDIM(0.0), -1.0), "c = "),
        (lambda: LangevinPC(snr=2.0), "snr"),
        (lambda: DenoisingMCMC(DDIM(0.0), share=1.0), "share"),
        (lambda: TimeShift(Heun(), [1.0]), "one evaluation"),
        (lambda: Scheduled(Plan((4,), (True,), (0.0,))), "orders"),
        (lambda: karras(1.0, 0.5, 3), "sigma"),
        (lambda: geometric(0.1, 1.0, 0), "steps"),
        (lambda: ddpm(0.1, 1.0, 5, 0.0), "power"),
        (lambda: at(GRID, 6.5), "position"),
        (lambda: refined(GRID, 0), "refined"),
        (lambda: steps_within(named_solver("pndm"), 9), "pndm"),
        (lambda: list(UniPC(ratios=[1.0]).steps(gaussian, torch.ones(1, 4), GRID, Streams(0, [0]))), "ratios"),
        (lambda: list(CASES["searched"].steps(gaussian, torch.ones(1, 4), GRID[1:], Streams(0, [0]))), "plan"),
    ],
)
def test_absurd_options_are_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_unknown_names_list_the_known():
    with pytest.raises(UnknownNameError, match="heun"):
        named_solver("hoin")
    with pytest.raises(TypeError, match="step"):
        list(Stepwise().steps(gaussian, torch.ones(1, 4), GRID, Streams(0, [0])))


def test_grids_end_at_zero_and_fall():
    for grid in (karras(0.01, 10.0, 9), geometric(0.01, 10.0, 9), ddpm(0.01, 10.0, 9), ddpm(0.01, 10.0, 9, 0.5)):
        assert len(grid) == 10 and grid[-1] == 0
        assert all(a > b for a, b in zip(grid, grid[1:], strict=False))
        assert grid[0] == pytest.approx(10.0) and grid[-2] == pytest.approx(0.01)
        fine = refined(grid, 3)
        assert fine[::3] == pytest.approx([*grid[:-1]]) and len(fine) == 8 * 3 + 2 and fine[-1] == 0
        assert at(grid, 2.5) == pytest.approx((grid[2] * grid[3]) ** 0.5)


def test_the_linear_schedule_is_that_of_a_thousand_steps():
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    levels = ((1 - kept) / kept).sqrt().flip(0)
    high, low = float(levels[0]), float(levels[-1])
    even = torch.tensor(ddpm(low, high, 1000)[:-1], dtype=torch.float64)
    assert float((even / levels).log().abs()[:900].max()) < 0.05  # steps of 2 % against continuous time
    sparse = torch.tensor(ddpm(low, high, 101, 0.5)[:-1], dtype=torch.float64)
    where = (1000 * (torch.arange(101, dtype=torch.float64) / 100).sqrt()).long().clamp(max=999)
    assert float((sparse / levels[where]).log().abs()[:80].max()) < 0.05


def test_a_checkpoint_keeps_the_memory(tmp_path):
    from invdiff.engine.checkpoint import Checkpoint

    rng = Streams(0, range(3))
    x = 5 * torch.randn(3, 4, generator=generator(2))
    states = list(UniPC().steps(gaussian, x, GRID, rng))
    store = Checkpoint(tmp_path / "o.ckpt", {}, resume=False)
    store.last = -1e9
    store.keep(0, states[3], rng, (4, 0))
    found = store.resume(0, rng, torch.device("cpu"))
    assert found is not None and len(found[0].memory) == 3
    *_, last = UniPC().steps(gaussian, torch.empty(0), GRID, rng, found[0])
    assert torch.equal(last.x, states[-1].x)
