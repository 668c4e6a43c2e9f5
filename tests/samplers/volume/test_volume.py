"""Samplers of volumes from priors of slices: their pieces against closed forms, and whole runs."""

import math

import pytest
import torch

import invdiff
from invdiff.engine.checkpoint import Checkpoint
from invdiff.errors import InputError, UnknownNameError
from invdiff.guidance import DDS
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ParallelCT
from invdiff.operators.mri.volumes import DynamicMRI
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.priors.slices import SlicePrior
from invdiff.random import Streams
from invdiff.samplers.named import sampler
from invdiff.samplers.volume.admm import difference, shrink, spread, start, sweep
from invdiff.samplers.volume.coherent import SliceNoise
from invdiff.samplers.volume.dds3d import DDS3D
from invdiff.samplers.volume.named import NAMES
from invdiff.samplers.volume.tpdm import TPDM
from invdiff.validation.field import FourierFilter, gaussian_lowpass, posterior

SIZE = 16


@pytest.fixture(scope="module")
def case():
    """A smooth field behind a blur, with the prior of its slices and the exact posterior."""
    rng = torch.Generator().manual_seed(0)
    whole = GaussianFieldPrior(matern((SIZE,) * 3, 1.0, 5.0))
    truth = whole.sample(1, rng)
    operator = FourierFilter(gaussian_lowpass((SIZE,) * 3, 1.0))
    y = Gaussian(0.3).sample(operator.forward(truth), rng)[0]
    measurement = Measurement(y, operator, Gaussian(0.3))
    plane = GaussianFieldPrior(whole.spectrum.mean(0))  # a slice of a stationary field has the mean spectrum
    return truth[0, 0], measurement, plane, posterior(whole, measurement)


@pytest.mark.parametrize("axis", [2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_spread_is_the_adjoint_of_difference(axis, dtype):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 4, 5, 6, generator=rng, dtype=dtype)
    dx = difference(x, axis)
    d = torch.randn(dx.shape, generator=rng, dtype=dtype)
    assert dx.shape[axis] == x.shape[axis] - 1
    left, right = (dx.conj() * d).sum(), (x.conj() * spread(d, axis)).sum()
    assert abs(left - right) < 1e-12 * abs(left)


def test_shrinking_keeps_the_phase():
    v = torch.tensor([3 + 4j, 0.3 + 0.4j, 0j])
    torch.testing.assert_close(shrink(v, 1.0), torch.tensor([2.4 + 3.2j, 0j, 0j]))
    torch.testing.assert_close(shrink(torch.tensor([-2.0, 0.5]), 1.0), torch.tensor([-1.0, 0.0]))


@pytest.mark.parametrize(("gap", "moved"), [(1.0, 0.3), (0.4, 0.2)])
def test_sweeps_solve_total_variation_of_two_slices(gap, moved):
    # min |x - b|^2/2 + 0.3 |x_2 - x_1|: both move by 0.3 towards each other, at most to their mean.
    b = torch.tensor([0.0, gap], dtype=torch.float64).reshape(1, 1, 2, 1, 1)
    x, split = b, start(b, 2)
    for _ in range(200):
        x, split = sweep(lambda v: v, b, x, split, axis=2, rho=1.0, threshold=0.3, iterations=2)
    torch.testing.assert_close(x.flatten(), torch.tensor([moved, gap - moved], dtype=torch.float64), atol=1e-6, rtol=0)


def test_dds3d_solves_its_objective_when_it_stays_at_one_level(case):
    # Repeated at one x and sigma the sweeps converge to the least of data + |z - x0|^2/(2 r^2) + w |D z|.
    _, measurement, plane, _ = case
    x, sigma = torch.randn(1, 1, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(1)), 0.5
    solved = {}
    for tv in (1.5, 3.0, 6.0):
        guidance = DDS3D(SlicePrior(plane), measurement, tv=tv, iterations=20)
        guidance.begin()
        for _ in range(60):
            solved[tv] = guidance(x, sigma)
    x0, r2 = guidance.denoise(x, sigma), sigma**2 / (1 + sigma**2 / plane.scale**2)

    def objective(v):
        tv = 3.0 / plane.scale * difference(v, 2).abs().sum()
        return float(measurement.chi2(v)[0] / 2 + (v - x0).square().sum() / (2 * r2) + tv)

    least = objective(solved[3.0])
    assert least < 0.999 * min(objective(solved[1.5]), objective(solved[6.0]), objective(x0))  # the weight is right
    rng = torch.Generator().manual_seed(2)
    moves = torch.randn(2, 1, SIZE, SIZE, SIZE, generator=rng).split(1)
    for move in (*moves, moves[0].mean((3, 4), keepdim=True).expand_as(x0), solved[3.0] - x0):
        assert all(objective(solved[3.0] + s * 1e-2 * move) > (1 - 1e-4) * least for s in (-1, 1))


def test_slices_of_separate_problems_are_separate():
    # Parallel beams do not mix slices: the data step on the volume is that of each slice, once solved to the end.
    rng = torch.Generator().manual_seed(0)
    angles, plane = torch.arange(9) * math.pi / 9, GaussianFieldPrior(matern((10, 10), 1.0, 2.0))
    whole, one = ParallelCT((3, 10, 10), angles, (3, 16)), ParallelCT((10, 10), angles, 16)
    y, x = torch.randn(9, 3, 16, generator=rng), torch.randn(1, 1, 3, 10, 10, generator=rng)
    together = DDS(SlicePrior(plane), Measurement(y, whole, Gaussian(0.5)), iterations=60)(x, 0.7)
    for s in range(3):
        alone = DDS(plane, Measurement(y[:, s], one, Gaussian(0.5)), iterations=60)(x[:, :, s], 0.7)
        torch.testing.assert_close(together[:, :, s], alone, atol=2e-3, rtol=0)


@pytest.mark.parametrize("axis", [2, 3])
def test_coherent_noise(axis):
    like = torch.empty(2, 1, 9, 9, 4000)
    slerp = SliceNoise(Streams(0, [0, 1]), axis, "slerp").normal(like).movedim(axis, 2)
    variance = slerp.square().mean((0, 1, 3, 4))
    assert (variance - 1).abs().max() < 0.02  # 72 000 numbers each: four standard errors are 0.021
    first = (slerp[:, :, :1] * slerp).mean((0, 1, 3, 4))
    expected = torch.cos(torch.linspace(0, 1, 9) * math.pi / 2)
    assert (first - expected).abs().max() < 0.03
    assert abs(float((slerp[0] * slerp[1]).mean())) < 0.03  # draws are independent
    shared = SliceNoise(Streams(0, [0, 1]), axis, "shared").normal(like)
    assert torch.equal(shared.select(axis, 0), shared.select(axis, 5)) and not torch.equal(shared[0], shared[1])
    with pytest.raises(UnknownNameError, match="shared, slerp"):
        SliceNoise(Streams(0, [0]), 2, "same")


def test_coherent_noise_of_few_slices_and_pixels():
    two = SliceNoise(Streams(0, [0]), 2, "slerp").normal(torch.empty(1, 1, 2, 50, 50))[0, 0]
    assert abs(float((two[0] * two[1]).mean())) < 0.06 and not torch.equal(two[0], two[1])  # the anchors themselves
    like = torch.empty(4, 1, 6, 2, 2)  # few pixels: anchors at angles of all kinds
    path, anchors = (
        SliceNoise(Streams(0, range(4)), 2, "slerp").normal(like),
        Streams(0, range(4)).normal(like[:, :, :2]),
    )
    torch.testing.assert_close(path[:, :, [0, -1]], anchors)
    one = SliceNoise(Streams(0, range(500)), 2, "slerp").normal(torch.empty(500, 1, 5, 1, 1))
    assert float(one.abs().max()) < 6  # two numbers always point the same way, or against


def test_tpdm_turns_with_the_level_and_knows_two_axes(case):
    _, measurement, plane, _ = case
    prior = SlicePrior(plane)
    method = TPDM(prior, measurement)
    x, axes = torch.zeros(1, 1, SIZE, SIZE, SIZE), []
    for sigma in (3.0, 2.0, 2.0, 1.0, 1.0, 0.5):  # as a solver of two evaluations a step asks
        method(x, sigma)
        axes.append(method.priors.index(method.prior) * 2)
    assert axes == [0, 2, 2, 0, 0, 2]
    fresh = TPDM(prior, measurement)
    fresh.restore(method.carried())
    assert (fresh.turn, fresh.level) == (4, 0.5)
    with pytest.raises(InputError, match="axis 0 twice"):
        TPDM(prior, measurement, other=0)
    assert SlicePrior(plane, 0, 8).along(2, (1, 64, 16, 16)).chunk == 2  # as many pixels at once


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_goes_on_to_the_same_bits(name, case, tmp_path):
    _, measurement, plane, _ = case
    like, prior = torch.empty(1, 1, SIZE, SIZE, SIZE), SlicePrior(plane, 1)
    with torch.inference_mode():
        whole = [s.x.clone() for s in sampler(name, 8).steps(prior, measurement, like, Streams(0, [0]))]
        for stop in (1, len(whole) - 1):
            rng, store = Streams(0, [0]), Checkpoint(tmp_path / f"{stop}", {}, resume=False, every=0.0)
            for state in sampler(name, 8).steps(prior, measurement, like, rng):
                store.keep(0, state, rng, (0, 0))
                if state.step == stop:
                    break
            fresh = Streams(0, [0])
            found = store.resume(0, fresh, torch.device("cpu"))
            assert found is not None and found[0].step == stop
            *_, last = sampler(name, 8).steps(prior, measurement, like, fresh, found[0])
            assert torch.equal(last.x, whole[-1]), stop


def test_joined_slices_beat_separate_ones_and_none_beats_the_posterior(case):
    truth, measurement, plane, exact = case
    best = float((exact.mean[0] - truth).square().mean().sqrt())
    error = {}
    for name in ("slicewise", "dds3d", "tpdm", "blend", "mbir"):
        found = invdiff.sample(measurement, plane, name, 4, nfe=200 if name == "mbir" else 20, progress=False, seed=1)
        mean = torch.from_numpy(found.mean().values)[0]
        error[name] = float((mean - truth).square().mean().sqrt()) / best
        assert found.diagnostics["nfe"] <= (200 if name == "mbir" else 20)
    print(error)
    assert all(e > 0.99 for e in error.values())
    assert all(error[name] < error["slicewise"] for name in ("dds3d", "tpdm", "blend"))


def test_time_is_an_axis_like_others():
    rng = torch.Generator().manual_seed(0)
    operator = DynamicMRI.example(rng)
    plane = GaussianFieldPrior(matern(operator.domain_shape[2:], 1.0, 2.0), domain="complex")
    clean = operator.forward(torch.randn(1, *operator.domain_shape, generator=rng, dtype=torch.complex64))
    assert operator.range_mask is not None
    y = Gaussian(0.1).sample(clean, rng)[0] * operator.range_mask[0]
    measurement = Measurement(y, operator, Gaussian(0.1))
    rough, smooth = (
        torch.from_numpy(invdiff.sample(measurement, plane, name, 4, nfe=10, progress=False).draws.values)
        for name in ("slicewise", "dds3d")
    )
    assert smooth.shape == (4, *operator.domain_shape)
    assert difference(smooth, 2).abs().mean() < 0.9 * difference(rough, 2).abs().mean()
