from typing import Any

import pytest
import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.operators.mri.sense import MRI
from invdiff.validation.holdout import held_out, nrmse, predict, score, split

SIGMA = 0.1


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def acquisition(mask: Tensor, problems: int = 1) -> tuple[Any, Tensor]:
    """A noisy measurement of a random image by three coils on a 24 x 20 grid, and the image."""
    maps = torch.randn(problems, 3, 24, 20, generator=rng(1), dtype=torch.complex64)
    op = MRI(maps, mask)
    x = torch.randn(problems, 1, 24, 20, generator=rng(2), dtype=torch.complex64)
    y = Gaussian(SIGMA).sample(op.forward(x), rng(3)) * op.mask[:, None]
    return Measurement(y if problems > 1 else y[0], op, Gaussian(SIGMA), batched=problems > 1), x


def random_mask(seed: int = 4) -> Tensor:
    mask = torch.rand(24, 20, generator=rng(seed)) < 0.4
    mask[9:15, 7:13] = True
    mask[8:16, 6] = False  # so that the calibration region is what it says, and not larger
    mask[8, 6:14] = mask[15, 6:14] = False
    mask[8:16, 13] = False
    return mask


def test_split_leaves_out_positions_of_all_coils_outside_the_calibration_region():
    mask = random_mask()
    full, _ = acquisition(mask)
    train: Any
    train, held = split(full, 0.25)
    assert held.expand(1, 3, 24, 20).shape == (1, 3, 24, 20)
    left = held[0, 0]
    assert not bool(left[9:15, 7:13].any())
    assert int(left.sum()) == round(0.25 * (int(mask.sum()) - 36))
    assert bool((mask & ~left == train.operator.mask[0]).all())
    # No trace of the held-out data is left, nor does the operator predict it.
    assert not bool(held_out(train.data, held).any())
    assert bool((train.data == full.data * ~held).all())
    ones = torch.ones(1, 1, 24, 20, dtype=torch.complex64)
    assert not bool(held_out(train.operator.forward(ones), held).any())
    assert train.count + 2 * 3 * int(left.sum()) == full.count
    assert train.noise is full.noise


def test_split_follows_its_seed():
    full, _ = acquisition(random_mask())
    assert bool((split(full, 0.2, seed=0)[1] == split(full, 0.2, seed=0)[1]).all())
    assert bool((split(full, 0.2, seed=0)[1] != split(full, 0.2, seed=1)[1]).any())


@pytest.mark.parametrize("axis", [0, 1])
def test_split_of_lines_leaves_out_lines(axis):
    n = (24, 20)[axis]
    line = torch.arange(n) % 5 == 0
    line[n // 2 - 2 : n // 2 + 2] = True
    full, _ = acquisition(line[:, None] if axis == 0 else line)
    train: Any
    train, held = split(full, 0.5)
    assert held.shape[2:] == ((n, 1) if axis == 0 else (1, n))
    assert train.operator.mask.shape[1:] == held.shape[2:]  # still a mask along one axis
    left = held.flatten()
    assert not bool((left & ~line).any()) and not bool(left[n // 2 - 2 : n // 2 + 2].any())
    outside = int(line.sum()) - 4
    assert int(left.sum()) == round(0.5 * outside)


def test_split_of_several_problems_with_their_own_masks():
    masks = torch.stack([random_mask(4), random_mask(5)])
    full, _ = acquisition(masks, problems=2)
    train, held = split(full, 0.25)
    assert held.shape == (2, 1, 24, 20)
    assert train.batched and train.operator.n_problems == 2
    for p in range(2):
        assert int(held[p].sum()) == round(0.25 * (int(masks[p].sum()) - 36))
        assert not bool((held[p, 0] & ~masks[p]).any())
    assert not bool((train.data * held).any())


def test_split_of_an_operator_without_a_mask():
    full = Measurement(torch.ones(30), Matrix(torch.eye(30)), Gaussian(1.0))
    train: Any
    train, held = split(full, 0.1)
    assert int(held.sum()) == 3
    x = torch.ones(1, 30)
    assert bool((train.operator.forward(x) == (~held).float()).all())
    again, other = split(train, 0.5)  # and of one that has been split before
    assert int(other.sum()) == round(0.5 * 27) and not bool((other & held).any())
    assert not bool((again.y * (held | other)[0]).any())


def test_split_refuses_what_it_cannot_do():
    full, _ = acquisition(random_mask())
    for fraction in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match="fraction"):
            split(full, fraction)
    centre = torch.zeros(24, 20, dtype=torch.bool)
    centre[9:15, 7:13] = True
    with pytest.raises(InputError, match="only 0 positions"):
        split(acquisition(centre)[0], 0.1)


def test_prediction_by_the_truth_is_off_by_the_noise_alone():
    full, x = acquisition(random_mask())
    _, held = split(full, 0.5)
    y = held_out(full.data, held)[0]
    found = predict(full.operator, x.repeat(2, 1, 1, 1), held)
    assert found.shape == (2, y.numel())
    error = (found[0] - y).abs().square().mean() / (2 * SIGMA**2)
    assert float(error) == pytest.approx(1.0, abs=4 / y.numel() ** 0.5)  # exponential: its deviation is its mean
    assert nrmse(y, found[0]) == pytest.approx(float((found[0] - y).norm() / y.norm()), rel=1e-6)


def gaussian_case(draws: int, sigma: float, complex_: bool = True) -> tuple[Tensor, Tensor]:
    """Held-out data and exact posterior predictions, of 4000 scalar problems x ~ N(0, 1), y_1 = x + 0.5 n.

    The posterior given y_1 is normal with mean 0.8 y_1 and variance 0.2 (per component); what is held out is
    y_2 = 2 x + sigma n, predicted by 2 x.
    """
    g, dtype = rng(7), torch.complex128 if complex_ else torch.float64
    unit = 2**0.5 if complex_ else 1.0  # randn gives E|n|^2 = 1 in all; sigma counts per component

    def normal(*shape: int) -> Tensor:
        return unit * torch.randn(*shape, generator=g, dtype=dtype)

    x = normal(4000)
    y1, y2 = x + 0.5 * normal(4000), 2 * x + sigma * normal(4000)
    return y2, 2 * (0.8 * y1 + 0.2**0.5 * normal(draws, 4000))


# 4000 independent complex (real) errors: numerator and denominator scatter by 1.6 (2.2) per cent or less each.
TOLERANCE = 0.09


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("sigma", [0.05, 1.0])
@pytest.mark.parametrize("draws", [2, 3, 40])
def test_calibration_of_exact_draws_is_one(draws, sigma, complex_):
    y, predictions = gaussian_case(draws, sigma, complex_)
    assert score(y, predictions, sigma)["holdout_calibration"] == pytest.approx(1.0, abs=TOLERANCE)


def test_calibration_shows_a_wrong_noise_level_and_wrong_spread():
    spread = 4 * 0.2
    y, predictions = gaussian_case(40, 10.0)  # nearly all of the error is noise
    assert score(y, predictions, 10.0 / 2**0.5)["holdout_calibration"] == pytest.approx(
        (100 + spread) / (50 + spread), abs=2 * TOLERANCE
    )
    y, predictions = gaussian_case(40, 0.5)
    narrow = predictions.mean(0) + 0.5 * (predictions - predictions.mean(0))
    assert score(y, narrow, 0.5)["holdout_calibration"] == pytest.approx(
        (spread + 0.25) / (spread / 4 + 0.25), abs=2 * TOLERANCE
    )
    wide = predictions.mean(0) + 2 * (predictions - predictions.mean(0))
    assert score(y, wide, 0.5)["holdout_calibration"] == pytest.approx(
        (spread + 0.25) / (4 * spread + 0.25), abs=TOLERANCE
    )


def test_sigma_may_differ_from_datum_to_datum():
    y, predictions = gaussian_case(5, 1.0)
    both = score(y, predictions, torch.full((4000,), 1.0))
    assert both == pytest.approx(score(y, predictions, 1.0))
    uneven = torch.tensor([0.5, (2 - 0.25) ** 0.5]).repeat(2000)  # the same mean variance
    assert score(y, predictions, uneven) == pytest.approx(both, rel=1e-5)


def test_one_prediction_has_no_calibration():
    y, predictions = gaussian_case(2, 1.0)
    found = score(y, predictions[:1], 1.0)
    assert list(found) == ["holdout_nrmse"]
    assert found["holdout_nrmse"] == nrmse(y, predictions[0])
    mean = score(y, predictions, 1.0)["holdout_nrmse"]
    assert mean == pytest.approx(nrmse(y, predictions.mean(0)), rel=1e-12)


def test_score_refuses_what_does_not_fit():
    y, predictions = gaussian_case(2, 1.0)
    with pytest.raises(ShapeError, match="predictions"):
        score(y, predictions[:, :10], 1.0)
    with pytest.raises(ShapeError, match="predictions"):
        score(y, predictions[0], 1.0)
    with pytest.raises(InputError, match="sigma"):
        score(y, predictions, 0.0)
    with pytest.raises(InputError, match="empty or zero"):
        score(0 * y, predictions, 1.0)
    with pytest.raises(ShapeError, match="mask"):
        held_out(torch.ones(1, 3, 4), torch.ones(1, 1, 5, dtype=torch.bool))
