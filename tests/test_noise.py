"""Noise: sigma is per real component; densities are normalised."""

import math

import pytest
import torch

from invdiff.errors import InputError
from invdiff.noise import Gaussian
from invdiff.random import Streams, generator


def test_complex_noise_has_sigma_in_each_component() -> None:
    clean = torch.zeros(1, 200_000, dtype=torch.complex64)
    n = Gaussian(0.5).sample(clean, generator(3))
    # standard error of a standard deviation from 2e5 draws is 0.16 %; four of them
    assert n.real.std().item() == pytest.approx(0.5, rel=0.0064)
    assert n.imag.std().item() == pytest.approx(0.5, rel=0.0064)
    assert n.abs().square().mean().item() == pytest.approx(2 * 0.25, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("sigma", [0.7, torch.tensor([0.3, 0.5, 2.0], dtype=torch.float64)])
def test_log_likelihood_is_the_normal_density(dtype: torch.dtype, sigma: float | torch.Tensor) -> None:
    y, clean = torch.randn(2, 4, 3, dtype=dtype, generator=generator(0))
    parts = [(y - clean).real, (y - clean).imag] if dtype.is_complex else [y - clean]
    scale = torch.as_tensor(sigma, dtype=torch.float64).expand(3)
    expected = sum(torch.distributions.Normal(0, scale).log_prob(p).sum(1) for p in parts)
    torch.testing.assert_close(Gaussian(sigma).log_likelihood(y, clean, 3), expected)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_absurd_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma"):
        Gaussian(sigma)


def test_streams_do_not_depend_on_their_neighbours() -> None:
    like = torch.empty(5, 7)
    together = Streams(0, range(5)).normal(like)
    alone = Streams(0, [3]).normal(like[:1])
    assert torch.equal(together[3], alone[0])
    assert not torch.equal(together[3], together[4])
    assert not torch.equal(Streams(1, [3]).normal(like[:1]), alone)


def test_streams_go_on_from_their_state() -> None:
    like = torch.empty(2, 3, dtype=torch.complex64)
    rng = Streams(4, [0, 1])
    rng.normal(like)
    state = rng.state()
    first = rng.normal(like)
    rng.restore(state)
    assert torch.equal(rng.normal(like), first)


@pytest.mark.parametrize("seed", [True, 1.5, "3"])
def test_seed_must_be_an_integer(seed: object) -> None:
    with pytest.raises(InputError, match="seed"):
        generator(seed)  # type: ignore[arg-type]
