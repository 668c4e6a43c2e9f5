"""Two backbones for the shipped prior, at equal training time: our attention-free U-Net and MONAI's diffusion U-Net.

``python benchmarks/backbones.py --minutes 3 --json benchmarks/results/backbones.json`` prints parameters, forward and
training milliseconds, and denoising PSNR by sigma after the same wall time on the same images, from the same start.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from record import best, write
from torch import Tensor, nn

from invdiff.networks.precondition import Preconditioned
from invdiff.networks.unet import UNet
from invdiff.training.config import DataConfig, TrainConfig
from invdiff.training.data import PatchStream, make_pool
from invdiff.training.losses import noise_levels
from invdiff.training.validate import denoising_psnr


class Monai(nn.Module):
    """MONAI's DiffusionModelUNet with our signature (its time is any float, so log sigma goes in as it is)."""

    def __init__(self, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        from monai.networks.nets import DiffusionModelUNet

        self.net = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=2,
            out_channels=2,
            num_res_blocks=blocks,
            channels=channels,
            attention_levels=(False,) * len(channels),
            norm_num_groups=16,
            num_head_channels=32,
        )

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return the raw output."""
        return self.net(x, 250 * c_noise)


BACKBONES = {
    "invdiff UNet 96-128-160, folded": lambda: UNet(2, 2, (96, 128, 160)),
    "invdiff UNet 32-64-96, not folded": lambda: UNet(2, 2, (32, 64, 96), fold=1),
    "MONAI DiffusionModelUNet 32-64-128-128": lambda: Monai((32, 64, 128, 128), 1),
}


def fit(name: str, config: TrainConfig, images: Tensor, held_out: Tensor, minutes: float) -> dict[str, Any]:
    """Train one backbone for so many minutes and measure it."""
    torch.manual_seed(0)
    stream = PatchStream(images, config.data.patch, "complex", 0)
    sigma_data = float(stream.batch(0, 64).std())
    net = Preconditioned(BACKBONES[name](), sigma_data).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-4, betas=(0.9, 0.99), weight_decay=0.0)
    began, step = time.monotonic(), 0
    while (spent := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 5e-4 * min(1.0, (step + 1) / 50, 2 * (1 - spent) + 0.02)
        clean = stream.batch(step, config.batch).to(memory_format=torch.channels_last)
        rng = torch.Generator().manual_seed(step)
        sigma = noise_levels(rng, len(clean), config, net)
        noise = torch.randn(clean.shape, generator=rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(clean + sigma[:, None, None, None] * noise, sigma)
        loss = (net.weight(sigma) * (out.float() - clean).square().mean((1, 2, 3))).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step += 1
    x, level = torch.randn(1, 2, 128, 128), torch.ones(1)
    with torch.inference_mode():
        ((seconds, _),) = best([lambda: net(x, level)], 0.5)
    return {
        "backbone": name,
        "parameters": sum(p.numel() for p in net.parameters()),
        "forward_ms_128x128": round(1e3 * seconds, 1),
        "steps": step,
        "ms_per_step": round(60e3 * minutes / step, 1),
        "psnr_db": denoising_psnr(net, PatchStream(held_out, config.data.patch, "complex", 1).batch(0, 64)),
    }


def main() -> None:
    """Parse the command line, fit each backbone, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    config = TrainConfig(name="backbones", data=DataConfig(pool=200))
    with tempfile.TemporaryDirectory() as folder:
        images = make_pool(config.data, 0, 200, Path(folder))
        held_out = make_pool(config.data, 7919, 20, Path(folder))
    rows = [fit(name, config, images, held_out, options.minutes) for name in BACKBONES]
    for row in rows:
        print(row)
    write(options.json, {"minutes": options.minutes, "rows": rows})


if __name__ == "__main__":
    main()
