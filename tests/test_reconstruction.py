import pytest
import torch

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ParallelCT
from invdiff.operators.mri.sense import MRI
from invdiff.posterior import Posterior
from invdiff.random import generator
from invdiff.reconstruction import HeldOut, Reconstruction, Settings, reconstruct
from invdiff.reconstruction.settings import default_prior
from invdiff.simulation.case import Case

SIGMA = 0.3


def acquisition(problems: int) -> tuple[torch.Tensor, Measurement]:
    """True images (problems, 1, 32, 32), and a noisy measurement of each with maps of its own."""
    rng = generator(4)
    maps = torch.randn(problems, 6, 32, 32, generator=rng, dtype=torch.complex64)
    mask = torch.rand(32, 32, generator=rng) < 0.5
    mask[12:20, 12:20] = True
    x = torch.randn(problems, 1, 32, 32, generator=rng, dtype=torch.complex64)
    op = MRI(maps, mask)
    y = Gaussian(SIGMA).sample(op.forward(x), rng) * mask
    return x, Measurement(y, op, Gaussian(SIGMA), batched=True)


def test_misfit_of_the_truth_is_one_per_real_component() -> None:
    x, measurement = acquisition(3)
    # Of the middle problem: give the others images that fit badly.
    x[0], x[2] = 0, 0
    done = Reconstruction(Posterior.from_draws(torch.stack([x, x]), batched=True), measurement)
    shown = torch.from_numpy(done.residual())
    mask = measurement.operator.mask[0]  # type: ignore[attr-defined]
    assert torch.equal(shown.isnan(), ~mask)
    # About 550 positions of 6 complex data each: their mean square is 1 up to sqrt(2 / 6600), 4 of which are 0.07.
    assert abs(float(shown[mask].square().mean()) - 1) < 0.07


def test_held_out_data_of_several_problems_follow_each_other() -> None:
    x, measurement = acquisition(2)
    both = HeldOut(measurement, 0.2)
    count = both.y.numel() // 2
    draws = torch.stack([x, 2 * x])
    predicted = both.predictions(draws)
    assert predicted.shape == (2, 2 * count)
    torch.testing.assert_close(predicted[1], 2 * predicted[0])
    for p in range(2):
        y = both.y[p * count : (p + 1) * count]
        clean = predicted[0, p * count : (p + 1) * count]
        # Noise is what is between data and the prediction by the truth, 2 sigma^2 a complex datum; 600 of them.
        assert abs(float((y - clean).abs().square().mean()) / (2 * SIGMA**2) - 1) < 4 * (1 / count) ** 0.5
    assert both.nrmse(x) == pytest.approx(float((both.y - predicted[0]).norm() / both.y.norm()))
    assert float((both.train.y != 0).sum() + (both.y != 0).sum()) == float((measurement.y != 0).sum())


def test_noise_levels_of_the_held_out_data_are_picked_with_them() -> None:
    _, measurement = acquisition(1)
    levels = torch.linspace(0.1, 0.4, 6)[:, None, None].expand(6, 32, 32)
    uneven = Measurement(measurement.y, measurement.operator, Gaussian(levels), batched=True)
    held = HeldOut(uneven, 0.2)
    assert isinstance(held.sigma, torch.Tensor)
    torch.testing.assert_close(held.sigma.reshape(6, -1), levels[:, :1, 0].expand(6, held.y.numel() // 6))


def test_unknown_fraction_is_refused() -> None:
    with pytest.raises(InputError, match="fraction"):
        HeldOut(acquisition(1)[1], 0.0)


def test_the_prior_is_chosen_by_what_is_known_of_the_image() -> None:
    _, cplx = acquisition(1)
    assert default_prior(cplx) == "mri"
    op = ParallelCT((16, 16), torch.arange(4) * 0.7, 23)
    for meta, name in (({}, "generic"), ({"mu_water_per_mm": 0.02}, "ct")):
        assert default_prior(Measurement(torch.zeros(op.range_shape), op, Gaussian(0.1), meta=meta)) == name


def test_a_volume_held_in_memory_is_scored_slice_by_slice() -> None:
    truth = torch.zeros(1, 1, 3, 16, 16)
    truth[..., 4:12, 5:11] = torch.tensor([0.5, 1.0, 0.8])[:, None, None]
    op = ParallelCT((3, 16, 16), torch.arange(24) * torch.pi / 24, (3, 24))
    y = Gaussian(0.1).sample(op.forward(truth), generator(0))
    case = Case(Measurement(y[0], op, Gaussian(0.1)), truth)
    done = reconstruct(case, Settings(method="cgls", alone=True, progress=False))
    scored = [row for row in done.figures["rows"] if row["plane"] is None]
    assert [row["slice"] for row in scored] == [0, 1, 2, "mean"]
    assert scored[-1]["psnr"] > 15
    assert scored[-1]["psnr"] == pytest.approx(sum(row["psnr"] for row in scored[:3]) / 3)


def test_too_little_memory_for_the_gradient_is_said_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    op = ParallelCT((2, 64, 64), torch.arange(2.0), (2, 92))
    measurement = Measurement(torch.zeros(2, 2, 92), op, Gaussian(1.0))
    monkeypatch.setattr("invdiff.reconstruction.run.draw", lambda *_: pytest.fail("it went on"))
    settings = Settings(method="mmps", draws=1, memory=(700 << 20) + (16 << 20), progress=False)
    with pytest.raises(InputError, match="memory is 0.699 GiB"):
        reconstruct(measurement, settings)
