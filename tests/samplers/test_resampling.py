"""Resampling: the right copies of the right particles, population by population."""

import math

import torch

from invdiff.random import generator
from invdiff.samplers.resampling import effective_size, log_mean_exp, systematic, tempered


def test_copies_are_the_expected_number_up_to_one() -> None:
    log_w = 2 * torch.randn(50, 12, dtype=torch.float64, generator=generator(0))
    index = systematic(log_w, torch.rand(50, generator=generator(1)), 30)
    copies = torch.nn.functional.one_hot(index, 12).sum(1)
    assert index.shape == (50, 30)
    assert float((copies - 30 * torch.softmax(log_w, 1)).abs().max()) < 1


def test_copies_are_right_on_average() -> None:
    log_w = torch.log(torch.tensor([0.07, 0.5, 0.0, 0.43], dtype=torch.float64)).expand(20_000, 4)
    index = systematic(log_w, torch.rand(20_000, generator=generator(2)))
    share = torch.nn.functional.one_hot(index, 4).double().mean((0, 1))
    # 20 000 independent combs of 4: standard error below 0.5 / sqrt(80 000) = 0.0018
    torch.testing.assert_close(share, torch.tensor([0.07, 0.5, 0.0, 0.43], dtype=torch.float64), atol=0.007, rtol=0)


def test_equal_weights_keep_every_particle() -> None:
    index = systematic(torch.zeros(3, 5), torch.tensor([0.01, 0.5, 0.99]))
    assert torch.equal(index, torch.arange(5).expand(3, 5))


def test_sizes_and_means() -> None:
    log_w = torch.log(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])) + 700
    torch.testing.assert_close(effective_size(log_w), torch.tensor([4.0, 1.0, 1.6]), rtol=1e-4, atol=0)
    expected = 700 + torch.tensor([0.0, math.log(0.25), 0.0])
    torch.testing.assert_close(log_mean_exp(log_w), expected, rtol=0, atol=1e-3)


def test_weights_are_shrunk_no_more_than_they_have_to_be() -> None:
    log_w = (
        torch.randn(6, 40, dtype=torch.float64, generator=generator(4))
        * torch.tensor([0.1, 0.2, 1, 3, 10, 100])[:, None]
    )
    shrunk, power = tempered(log_w, 0.7)
    torch.testing.assert_close(shrunk, power[:, None] * log_w)
    assert torch.equal(power[:2], torch.ones(2, dtype=torch.float64))  # these leave more than 0.7 effective
    torch.testing.assert_close(
        effective_size(shrunk)[2:], torch.full((4,), 28.0, dtype=torch.float64), atol=0.02, rtol=0
    )
