"""Mixtures of patches, and networks on patches: exact where they should be."""

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.priors.adapters import NetworkPrior
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.priors.mixture_fit import fit_mixture
from invdiff.priors.patches import PatchMixturePrior, cut
from invdiff.priors.patchwise import Patchwise


def two_clusters(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    first = torch.rand(n, generator=rng) < 0.3
    z = torch.randn(n, 2, generator=rng, dtype=dtype) * (2**0.5 if dtype.is_complex else 1)
    return torch.where(first[:, None], 0.3 * z + 2, z @ torch.tensor([[1.0, 0.5], [0.0, 0.5]]).to(dtype) - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_fit_finds_the_mixture(dtype: torch.dtype) -> None:
    mixture = fit_mixture(two_clusters(4000, dtype), 2, torch.Generator().manual_seed(1), 60)
    small = int(mixture.weights.argmin())
    assert float(mixture.weights[small]) == pytest.approx(0.3, abs=0.03)
    assert mixture.means[small].real.tolist() == pytest.approx([2, 2], abs=0.05)
    assert mixture.variances[small].tolist() == pytest.approx([0.09, 0.09], rel=0.15)
    whole = torch.tensor([[1.0, 0.5], [0.5, 0.5]], dtype=torch.float64)
    expected = torch.linalg.eigvalsh(whole).tolist()
    assert mixture.variances[1 - small].tolist() == pytest.approx(expected, rel=0.12)
    with pytest.raises(InputError, match="10 each"):
        fit_mixture(torch.zeros(15, 2), 2, torch.Generator())


def test_one_tile_is_exact_and_overlaps_are_averaged() -> None:
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(2, 4, 4, generator=rng)
    mixture = GaussianMixturePrior(torch.tensor([0.4, 0.6]), torch.randn(2, 4, generator=rng), root @ root.mT)
    prior = PatchMixturePrior(mixture)
    sigma = torch.tensor([0.5])
    x = torch.randn(3, 1, 2, 2, generator=rng)
    torch.testing.assert_close(prior.denoise(x, sigma), mixture.denoise(x.flatten(1), sigma).reshape(x.shape))
    wide = torch.randn(2, 1, 2, 3, generator=rng)  # two patches; the middle column is in both
    left, right = (mixture.denoise(wide[..., a : a + 2].flatten(1), sigma).reshape(2, 1, 2, 2) for a in (0, 1))
    middle = (left[..., 1] + right[..., 0]) / 2
    expected = torch.stack([left[..., 0], middle, right[..., 1]], -1)
    torch.testing.assert_close(prior.denoise(wide, sigma), expected)
    levels = torch.tensor([0.5, 2.0])
    torch.testing.assert_close(prior.denoise(wide, levels)[0], expected[0])
    assert cut(wide, 2).shape == (4, 4)
    with pytest.raises(ShapeError):
        prior.check((1, 1, 5), "real")
    with pytest.raises(InputError, match="k\\^2"):
        PatchMixturePrior(GaussianMixturePrior(torch.ones(1), torch.zeros(1, 3), torch.eye(3)))


def test_patches_beat_white_denoising_on_edges() -> None:
    rng = torch.Generator().manual_seed(0)
    grid = torch.linspace(-1, 1, 24)
    angles = 6.28 * torch.rand(60, generator=rng)
    planes = torch.sin(angles)[:, None, None] * grid[:, None] + torch.cos(angles)[:, None, None] * grid
    images = (planes > 0.3 * torch.randn(60, 1, 1, generator=rng)).float()[:, None]  # straight edges of any direction
    prior = PatchMixturePrior.fit(images[:50], 5, 8, 4000, rng, 15)
    clean = images[50:]
    noisy = clean + 0.3 * torch.randn(clean.shape, generator=rng)
    wiener = GaussianFieldPrior.fit(images[:50]).denoise(noisy, torch.tensor([0.3]))
    found = prior.denoise(noisy, torch.tensor([0.3]))
    assert float((found - clean).square().mean()) < 0.6 * float((wiener - clean).square().mean())


@pytest.mark.parametrize("domain", ["real", "complex"])
def test_field_fit_recovers_the_spectrum(domain: str) -> None:
    spectrum = matern((12, 10), 0.7, 2.0)
    mean = torch.linspace(-1, 1, 10).expand(1, 12, 10)
    truth = GaussianFieldPrior(spectrum, mean.to(torch.complex64) if domain == "complex" else mean, domain)
    images = truth.sample(3000, torch.Generator().manual_seed(0))
    fitted = GaussianFieldPrior.fit(images)
    # a periodogram of 3000 (twice that many where complex) images has a relative error of 1 in sqrt(3000)
    torch.testing.assert_close(fitted.spectrum, spectrum, rtol=0.1, atol=1e-4)
    torch.testing.assert_close(fitted.mean, truth.mean, rtol=0, atol=0.08)
    assert fitted.domain == domain
    flat = GaussianFieldPrior.fit(images, "constant")
    assert float((flat.mean - flat.mean.flatten()[0]).abs().max()) == 0
    assert float(flat.spectrum.sum()) > 1.3 * float(spectrum.sum())  # the pattern of means now counts as variance
    with pytest.raises(InputError, match="at least 2"):
        GaussianFieldPrior.fit(images[:1])


def test_patchwise_averages_overlapping_patches_that_know_their_place() -> None:
    class Probe(torch.nn.Module):
        """Answers with where it is told it lies."""

        def forward(self, x: torch.Tensor, sigma: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
            return where[:, :1] * 10 + where[:, 1:] + 0 * x

    net = NetworkPrior(Probe(), "real", 0.01, 1.0, 1.0, condition="position")
    prior = Patchwise(net, 8, 2)
    x, sigma = torch.randn(2, 1, 21, 8), torch.tensor([0.3])
    torch.testing.assert_close(prior.denoise(x, sigma), net.denoise(x, sigma))
    assert prior._starts(21) == [0, 4, 8, 12, 13] and prior._starts(8) == [0]
    calls: list[int] = []
    net.network.register_forward_hook(lambda *a: calls.append(1))
    prior.denoise(x, sigma)
    assert len(calls) == 5
    with pytest.raises(ShapeError, match="do not fit"):
        prior.check((1, 7, 30), "real")
    with pytest.raises(InputError, match="positions"):
        Patchwise(NetworkPrior(Probe(), "real", 0.01, 1.0, 1.0))
