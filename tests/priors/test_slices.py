"""A prior of images on the slices of volumes: slices are what they would be alone, whatever axis and chunk."""

import math

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.guidance.base import Guidance
from invdiff.priors.base import CallablePrior, Prior
from invdiff.priors.blended import Blended
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.priors.slices import SlicePrior, on_slices
from invdiff.samplers.smc_data import denoise_with_vjp

SHAPE = (1, 5, 6, 7)


def field(axis, domain="real"):
    plane = [n for i, n in enumerate(SHAPE[1:]) if i != axis]
    return GaussianFieldPrior(matern(tuple(plane), 1.3, 2.0), mean=0.2, domain=domain)


@pytest.mark.parametrize("domain", ["real", "complex"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_each_slice_is_denoised_alone(axis, chunk, domain):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, *SHAPE, generator=rng, dtype=torch.complex64 if domain == "complex" else torch.float32)
    plane, sigma = field(axis, domain), torch.tensor([0.3, 2.0])
    out = SlicePrior(plane, axis, chunk).denoise(x, sigma)
    assert out.shape == x.shape
    for n in range(2):
        for s in range(SHAPE[1 + axis]):
            alone = plane.denoise(x[n : n + 1].select(2 + axis, s), sigma[n : n + 1])[0]
            torch.testing.assert_close(out[n].select(1 + axis, s), alone, rtol=1e-5, atol=1e-6)


def test_gradients_pass_through_the_chunks():
    x = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    v = torch.ones(1, *SHAPE)
    prior = SlicePrior(field(1), 1, 2)
    (back,) = torch.autograd.grad(prior.denoise(x, torch.ones(1)), x, v)
    # The Wiener filter is self-adjoint: J^T v = J v, and of a linear denoiser J v = D(v) - D(0).
    forward = prior.denoise(v, torch.ones(1)) - prior.denoise(0 * v, torch.ones(1))
    torch.testing.assert_close(back, forward, rtol=1e-5, atol=1e-6)


def test_volume_priors_stay_and_image_priors_take_the_slices():
    whole = GaussianFieldPrior(matern(SHAPE[1:], 1.0, 2.0))
    assert on_slices(whole, SHAPE, "real", 2**31) is whole
    wrapped = on_slices(field(0), SHAPE, "real", 2**31)
    assert isinstance(wrapped, SlicePrior) and wrapped.axis == 0 and wrapped.chunk == 5
    assert wrapped.scale == field(0).scale and wrapped.domain == "real"
    own = on_slices(SlicePrior(field(2), 2), SHAPE, "real", 2**31)
    assert isinstance(own, SlicePrior) and own.axis == 2 and own.chunk == 7
    with pytest.raises(ShapeError):
        on_slices(field(1), SHAPE, "real", 2**31)  # its slices are those along y
    with pytest.raises(ShapeError, match="axis 3"):
        SlicePrior(field(0), 3).check(SHAPE, "real")


def test_chunks_follow_the_memory():
    plane = CallablePrior(lambda x, sigma: x / (1 + sigma**2), "real", 1e-2, 40.0, 1.0)
    shape = (1, 256, 256, 256)
    small, large = (SlicePrior(plane).fitted(shape, m << 30).chunk for m in (2, 4))
    assert small is not None and large is not None and 1 <= small < large <= 64
    with pytest.raises(InputError, match="needs 1.7"):
        SlicePrior(plane).fitted(shape, 1 << 30)
    with pytest.raises(InputError, match="needs 4.7.*, 3 of them for its data and draws"):
        SlicePrior(plane).fitted(shape, 2 << 30, beside=3 << 30)
    graph = SlicePrior(plane).fitted(shape, 4 << 30, gradient=True).chunk
    assert graph is not None and 0 <= large / graph - 1500 / 250 < 1


@pytest.mark.parametrize("chunk", [1, 2, None])
def test_gradients_are_the_same_however_many_slices_go_at_once(chunk):
    weight = torch.linspace(0.2, 1, 5)[:, None] * torch.linspace(1, 2, 4)
    calls = []

    def denoise(x, sigma):
        calls.append(len(x))
        return torch.tanh(weight * x) / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)

    plane = CallablePrior(denoise, "real", 1e-2, 40.0, 1.0)
    x = torch.randn(2, 1, 3, 5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = SlicePrior(plane, chunk=chunk).denoise(x, torch.tensor([0.5, 2.0]))
    before = list(calls)
    for seed in (1, 2):  # more than one gradient of one evaluation, as `mmps` takes
        v = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed))
        (grad,) = torch.autograd.grad(found, x, v, retain_graph=True)
        slope = weight * (1 - torch.tanh(weight * x.detach()) ** 2)
        torch.testing.assert_close(grad, slope * v / torch.tensor([1.25, 5.0]).reshape(2, 1, 1, 1, 1))
    assert len(calls) == len(before) * (1 if chunk is None else 3)  # built anew for each gradient
    with torch.inference_mode():  # as the engine runs what declares no gradient
        guidance = Guidance(SlicePrior(plane, chunk=chunk), None)  # type: ignore[arg-type]
        x0, vjp = guidance.denoise_with_vjp(x.detach()[:1], 0.5)
        torch.testing.assert_close(vjp(torch.ones_like(x0)), slope[:1] / 1.25)
        x0, vjp = denoise_with_vjp(guidance.prior, x.detach()[:1], 0.5, guidance.counts, 1)
        torch.testing.assert_close(vjp(torch.ones_like(x0)), slope[:1] / 1.25)
    calls.clear()
    with torch.no_grad():
        SlicePrior(plane, chunk=chunk).denoise(x, torch.tensor([0.5]))
    assert calls == before


class Flat(Prior):
    """N(0, 1) for each pixel: the network of an image is exact, so what blending adds can be computed by hand."""

    def denoise(self, x, sigma):
        return x / (1 + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2)


@pytest.mark.parametrize("axis", [0, 2])
def test_blending_denoises_means_at_the_lower_level(axis):
    # Three equal slices: no contrast, so the window is its mean, at sigma/sqrt(3).
    shape = [1, 1, 8, 8, 8]
    shape[2 + axis] = 3
    image = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    x = image.unsqueeze(2 + axis).expand(shape).contiguous()
    out = Blended(SlicePrior(Flat(), axis)).denoise(x, torch.tensor([0.5]))
    torch.testing.assert_close(out, x / (1 + 0.25 / 3), rtol=1e-5, atol=1e-6)


def test_blending_keeps_clear_changes_and_drops_noise():
    rng = torch.Generator().manual_seed(0)
    base = torch.randn(1, 1, 1, 24, 24, generator=rng).expand(1, 1, 9, 24, 24)
    noise = torch.randn(1, 1, 9, 24, 24, generator=rng)
    prior, sigma = Blended(SlicePrior(Flat())), 0.3

    def worst(truth):
        out = prior.denoise(truth + sigma * noise, torch.tensor([sigma]))
        return float((out - truth).square().mean().sqrt()) / sigma

    alone = 1 / math.sqrt(1 + sigma**2)  # of N(0, 1) pixels, each slice by itself
    assert worst(base) < 0.8 * alone  # equal slices help each other: 0.58 of the noise stays in the mean of three
    changing = torch.randn(1, 1, 9, 24, 24, generator=rng)  # nothing in common: changes are kept, not averaged away
    assert worst(changing) < 1.3 * alone


def test_few_slices_are_left_as_they_are():
    x = torch.randn(1, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    slices = SlicePrior(Flat())
    assert torch.equal(Blended(slices).denoise(x, torch.ones(1)), slices.denoise(x, torch.ones(1)))
