"""Half precision and working sets: the denoised image stays what it was."""

import pytest
import torch

from invdiff.errors import UnknownNameError
from invdiff.networks import precision
from invdiff.priors.adapters.network import NetworkPrior
from invdiff.priors.loading import load_prior


def noisy(prior, sigma, n=3):
    rng = torch.Generator().manual_seed(0)
    x = 0.5 + sigma * torch.randn(n, 1, 20, 24, generator=rng)
    return (x * (1 + 0.5j)).to(torch.complex64) if prior.domain == "complex" else x


@pytest.mark.parametrize("name", ["generic", "mri"])
@pytest.mark.parametrize(("half", "limit"), [("float16", 0.01), ("bfloat16", 0.1)])
@pytest.mark.parametrize("sigma", [0.003, 0.03])
def test_half_precision_stays_near(name, half, limit, sigma):
    # Measured: 0.5 % and 6 % of sigma at most, root mean square.
    whole, fast = load_prior(name, half="none"), load_prior(name, half=half)
    x, level = noisy(whole, sigma), torch.tensor([sigma])
    with torch.inference_mode():
        exact, near = whole.denoise(x, level), fast.denoise(x, level)
    off = float((near - exact).abs().square().mean().sqrt()) / sigma
    assert near.dtype == x.dtype and 0 < off < limit
    assert whole.describe()["prior_half"] == "none" and fast.describe()["prior_half"] == half


def test_the_gradient_in_half_precision_points_the_same_way():
    found = []
    for half in ("none", "bfloat16"):
        prior = load_prior("generic", half=half)
        leaf = noisy(prior, 0.1, 1).requires_grad_()
        out = prior.denoise(leaf, torch.tensor([0.1]))
        (grad,) = torch.autograd.grad(out, leaf, leaf.detach() - 0.5)
        found.append(grad)
    exact, near = found
    assert float((near - exact).norm() / exact.norm()) < 0.03


@pytest.mark.parametrize("name", ["generic", "mri"])
def test_images_go_through_in_working_sets(name, monkeypatch):
    prior = load_prior(name, half="none")
    x, sigma = noisy(prior, 0.1, 5), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    assert isinstance(prior, NetworkPrior)
    sizes, own = [], prior.network.forward

    def forward(x, *rest):
        sizes.append(len(x))
        return own(x, *rest)

    monkeypatch.setattr(prior.network, "forward", forward)
    with torch.inference_mode():
        together = prior.denoise(x, sigma)
        monkeypatch.setattr(precision, "_PIXELS", 2 * 20 * 24)
        apart = prior.denoise(x, sigma)
        alone = torch.cat([prior.denoise(a, s) for a, s in zip(x.split(1), sigma.split(1), strict=True)])
    assert sizes == [5, 2, 2, 1, 1, 1, 1, 1, 1]
    for other in (apart, alone):
        torch.testing.assert_close(other, together, rtol=1e-4, atol=1e-5)


def test_an_unknown_precision_is_refused():
    with pytest.raises(UnknownNameError, match="float8.*auto, none, bfloat16, float16"):
        load_prior("generic", half="float8")
