"""Priors in latent space: the measurement they make, PSLD's gluing term, STSL on latents, a trained autoencoder."""

import pytest
import torch
from torch import Tensor

import invdiff
from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators import Matrix
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.latent import LatentPrior
from invdiff.random import Streams
from invdiff.samplers.latent import in_latent_space
from invdiff.samplers.psld import PSLD
from invdiff.samplers.stsl import STSL
from invdiff.training.autoencoder import fit_autoencoder
from invdiff.training.source import Batch
from invdiff.validation.linear_gaussian import posterior as exact_posterior

EMBED = torch.linalg.qr(torch.randn(5, 2, generator=torch.Generator().manual_seed(3))).Q * 2  # x = E z + 1


LATENT = GaussianPrior(torch.tensor([0.5, -0.5]), torch.tensor([[1.0, 0.4], [0.4, 0.6]]))
MATRIX = Matrix(torch.tensor([[1.0, 0.0, 2.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, -1.0]]))


def linear_latent() -> LatentPrior:
    return LatentPrior(LATENT, lambda x: (x - 1) @ EMBED / 4, lambda z: z @ EMBED.mT + 1, (2,), (5,))


def problem() -> Measurement:
    return Measurement(torch.tensor([1.5, 0.2]), MATRIX, Gaussian(0.3))


def test_a_linear_autoencoder_gives_the_posterior_of_the_linear_problem() -> None:
    prior, measurement = linear_latent(), problem()
    # in latent space: y - A 1 = A E z + n
    matrix = MATRIX.matrix
    shifted = Measurement(measurement.y - matrix @ torch.ones(5), Matrix(matrix @ EMBED), Gaussian(0.3))
    exact = exact_posterior(LATENT, shifted)
    found = invdiff.sample(measurement, prior, "daps", 100, nfe=100, progress=False)
    assert found.draws.dims == ("draw", "component") and found.draws.shape == (100, 5)
    x = torch.from_numpy(found.draws.values)
    z = prior.encode(x)
    torch.testing.assert_close(prior.decode(z), x, rtol=1e-4, atol=1e-4)  # every draw is in the decoder's range
    spread = torch.linalg.eigvalsh(exact.covariance).sqrt()
    # DAPS itself is off by 0.3 of the widest deviation here; the prior's mean is off by four of them
    assert float((z.mean(0) - exact.mean).abs().max()) < 0.45 * float(spread.max())
    assert float((LATENT.mean - exact.mean).abs().max()) > 3 * float(spread.max())
    with pytest.raises(ShapeError, match="decodes to"):
        in_latent_space(Measurement(torch.zeros(2), Matrix(torch.ones(2, 4)), Gaussian(1.0)), prior)


def test_stsl_starts_from_the_encoded_pseudo_inverse_and_fits_the_data() -> None:
    prior, measurement = linear_latent(), problem()
    sampler = STSL(eta=0.0, noise=0.0, nfe=700)
    found = invdiff.sample(measurement, prior, sampler, 3, progress=False)
    draws = torch.from_numpy(found.draws.values)
    assert float(draws.std(0).max()) < 1e-5  # deterministic from an inverted start, whatever the seed
    assert float(measurement.residual(draws).norm(dim=1).max()) < 0.15
    seen: list[Tensor] = []

    def encode(x: Tensor) -> Tensor:
        seen.append(x)
        return prior.encode(x)

    spy = LatentPrior(LATENT, encode, prior.decode, (2,), (5,))
    invdiff.sample(measurement, spy, STSL(eta=0.0, nfe=30), 1, progress=False)
    expected = torch.linalg.pinv(MATRIX.matrix) @ measurement.y
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-4, atol=1e-4)
    plain = Measurement(measurement.y, in_latent_space(measurement, prior).operator, Gaussian(0.3))
    assert plain.operator.domain_shape == (2,)


def test_psld_step_is_the_gradient_of_both_terms() -> None:
    prior, measurement = linear_latent(), problem()
    latent = in_latent_space(measurement, prior)
    rng = Streams(0, [0, 1])
    z = torch.randn(2, 2)
    matrix = MATRIX.matrix
    norm = MATRIX.norm()

    def loss(z: Tensor, t: float, omega: float, gamma: float) -> Tensor:
        z0 = prior.latent.denoise(z, torch.tensor([t]))
        x = prior.decode(z0)
        r = measurement.y - x @ matrix.mT
        glued = x + r @ torch.linalg.pinv(matrix).mT  # A^+ y + (I - A^+ A) x
        return omega / norm * r.norm(dim=1) + gamma * (z0 - prior.encode(glued)).norm(dim=1)

    for omega, gamma in ((1.0, 0.1), (0.5, 2.0)):
        (state, *_) = PSLD(omega, gamma, nfe=1).steps(prior.latent, latent, z, rng)  # one step, from sigma_max to 0
        t = prior.sigma_max
        start = t * Streams(0, [0, 1]).normal(z)
        leaf = start.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(leaf, t, omega, gamma).sum(), leaf)
        chain = prior.scale * (1 + (t / prior.scale) ** 2) ** 0.5
        expected = prior.latent.denoise(start, torch.tensor([t])) - chain * gradient
        torch.testing.assert_close(state.x, expected, rtol=1e-4, atol=1e-4)
        rng = Streams(0, [0, 1])
    with pytest.raises(InputError, match="latent"):
        next(PSLD(nfe=2).steps(prior.latent, measurement, torch.randn(1, 5), rng))


class Blobs:
    """16 x 16 images of one smooth blob."""

    channels, conditions, domain = 1, 0, "real"
    card: dict[str, object] = {}

    def batch(self, step: int, n: int) -> Batch:
        rng = torch.Generator().manual_seed(step)
        grid = torch.arange(16.0)
        c = 4 + 8 * torch.rand(n, 2, 1, generator=rng)
        w = 2 + 2 * torch.rand(n, 1, 1, generator=rng)
        rows, columns = (torch.exp(-((grid - c[:, k]) ** 2) / (2 * w[:, 0] ** 2)) for k in (0, 1))
        return Batch((rows[:, :, None] * columns[:, None])[:, None])

    held_out = batch


def test_inpainting_with_a_trained_autoencoder() -> None:
    source = Blobs()
    net = fit_autoencoder(source, 150, latents=2, width=12)
    clean = source.batch(1000, 64).x
    z = net.encode(clean)
    assert float(z.std()) == pytest.approx(1, abs=0.15)
    assert float((net(clean) - clean).square().mean()) < 0.1 * float(clean.var())
    codes = net.encode(source.batch(7, 512).x)
    flat = codes.flatten(1).double()
    covariance = torch.cov(flat.T) + 1e-3 * torch.eye(flat.shape[1])
    latent = GaussianPrior(flat.mean(0).float().reshape(2, 4, 4), covariance)
    prior = LatentPrior(latent, net.encode, net.decode, (2, 4, 4), (1, 16, 16))
    truth = source.batch(2000, 1).x
    mask = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.4
    op = Inpainting(mask, (1, 16, 16))
    y = (truth[0] + 0.02 * torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1))) * mask
    measurement = Measurement(y, op, Gaussian(0.02))
    hidden = ~mask
    average = float((source.batch(7, 512).x.mean(0) - truth[0])[:, hidden].square().mean())  # knowing nothing of y
    for sampler in (PSLD(nfe=100), STSL(nfe=240, eta=0.0)):
        found = invdiff.sample(measurement, prior, sampler, 2, progress=False)
        mean = torch.from_numpy(found.draws.values).mean(0)
        assert float((mean - truth[0])[:, hidden].square().mean()) < 0.25 * average, sampler.name
        assert found.draws.shape == (2, 1, 16, 16)
