"""The likelihood of rounded and cut data: probabilities of bins."""

import math

import pytest
import torch

from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators import Identity, Inpainting
from invdiff.quantised import Quantised
from invdiff.random import Streams, generator


def phi(t: torch.Tensor) -> torch.Tensor:
    return 0.5 * torch.erfc(-t / math.sqrt(2))


def levels(noise: Quantised) -> torch.Tensor:
    return torch.arange(0, 9, dtype=torch.float64)[:, None] * 0.25 - 1.0


def test_probabilities_of_all_levels_sum_to_one() -> None:
    noise = Quantised(0.3, 0.25, low=-1.0, high=1.0)
    for clean in (-3.0, -1.0, 0.07, 0.99, 2.5):
        values = levels(noise)
        logs = noise.log_likelihood(values, torch.full_like(values, clean), 1)
        assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-12)
        middle = values[4:5]
        expected = phi((middle + 0.125 - clean) / 0.3) - phi((middle - 0.125 - clean) / 0.3)
        assert float(logs[4].exp()) == pytest.approx(float(expected), rel=1e-9)
    unlimited = Quantised(0.3, 0.25)
    far = torch.arange(-40, 41, dtype=torch.float64)[:, None] * 0.25
    assert float(unlimited.log_likelihood(far, torch.full_like(far, 0.4), 1).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_drawn_data_have_these_probabilities() -> None:
    noise, clean = Quantised(0.3, 0.25, low=-1.0, high=1.0), torch.full((1, 100_000), 0.6, dtype=torch.float64)
    y = noise.sample(clean, generator(1))
    values = levels(noise)
    expected = noise.log_likelihood(values, torch.full_like(values, 0.6), 1).exp()
    share = (y.flatten() == values).double().mean(1)
    assert float(share.sum()) == 1  # nothing between the levels
    # four standard errors of a share from 1e5 draws
    assert bool(((share - expected).abs() < 4 * (expected / 1e5).sqrt() + 1e-12).all())
    assert noise.sample(clean[:, :4], Streams(0, [3])).shape == (1, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_point_at_the_bin(dtype: torch.dtype) -> None:
    noise = Quantised(0.01, 0.25, low=-1.0, high=1.0)
    y = torch.tensor([[-1.0, 0.5, 1.0, 0.0]], dtype=dtype)
    clean = torch.tensor([[3.0, -4.0, -2.0, 0.05]], dtype=dtype, requires_grad=True)  # up to 400 sigma away
    value = noise.log_likelihood(y, clean, 4)
    (gradient,) = torch.autograd.grad(value.sum(), clean)
    assert bool(torch.isfinite(value).all()) and bool(torch.isfinite(gradient).all())
    assert gradient[0, 0] < 0 < gradient[0, 1] and gradient[0, 2] > 0 and abs(float(gradient[0, 3])) < 1
    inside = torch.tensor([[-2.0, 0.5, 30.0, 0.0]], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(noise.log_likelihood(y, inside, 4).sum(), inside)
    assert float(gradient.abs().max()) < 1e-3  # beyond the limits nothing more is said


def test_gradient_against_finite_differences() -> None:
    noise = Quantised(0.3, 0.5, low=-1.0, high=1.0)
    y = torch.tensor([[-1.0, 0.5, 1.0]], dtype=torch.float64)
    clean = torch.tensor([[-0.2, 0.1, 0.4]], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda c: noise.log_likelihood(y, c, 3), clean)


def test_fine_steps_are_the_normal_density() -> None:
    y, clean = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator(0))
    step = 1e-4
    found = Quantised(0.7, step).log_likelihood(y, clean, 5)
    torch.testing.assert_close(found, Gaussian(0.7).log_likelihood(y, clean, 5) + 5 * math.log(step), rtol=0, atol=1e-6)
    z, c = torch.complex(y, clean), torch.complex(clean, y)
    both = Quantised(0.7, step).log_likelihood(z, c, 5)
    torch.testing.assert_close(both, 2 * found, rtol=0, atol=1e-9)


def test_unmeasured_entries_do_not_count() -> None:
    noise, mask = Quantised(0.3, 0.25), torch.tensor([True, False, True])
    y = torch.tensor([0.5, 0.0, -0.25], dtype=torch.float64)
    x = torch.tensor([[0.4, 9.0, 0.1]], dtype=torch.float64)
    part = Measurement(y, Inpainting(mask, (3,)), noise).log_likelihood(x)
    whole = Measurement(y[mask], Identity((2,)), noise).log_likelihood(x[:, mask])
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-12)


def test_scaled_data_have_the_same_likelihood() -> None:
    noise = Quantised(0.3, 0.25, high=1.0)
    y, clean = torch.tensor([[0.25, 1.0]]), torch.tensor([[0.3, 0.7]])
    scaled = noise.scaled(40.0)
    torch.testing.assert_close(scaled.log_likelihood(40 * y, 40 * clean, 2), noise.log_likelihood(y, clean, 2))
    with pytest.raises(InputError, match="factor"):
        noise.scaled(-1.0)


def test_bad_arguments_are_refused() -> None:
    for arguments in [(0.0, 1.0), (1.0, 0.0), (math.nan, 1.0), (1.0, 1.0, 2.0, 2.0), (1.0, 0.4, 0.0, 1.0)]:
        with pytest.raises(InputError):
            Quantised(*arguments)
