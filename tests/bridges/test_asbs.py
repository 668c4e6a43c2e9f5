"""Trainers: both samplers find a Gaussian; the bias grows while it may; kept runs go on to the bit."""

import pytest
import torch

from invdiff.bridges.adjoint import adjoint_matching, bridge_matching
from invdiff.bridges.asbs import Stage, Trainer, Training, corrector_matching
from invdiff.bridges.bias import Axis, Bias
from invdiff.bridges.checkpoint import load, restore_trainer, save, trainer_state
from invdiff.bridges.sde import Constant, Edm
from invdiff.bridges.source import GaussianSource
from invdiff.bridges.target import Target
from invdiff.energies.analytic import Coordinates, DoubleWell
from invdiff.energies.base import FromPotential
from invdiff.errors import FileError, InputError
from invdiff.networks.internal import InternalMLP

MEAN, VARIANCE = torch.tensor([1.0, -0.5]), torch.tensor([0.5, 0.25])


def gaussian() -> Target:
    return Target(FromPotential(lambda x: (0.5 * (x - MEAN) ** 2 / VARIANCE).sum(1), (2,)), precision=torch.float32)


def trainer(source: float, stages: tuple[Stage, ...], seed: int = 0, target: Target | None = None, **options):
    torch.manual_seed(seed)
    training = Training(
        stages=stages, **{"fresh": 256, "first": 256, "buffer": 1024, "batch": 256, "steps": 30, "rate": 3e-3} | options
    )
    corrector = InternalMLP(2, 48, 2) if source else None
    rng = torch.Generator().manual_seed(seed)
    return Trainer(
        target or gaussian(),
        GaussianSource((2,), source),
        Constant(1.0),
        InternalMLP(2, 48, 2),
        corrector,
        training,
        rng,
    )


def test_adjoint_sampling_finds_a_gaussian() -> None:
    run = trainer(0.0, (Stage(40),))
    for _ in run.run():
        pass
    x = run.sample(4000)
    # The regression is done to a few percent in 800 gradient steps; the untrained diffusion has mean 0, variance 1.
    assert x.mean(0).tolist() == pytest.approx(MEAN.tolist(), abs=0.1)
    assert x.var(0).tolist() == pytest.approx(VARIANCE.tolist(), rel=0.2)
    assert run.target.calls == 40 * 256


def test_corrector_repairs_what_the_source_leaves() -> None:
    # With h = 0 a Gaussian source of variance 4 over a base of variance 1 ends far from the target; with h it does not.
    before = trainer(2.0, (Stage(30),))
    after = trainer(2.0, (Stage(25, 15), Stage(25, 15), Stage(25)))
    errors = []
    for run in (before, after):
        for _ in run.run():
            pass
        errors.append(float((run.sample(4000).var(0) / VARIANCE - 1).abs().max()))
    assert errors[0] > 0.4 and errors[1] < 0.3
    assert after.target.calls == 75 * 256  # the corrector costs no energies


def test_losses_are_least_where_theory_says() -> None:
    rng = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(4000, 2, generator=rng), torch.randn(4000, 2, generator=rng)
    constant = torch.tensor([0.3, -0.2])
    schedule = Constant(1.0)

    def at(v: torch.Tensor) -> float:
        same = torch.Generator().manual_seed(1)
        adjoint = -constant.expand_as(x1)
        return float(adjoint_matching(lambda t, x: v.expand_as(x), x0, x1, adjoint, schedule, same))

    assert at(constant) == pytest.approx(0, abs=1e-9) and at(constant + 0.1) > 0.01
    exact = corrector_matching(lambda t, x: (x0 - x1) / 2.5, x0, x1, 2.5)
    assert float(exact) == pytest.approx(0, abs=1e-9)
    # From one point, the best control towards data at one point is the bridge's: (x1 - x_t) / (1 - t).
    one = torch.ones(500, 2)
    found = bridge_matching(lambda t, x: (one - x) / (1 - t)[:, None], 0 * one, one, schedule, rng)
    assert float(found) == pytest.approx(0, abs=1e-6)


def biased_run(seed: int = 0, **options) -> Trainer:
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    target = Target(DoubleWell(barrier=4.0), variable=Coordinates((0,)), precision=torch.float32)
    bias = Bias([Axis(-4.0, 4.0, 81, 0.3)], 5.0, 4.0)
    stages = (Stage(6, 2), Stage(4, 2, height=0.5), Stage(3, deposit=False))
    training = Training(stages, warm=5, fresh=64, first=128, buffer=256, batch=128, updates=5, steps=15, **options)
    data = torch.tensor([[-2.0, 1.0]]) + 0.2 * torch.randn(200, 2, generator=rng)
    return Trainer(
        target,
        GaussianSource((2,), 1.0),
        Edm(0.02, 3.0),
        InternalMLP(2, 32, 2),
        InternalMLP(2, 32, 2),
        training,
        rng,
        bias,
        data,
    )


def test_bias_grows_while_it_may_and_then_stays() -> None:
    run, values = biased_run(), []
    for epoch in run.run():
        assert run.bias is not None
        values.append((epoch.kind, epoch.stage, epoch.hills, float(run.bias.values.sum())))
    by_stage = {stage: [v for k, s, _, v in values if s == stage and k == "adjoint"] for stage in range(3)}
    assert by_stage[0][-1] > by_stage[0][0] > 0 and by_stage[1][-1] > by_stage[0][-1]
    assert len(set(by_stage[2])) == 1  # frozen in the last stage
    assert values[-1][2] == 128 + 9 * 64
    assert [k for k, *_ in values[:5]] == ["warm"] * 5


@pytest.mark.parametrize(("stop", "settling"), [(3, 0), (8, 0), (12, 2), (20, 0)])
def test_kept_runs_go_on_to_the_bit(tmp_path, stop: int, settling: int) -> None:
    whole = biased_run(refine=settling)
    for epoch in whole.run():
        if epoch.number == stop:
            save(tmp_path / "t.safetensors", trainer_state(whole), {"done": whole.done})
    tensors, counters = load(tmp_path / "t.safetensors")
    rest = biased_run(refine=settling)
    restore_trainer(rest, tensors, counters["done"])
    for _ in rest.run():
        pass
    kept, other = trainer_state(whole), trainer_state(rest)
    assert kept.keys() == other.keys()
    assert all(torch.equal(kept[name], other[name]) for name in kept)
    assert torch.equal(whole.sample(5), rest.sample(5))


def test_state_of_another_network_is_refused(tmp_path) -> None:
    run = biased_run()
    save(tmp_path / "t.safetensors", trainer_state(run), {})
    other = trainer(1.0, (Stage(1),))
    with pytest.raises(FileError, match="another run"):
        restore_trainer(other, load(tmp_path / "t.safetensors")[0], 0)


def test_what_is_refused() -> None:
    run = biased_run()
    parts = (run.target, run.source, run.schedule, run.control)
    with pytest.raises(InputError, match="corrector"):
        Trainer(*parts, None, run.training, run.rng, data=run.data)
    with pytest.raises(InputError, match="no data"):
        Trainer(*parts, run.corrector, run.training, run.rng)
    bare = Target(DoubleWell())
    with pytest.raises(InputError, match="collective variable"):
        Trainer(bare, *parts[1:], run.corrector, run.training, run.rng, run.bias, run.data)
