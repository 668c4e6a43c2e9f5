"""Active acquisition with exact priors: everything but the network."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.errors import FormatError, InputError, ShapeError, UnknownNameError
from invdiff.guidance import DDS, MMPS
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ParallelCT
from invdiff.operators.matrix import Identity
from invdiff.operators.transforms import Fourier
from invdiff.policies import (
    Belief,
    Callback,
    Candidates,
    Entropy,
    LogDet,
    Random,
    Recorded,
    Simulator,
    factor_of,
    greedy_design,
)
from invdiff.priors.base import Prior, Units
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.random import generator
from invdiff.samplers.active import Active, load_order
from invdiff.samplers.active.run import Run
from invdiff.solvers import DPMpp2M
from invdiff.units import rescale
from invdiff.validation.linear_gaussian import posterior


def columns_problem(size: int = 8) -> tuple[GaussianPrior, Fourier, Gaussian, Candidates]:
    weight = torch.tensor([0.1, 0.9, 0.3, 1.0, 0.2, 0.6, 0.15, 0.4]).double().sqrt()
    root = torch.randn(size**2, 24, generator=generator(0), dtype=torch.complex128) * weight.repeat(size)[:, None]
    root = Fourier((1, size, size)).adjoint((root * torch.linspace(1, 0.1, 24)).mT.reshape(24, 1, size, size))
    root = root.flatten(1).mT
    prior = GaussianPrior(torch.zeros(1, size, size, dtype=torch.complex64), root @ root.mH, "complex")
    operator = Fourier((1, size, size))
    return prior, operator, Gaussian(0.3), Candidates.along(operator, -1)


def test_one_gaussian_needs_no_adaptivity() -> None:
    # The covariance does not depend on the data: with exact beliefs the adaptive mask is the greedy fixed one.
    prior, op, noise, candidates = columns_problem()
    design = greedy_design(prior, op, noise, candidates, 5)
    for seed in range(3):
        y = noise.sample(op.forward(prior.sample(1, generator(seed))), generator(seed, 1))[0]
        plan, order, factor = Belief.plan(candidates, (), 5), [], factor_of(prior)
        for _ in range(5):
            belief = plan.of_gaussian(factor.to(torch.complex64), op, noise, informed=True)
            order += LogDet()(belief, 1, generator(0))
            some, data = candidates.restrict(op, y, order)
            covariance = posterior(prior, Measurement(data, some, noise)).covariance
            values, directions = torch.linalg.eigh(covariance)
            columns = (directions * values.clamp_min(0).sqrt()).mT.reshape(-1, 1, 8, 8, 2)
            factor, plan = torch.view_as_complex(columns.contiguous()), plan.after(order[-1:])
        assert order == design.order


@pytest.mark.parametrize("mode", ["renoise", "resample"])
def test_particles_come_near_the_greedy_optimum(mode: str) -> None:
    # 64 particles of a sampler that is exact for Gaussians; 2 % of the information is lost at most.
    prior, op, noise, candidates = columns_problem()
    instrument = Simulator(prior.sample(1, generator(0))[0], op, noise, generator(1))
    active = Active(partial(MMPS, iterations=5), DPMpp2M(1.0), LogDet(), 5, mode, nfe=20, inner=15)
    done = active.run(instrument, candidates, prior, 64, progress=False)
    whole = Belief.plan(candidates, (), 5).of_gaussian(factor_of(prior).to(torch.complex64), op, noise)
    best = whole.information(greedy_design(prior, op, noise, candidates, 5).order)
    assert len(done.order) == len(set(done.order)) == 5
    assert whole.information(done.order) > 0.98 * best
    worst = whole.information(whole.k.diagonal(dim1=-2, dim2=-1).sum(-1).argsort()[:5].tolist())
    assert worst < 0.9 * best  # or the bound above would say nothing


def test_expected_error_and_entropy_fall() -> None:
    prior, op, noise, candidates = columns_problem()
    truth = prior.sample(1, generator(5))[0]
    done = Active(partial(MMPS, iterations=5), DPMpp2M(1.0), budget=6, nfe=20, inner=10).run(
        Simulator(truth, op, noise, generator(1)), candidates, prior, 32, progress=False
    )
    assert len(done.entropy) == len(done.uncertainty) == len(done.decisions) + 1 == 7
    exact = Belief.plan(candidates, (), 6).of_gaussian(factor_of(prior).to(torch.complex64), op, noise)
    assert done.entropy[-1] < 0.5 * done.entropy[0] and done.uncertainty[-1] < 0.7 * done.uncertainty[0]
    # 32 particles underestimate what is left to learn of 48 directions; they must not exceed it by more than chance.
    assert 0.4 * exact.entropy < done.entropy[0] < 1.1 * exact.entropy
    # The posterior is that of the measurement that is returned.
    again = posterior(prior, done.measurement)
    gap = torch.from_numpy(done.posterior.mean().values) - again.mean
    expected = float(again.covariance.trace()) / 32
    assert float(gap.abs().square().sum()) < 3 * expected


def place_problem() -> tuple[GaussianMixturePrior, Identity]:
    """One blob at one of 100 places on 12 x 12 pixels."""
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    means = torch.stack(
        [torch.exp(-((y - i) ** 2 + (x - j) ** 2) / 4.5)[None] for i in range(1, 11) for j in range(1, 11)]
    )
    return GaussianMixturePrior(torch.ones(100), means, 1e-4 * torch.eye(144)), Identity((1, 12, 12))


def test_adaptivity_pays_where_the_place_is_unknown() -> None:
    prior, op = place_problem()
    noise, candidates = Gaussian(0.1), Candidates.along(op, -2, -1)
    fixed = greedy_design(prior.sample(400, generator(9)), op, noise, candidates, 9)
    errors: dict[str, list[float]] = {"active": [], "fixed": [], "random": []}
    for seed in range(3):
        truth = prior.sample(1, generator(seed))[0]
        instrument = Simulator(truth, op, noise, generator(seed, 1))
        policies: dict[str, Any] = {"active": Entropy(), "fixed": fixed, "random": Random()}
        for name, policy in policies.items():
            active = Active(partial(MMPS, iterations=3), DPMpp2M(1.0), policy, 9, "resample", nfe=15, inner=10)
            done = active.run(instrument, candidates, prior, 16, seed=seed, progress=False)
            found = torch.from_numpy(done.posterior.mean().values)
            errors[name].append(float((found - truth).square().sum() / truth.square().sum()))
    mean = {name: sum(v) / len(v) for name, v in errors.items()}
    # 0.014, 0.19 and 0.25 over 8 truths; single ones reach 0.03, 0.6 and 0.5.
    assert mean["active"] < 0.05 and mean["active"] < 0.5 * min(mean["fixed"], mean["random"]), mean


@pytest.mark.parametrize("mode", ["renoise", "resample", "online"])
@pytest.mark.parametrize(("initial", "per_decision", "budget"), [((), 1, 3), ((4, 3), 2, 7), ((4,), 5, 4)])
def test_budget_is_met_exactly(mode: str, initial: tuple[int, ...], per_decision: int, budget: int) -> None:
    prior, op, noise, candidates = columns_problem()
    instrument = Simulator(prior.sample(1, generator(0))[0], op, noise, generator(1))
    active = Active(DDS, None, Entropy(), budget, mode, initial=initial, per_decision=per_decision, nfe=6, inner=3)
    done = active.run(instrument, candidates, prior, 4, progress=False)
    again = active.run(instrument, candidates, prior, 4, progress=False)
    assert len(done.order) == len(set(done.order)) == budget and done.order[: len(initial)] == list(initial)
    assert int(done.mask.sum()) == budget and done.initial == len(initial)
    np.testing.assert_array_equal(done.posterior.draws, again.posterior.draws)
    assert done.order == again.order
    other = active.run(instrument, candidates, prior, 4, seed=1, progress=False)
    assert not np.array_equal(other.posterior.draws, done.posterior.draws)


def test_one_mask_means_one_result(tmp_path: Path) -> None:
    prior, op, noise, candidates = columns_problem()
    instrument = Simulator(prior.sample(1, generator(0))[0], op, noise, generator(1))
    chosen = Active(policy=Entropy(), budget=4, nfe=6, inner=3).run(instrument, candidates, prior, 4, progress=False)
    path = chosen.save(tmp_path / "mask.npz")
    from invdiff.policies import Fixed

    replay = Active(policy=Fixed(load_order(path)), budget=4, nfe=6).run(
        instrument, candidates, prior, 4, progress=False
    )
    assert replay.order == chosen.order and replay.nfe == 6
    decided = sum(bool(d.groups) for d in chosen.decisions)
    assert 0 < chosen.seconds_per_decision < chosen.seconds / decided  # the draws in the end belong to no decision
    assert replay.posterior.diagnostics["vjp"] == 6 * 3  # particles and draws by `mmps`, three gradients each
    np.testing.assert_array_equal(replay.posterior.draws, chosen.posterior.draws)
    np.save(tmp_path / "mask.npy", np.isin(np.arange(8), chosen.order))
    assert load_order(tmp_path / "mask.npy") == sorted(chosen.order)
    np.save(tmp_path / "image.npy", np.zeros((4, 4)))
    with pytest.raises(FormatError, match="one boolean per group"):
        load_order(tmp_path / "image.npy")


def test_data_that_were_not_asked_for_are_not_seen() -> None:
    prior, op, noise, candidates = columns_problem()
    y = noise.sample(op.forward(prior.sample(1, generator(0))), generator(1))[0]
    first = Active(budget=4, nfe=6, inner=3).run(
        Recorded(Measurement(y, op, noise)), candidates, prior, 4, progress=False
    )
    changed = torch.where(first.mask, y, 100 * y)
    second = Active(budget=4, nfe=6, inner=3).run(
        Recorded(Measurement(changed, op, noise)), candidates, prior, 4, progress=False
    )
    assert second.order == first.order
    np.testing.assert_array_equal(first.posterior.draws, second.posterior.draws)


def test_target_stops_early_and_watch_sees_it() -> None:
    prior, op, noise, candidates = columns_problem()
    instrument = Simulator(prior.sample(1, generator(0))[0], op, noise, generator(1))
    seen: list[Any] = []
    mmps = partial(MMPS, iterations=5)
    done = Active(mmps, DPMpp2M(1.0), budget=8, nfe=12, inner=8, target=0.3).run(
        instrument, candidates, prior, 16, progress=False, watch=seen.append
    )
    assert 1 < len(done.order) < 8
    assert seen == done.decisions and seen[-1].groups == [] and seen[-1].uncertainty <= 0.3 < seen[-2].uncertainty
    assert seen[0].x.shape == (16, 1, 8, 8)


@pytest.mark.parametrize("window", [(0.0, 1.0), (0.9, 1.0), (0.0, 0.1)])
def test_online_data_are_all_used(window: tuple[float, float]) -> None:
    prior, op, noise, candidates = columns_problem()
    instrument = Simulator(prior.sample(1, generator(0))[0], op, noise, generator(1))
    active = Active(partial(MMPS, iterations=5), DPMpp2M(1.0), budget=8, mode="online", window=window, nfe=8)
    done = active.run(instrument, candidates, prior, 16, progress=False)
    assert len(done.order) == 8 and max(d.nfe for d in done.decisions if d.groups) < 8  # none after the last step


def test_live_instrument_is_asked_for_what_was_chosen() -> None:
    prior, op, noise, candidates = columns_problem()
    y = op.forward(prior.sample(1, generator(0)))[0]
    asked: list[int] = []

    def scanner(groups, mask):
        asked.extend(groups)
        return y * mask

    done = Active(budget=3, nfe=4, inner=2).run(Callback(op, noise, scanner), candidates, prior, 4, progress=False)
    assert asked == done.order
    with pytest.raises(ShapeError, match="returned data of shape"):
        Active(budget=3, nfe=4, inner=2).run(
            Callback(op, noise, lambda groups, mask: y[0]), candidates, prior, 4, progress=False
        )
    nothing: Any = lambda groups, mask: None  # noqa: E731
    with pytest.raises(InputError, match="returned NoneType"):
        Active(budget=3, nfe=4, inner=2).run(Callback(op, noise, nothing), candidates, prior, 4, progress=False)
    with pytest.raises(InputError, match="NaN"):
        Active(budget=3, nfe=4, inner=2).run(
            Callback(op, noise, lambda groups, mask: y * torch.nan), candidates, prior, 4, progress=False
        )


def test_angles_of_a_tomograph() -> None:
    # A disc of unknown place: views that show it are asked for; the operator is cut to the views measured.
    op = ParallelCT((12, 12), torch.arange(12) * torch.pi / 12, 18)
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    root = torch.stack([torch.exp(-((y - 2) ** 2 + (x - j) ** 2) / 2).flatten() for j in range(12)]).double()
    prior = GaussianPrior(torch.zeros(1, 12, 12), root.mT @ root + 1e-3 * torch.eye(144).double())
    noise, candidates = Gaussian(0.5), Candidates.along(op, 0, positions=torch.arange(12.0))
    instrument = Simulator(prior.sample(1, generator(0))[0], op, noise, generator(1))
    done = Active(partial(MMPS, iterations=5), DPMpp2M(1.0), LogDet(), 3, nfe=12, inner=8).run(
        instrument, candidates, prior, 16, progress=False
    )
    assert done.measurement.operator.range_shape == (3, 18)
    torch.testing.assert_close(
        done.measurement.operator.forward(prior.sample(1, generator(2))),
        op.forward(prior.sample(1, generator(2)))[:, sorted(done.order)],
    )
    whole = Belief.plan(candidates, (), 3).of_gaussian(factor_of(prior).float(), op, noise)
    best = whole.information(greedy_design(prior, op, noise, candidates, 3).order)
    assert whole.information(done.order) > 0.9 * best  # 16 particles


class InUnits(Prior):
    """White images of deviation 0.3 whose measurement must be scaled first."""

    domain, sample_shape, sigma_min, sigma_max, scale = "complex", None, 0.01, 10.0, 0.3
    units = Units(0.99, 0.8)

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x * 0.09 / (0.09 + sigma**2)


def test_relative_units() -> None:
    _, op, noise, candidates = columns_problem()
    truth = 50 * torch.randn(1, 8, 8, dtype=torch.complex64, generator=generator(0))
    instrument = Simulator(truth, op, Gaussian(1.0), generator(1))
    with pytest.raises(InputError, match="data are zero"):
        Active(budget=3).run(instrument, candidates, InUnits(), 4, progress=False)
    done = Active(budget=8, initial=(4, 3, 5), nfe=8, inner=4).run(instrument, candidates, InUnits(), 8, progress=False)
    mean = torch.from_numpy(done.posterior.mean().values)
    assert float((mean - truth).abs().square().sum() / truth.abs().square().sum()) < 0.1


def test_particles_are_lifted_by_scales_of_the_prior() -> None:
    prior, op, noise, candidates = columns_problem()
    truth = prior.sample(1, generator(0))[0]
    covariance = prior.directions * prior.variances @ prior.directions.mH
    large = GaussianPrior(prior.mean, 100 * covariance, "complex")
    runs = [
        Active(policy=LogDet(), budget=6, nfe=8, inner=6).run(
            Simulator(c * truth, op, Gaussian(c * 0.3), generator(1)), candidates, p, 16, progress=False
        )
        for c, p in ((1.0, prior), (10.0, large))
    ]
    assert runs[0].order == runs[1].order
    assert runs[0].entropy == pytest.approx(runs[1].entropy, rel=1e-3)


def test_particles_follow_the_unit() -> None:
    _, op, noise, candidates = columns_problem()
    instrument = Simulator(torch.zeros(1, 8, 8, dtype=torch.complex64), op, noise, generator(1))
    plan = Belief.plan(candidates, (), 8)
    run = Run(Active(budget=8), instrument, candidates, InUnits(), 4, 0, torch.device("cpu"), False, plan, None)
    run.y = torch.ones(1, 8, 8, dtype=torch.complex64)
    run.order = [4]
    x = torch.ones(4, 1, 8, 8, dtype=torch.complex64)
    run.scaled()
    before = run.factor
    run.order, run._scaled = [3, 4, 5], None
    torch.testing.assert_close(run.like_before(x), x * run.factor / before)
    assert run.factor != before


def test_noise_of_its_own_for_every_datum_goes_with_it() -> None:
    op = ParallelCT((6, 6), torch.arange(8) * torch.pi / 8, 9)
    prior = GaussianPrior(torch.zeros(1, 6, 6), torch.eye(36))
    sigma = torch.linspace(0.1, 0.8, 8)[:, None].expand(8, 9)
    instrument = Simulator(prior.sample(1, generator(0))[0], op, Gaussian(sigma), generator(1))
    done = Active(policy=Random(), budget=3, nfe=4).run(instrument, Candidates.along(op, 0), prior, 4, progress=False)
    kept = torch.as_tensor(done.measurement.noise.sigma)  # type: ignore[attr-defined]
    torch.testing.assert_close(kept, sigma[sorted(done.order)])


def test_scale_of_a_singular_problem() -> None:
    # Masked Fourier data are solved in one step of conjugate gradients; more steps went on into rounding.
    truth = torch.randn(1, 64, 64, dtype=torch.complex64, generator=generator(0))
    op = Fourier((1, 64, 64))[torch.arange(64) % 2 == 0]
    factor = rescale(Measurement(op.forward(truth[None])[0], op, Gaussian(0.1)), InUnits())[1]
    zero_filled = op.adjoint(op.forward(truth[None])).abs().flatten().quantile(0.99)
    assert factor == pytest.approx(0.8 / float(zero_filled), rel=1e-3)


def test_mistakes() -> None:
    prior, op, noise, candidates = columns_problem()
    instrument = Simulator(prior.sample(1, generator(0))[0], op, noise, generator(1))
    for mistake in ({"nfe": 0}, {"window": (0.5, 0.2)}, {"target": 2.0}, {"factor": -1.0}, {"lift": 0.0}):
        with pytest.raises(InputError, match="Active got"):
            Active(**mistake)
    with pytest.raises(UnknownNameError, match="renoise"):
        Active(mode="offline")
    with pytest.raises(InputError, match="8 exist"):
        Active(budget=9).run(instrument, candidates, prior, 4, progress=False)
    for initial in ((99,), (4, 4)):
        with pytest.raises(InputError, match="different groups from 0 to 7"):
            Active(budget=3, initial=initial).run(instrument, candidates, prior, 4, progress=False)
    with pytest.raises(InputError, match="nfe = 1 has none"):
        Active(mode="online", nfe=1)
    with pytest.raises(InputError, match="at least 2 particles"):
        Active(budget=3).run(instrument, candidates, prior, 1, progress=False)


def test_station_sites_on_the_real_field() -> None:
    # Sites chosen for the least squared error on the first three weeks serve the last week better than random ones.
    if "INVDIFF_DATA" not in os.environ:
        pytest.skip("INVDIFF_DATA is not set")
    import xarray as xr

    from invdiff.policies import AOptimal

    with xr.open_dataset(Path(os.environ["INVDIFF_DATA"]) / "atmosphere" / "era5_t2m_uk_2019-03.nc") as file:
        t = torch.from_numpy(file["t2m"].values[:, ::4, ::4].astype(np.float32))
    t = t - t[: 24 * 22].reshape(22, 24, *t.shape[1:]).mean(0).repeat(31, 1, 1)
    train, test = t[: 24 * 22].flatten(1).double(), t[24 * 22 :: 36]
    covariance = torch.cov(train.T) + 0.05 * torch.eye(train.shape[1], dtype=torch.float64)
    prior = GaussianPrior(train.mean(0).float().reshape(1, *t.shape[1:]), covariance)
    op, noise = Identity((1, *t.shape[1:])), Gaussian(0.5)
    candidates = Candidates.along(op, -2, -1)
    chosen = greedy_design(prior, op, noise, candidates, 8, policy=AOptimal()).order

    def error(order: list[int]) -> float:
        total = 0.0
        for n, x in enumerate(test):
            y = noise.sample(op.forward(x[None, None]), generator(n))[0]
            some, data = candidates.restrict(op, y, order)
            total += float((posterior(prior, Measurement(data, some, noise)).mean[0] - x).square().mean())
        return total

    plan = Belief.plan(candidates, (), 8)
    random = [error(Random()(plan, 8, generator(k))) for k in range(6)]
    assert error(chosen) < sum(random) / 6
