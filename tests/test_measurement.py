"""Measurement: refuses what does not fit, and knows how well an x explains the data."""

import pytest
import torch

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity, Matrix
from invdiff.operators.mri.sense import MRI
from invdiff.random import generator


def test_chi2_of_the_truth_is_the_number_of_real_data() -> None:
    rng = generator(0)
    op = Matrix(torch.randn(300, 4, dtype=torch.complex64, generator=rng))
    x = torch.randn(50, 4, dtype=torch.complex64, generator=rng)
    clean = op.forward(x)
    values = []
    for i in range(50):
        m = Measurement(Gaussian(0.1).sample(clean[i : i + 1], rng)[0], op, Gaussian(0.1))
        assert m.count == 600
        values.append(float(m.chi2(x[i : i + 1])))
    # chi2 of 600 data has standard deviation sqrt(1200); the mean of 50, 4.9; four of them
    assert sum(values) / 50 == pytest.approx(600, abs=20)


@pytest.mark.parametrize("precision", [torch.complex64, torch.float16, torch.int32])
def test_other_precisions_are_refused(precision: torch.dtype) -> None:
    measurement = Measurement(torch.ones(3), Identity((3,)), Gaussian(0.1))
    with pytest.raises(DTypeError, match=r"torch\.float32 or torch\.float64"):
        measurement.to(precision)


def test_count_knows_the_mask() -> None:
    maps = torch.ones(2, 4, 5, dtype=torch.complex64)
    mask = torch.tensor([True, False, True, False, False])
    m = Measurement(torch.zeros(2, 4, 5, dtype=torch.complex64), MRI(maps, mask), Gaussian(1.0))
    assert m.count == 2 * (2 * 4 * 2)


@pytest.mark.parametrize(
    ("y", "error", "says"),
    [
        (torch.zeros(4), ShapeError, r"\(4,\)"),
        (torch.zeros(3, dtype=torch.complex64), DTypeError, "real"),
        (torch.zeros(3, dtype=torch.int32), DTypeError, "floating"),
        (torch.tensor([0.0, float("nan"), 0.0]), InputError, "NaN"),
    ],
)
def test_data_that_do_not_fit_are_refused(y: torch.Tensor, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Measurement(y, Identity((3,)), Gaussian(1.0))


def test_data_outside_the_mask_are_refused() -> None:
    op = MRI(torch.ones(1, 2, 2, dtype=torch.complex64), torch.tensor([True, False]))
    with pytest.raises(InputError, match="outside the mask"):
        Measurement(torch.ones(1, 2, 2, dtype=torch.complex64), op, Gaussian(1.0))


def test_wrong_kinds_of_operator_and_noise_are_named() -> None:
    with pytest.raises(DTypeError, match="operator of type function"):
        Measurement(torch.zeros(3), lambda x: x, Gaussian(1.0))
    with pytest.raises(DTypeError, match="Gaussian"):
        Measurement(torch.zeros(3), Identity((3,)), 0.1)  # type: ignore[arg-type]


def test_take_repeats_problems() -> None:
    y = torch.arange(6.0).reshape(3, 2)
    m = Measurement(y, Identity((2,)), Gaussian(1.0), batched=True)
    assert torch.equal(m.take([2, 0, 2]).y, y[[2, 0, 2]])
    assert m.n_problems == 3


def test_problems_may_have_masks_of_different_size() -> None:
    rng = generator(5)
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    for i, rows in enumerate((2, 4, 6)):
        mask[i, :rows] = True
    op = MRI(torch.randn(2, 8, 8, generator=rng, dtype=torch.complex64), mask)
    x = torch.randn(3, *op.domain_shape, generator=rng, dtype=torch.complex64)
    assert op.range_mask is not None
    noise = torch.randn(3, *op.range_shape, generator=rng, dtype=torch.complex64) * op.range_mask
    measurement = Measurement(op.forward(x) + 0.1 * noise, op, Gaussian(0.1 / 2**0.5), batched=True)
    assert op.sizes == [32, 64, 96] and op.size == 64 and measurement.count == 128
    alone = [measurement.take([p]).log_likelihood(x[p : p + 1]) for p in range(3)]
    torch.testing.assert_close(measurement.log_likelihood(x), torch.cat(alone))
    assert float(measurement.chi2(x).mean()) == pytest.approx(128, rel=0.3)


def test_each_problem_keeps_its_own_noise() -> None:
    rng = generator(3)
    op = Matrix(torch.randn(4, 3, generator=rng))
    x, sigma = torch.randn(3, 3, generator=rng), torch.rand(3, 4, generator=rng) + 0.5
    whole = Measurement(Gaussian(sigma).sample(op.forward(x), rng), op, Gaussian(sigma), batched=True)
    part = whole.take([2, 0, 2])
    order = torch.tensor([2, 0, 2])
    torch.testing.assert_close(part.chi2(x[order]), whole.chi2(x)[order])
    torch.testing.assert_close(part.log_likelihood(x[order]), whole.log_likelihood(x)[order])
    one = Measurement(whole.y[1], op, Gaussian(sigma[1]))
    torch.testing.assert_close(one.log_likelihood(x[1:2]), whole.log_likelihood(x)[1:2])
    shared = Measurement(whole.y, op, Gaussian(sigma[0]), batched=True)  # by datum, not by problem
    torch.testing.assert_close(shared.take([1]).chi2(x[1:2]), shared.chi2(x)[1:2])
