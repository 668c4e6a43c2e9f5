"""A `diffusers` pipeline with an autoencoder as a latent prior."""

from types import SimpleNamespace

import pytest
import torch

from invdiff.errors import DTypeError, ShapeError
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.latent import LatentPrior, from_latent_pipeline


def test_a_latent_pipeline() -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=2,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=0.3,
        shift_factor=0.2,
    )
    unet = diffusers.UNet2DModel(
        in_channels=2,
        out_channels=2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    pipeline = SimpleNamespace(vae=vae, unet=unet, scheduler=diffusers.DDIMScheduler())
    prior = from_latent_pipeline(pipeline, (3, 16, 16))
    assert prior.latent_shape == (2, 8, 8) and prior.scale == 1.0
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        z = prior.encode(x)
        torch.testing.assert_close(z, (vae.encode(x).latent_dist.mean - 0.2) * 0.3)
        torch.testing.assert_close(prior.decode(z), vae.decode(z / 0.3 + 0.2).sample)
        a2 = pipeline.scheduler.alphas_cumprod[400]
        level = ((1 - a2) / a2).sqrt()
        expected = z - level * unet(z * a2.sqrt(), 400).sample
        torch.testing.assert_close(prior.denoise(z, level[None]), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(DTypeError, match="vae"):
        from_latent_pipeline(SimpleNamespace(unet=unet, scheduler=None), (3, 16, 16))


def test_shapes_must_agree() -> None:
    with pytest.raises(ShapeError, match="latent_shape"):
        LatentPrior(GaussianPrior(torch.zeros(3), torch.eye(3)), lambda x: x, lambda z: z, (2,), (5,))
