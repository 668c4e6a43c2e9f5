"""`invdiff train`: fit a denoiser to procedural images; checkpoints at intervals, goes on after an interruption.

Loss (Karras et al., 2022, arXiv 2206.00364): ``E w(sigma) |D(x0 + sigma n, sigma) - x0|^2`` with
``w = (sigma^2 + s^2)/(sigma s)^2``, log sigma normal, s the standard deviation of the data.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import FileError, FormatError, missing_extra
from invdiff.networks.precondition import Preconditioned
from invdiff.networks.unet import UNet
from invdiff.training.config import TrainConfig
from invdiff.training.data import PatchStream, make_pool

__all__ = ["train", "denoising_psnr"]

VALIDATION_SIGMAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def train(config: TrainConfig, folder: Path, report: Callable[[str], None] = print, progress: bool = True) -> Path:
    """Train as the configuration says and return the path of the finished weights ``folder/NAME.safetensors``.

    The folder holds ``checkpoint.pt`` while the run lasts; calling again with the same folder goes on from it.

    Raises:
        MissingExtraError: `accelerate` is not installed. FileError: the checkpoint is of another configuration.
    """
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise missing_extra("accelerate", "train", "training") from error
    from tqdm import tqdm

    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, cpu=not torch.cuda.is_available() and not _mps_available()
    )
    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / "cache"
    with accelerator.main_process_first():
        images = make_pool(config.data, config.data.seed, config.data.pool, cache)
        held_out = make_pool(config.data, config.data.seed + 7919, max(8, config.data.pool // 50), cache)
    torch.manual_seed(config.seed)
    channels = 2 if config.domain == "complex" else 1
    rank, world = accelerator.process_index, accelerator.num_processes
    stream = PatchStream(images, config.data.patch, config.domain, config.seed * world + rank, config.data.texture)
    sigma_data = float(stream.batch(0, 256).std())
    model = Preconditioned(UNet(channels, channels, **config.network.model_dump()), sigma_data)
    if config.start_from:
        _warm_start(model, config.start_from)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    average = [p.detach().clone().to(accelerator.device) for p in model.parameters()]
    model, optimiser = accelerator.prepare(model, optimiser)
    checkpoint = folder / "checkpoint.pt"
    start, loss_mean = 0, 1.0
    if checkpoint.is_file():
        start, loss_mean = _resume(checkpoint, config, accelerator.unwrap_model(model), optimiser, average)
        report(f"going on from step {start}")
    bar = tqdm(total=config.steps, initial=start, disable=not (progress and accelerator.is_main_process), unit="step")
    began = time.monotonic()
    for step in range(start, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        clean = stream.batch(step, config.batch).to(accelerator.device, memory_format=torch.channels_last)
        rng = torch.Generator().manual_seed((config.seed * world + rank) * 2_000_003 + 17 * step + 5)
        sigma, noise = _noise(rng, config, clean)
        with accelerator.autocast():
            denoised = model(clean + sigma[:, None, None, None] * noise, sigma)
        weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
        loss = (weight * (denoised.float() - clean).square().mean((1, 2, 3))).mean()
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        decay = min(config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in accelerator.unwrap_model(model).parameters()], 1 - decay)
        loss_mean = 0.99 * loss_mean + 0.01 * float(loss.detach())
        bar.update()
        bar.set_postfix(loss=f"{loss_mean:.4f}", refresh=False)
        if (step + 1) % config.checkpoint_every == 0 and accelerator.is_main_process:
            _save(checkpoint, config, step + 1, loss_mean, accelerator.unwrap_model(model), optimiser, average)
            rate = (step + 1 - start) / (time.monotonic() - began)
            report(f"step {step + 1} loss {loss_mean:.4f} ({rate:.1f} steps/s)")
    bar.close()
    accelerator.wait_for_everyone()
    net = accelerator.unwrap_model(model)
    with torch.no_grad():
        for p, a in zip(net.parameters(), average, strict=True):
            p.copy_(a)
    target = folder / f"{config.name}.safetensors"
    if accelerator.is_main_process:
        psnr = denoising_psnr(net, PatchStream(held_out, config.data.patch, config.domain, 1, config.data.texture))
        _export(net, config, sigma_data, psnr, target)
        report(f"wrote {target}; denoising PSNR in dB by sigma: {psnr}")
    return target


def _mps_available() -> bool:
    return torch.backends.mps.is_available()


def _schedule(step: int, config: TrainConfig) -> float:
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    left = (1 - step / config.steps) / max(1e-9, 1 - config.decay_from)
    return warm * max(0.01, min(1.0, left))


def _noise(rng: torch.Generator, config: TrainConfig, clean: Tensor) -> tuple[Tensor, Tensor]:
    log_sigma = config.log_sigma_mean + config.log_sigma_std * torch.randn(clean.shape[0], generator=rng)
    sigma = log_sigma.clamp(math.log(config.sigma_min), math.log(config.sigma_max)).exp()
    noise = torch.randn(clean.shape, generator=rng)
    return sigma.to(clean.device), noise.to(clean.device, memory_format=torch.channels_last)


def denoising_psnr(net: torch.nn.Module, stream: PatchStream, count: int = 64) -> dict[str, float]:
    """PSNR in dB (peak 1) of the denoised real components on held-out patches, for several sigma."""
    clean = stream.batch(0, count)
    device = next(net.parameters()).device
    out = {}
    rng = torch.Generator().manual_seed(11)
    for sigma in VALIDATION_SIGMAS:
        noisy = clean + sigma * torch.randn(clean.shape, generator=rng)
        with torch.inference_mode():
            denoised = net(noisy.to(device), torch.full((count,), sigma, device=device)).cpu()
        out[str(sigma)] = round(-10 * math.log10(float((denoised - clean).square().mean())), 3)
    return out


def _save(
    path: Path, config: TrainConfig, step: int, loss: float, net: Any, optimiser: Any, average: list[Tensor]
) -> None:
    content = {
        "config": config.model_dump_json(),
        "step": step,
        "loss": loss,
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average,
    }
    part = path.with_suffix(".part")
    torch.save(content, part)
    os.replace(part, path)


def _resume(path: Path, config: TrainConfig, net: Any, optimiser: Any, average: list[Tensor]) -> tuple[int, float]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    saved = json.loads(content["config"])
    now = config.model_dump(mode="json")
    for field in ("network", "domain", "data"):
        if saved[field] != now[field]:
            raise FileError(f"{path} was written with another {field} ({saved[field]}); this run has {now[field]}")
    net.load_state_dict(content["net"])
    optimiser.load_state_dict(content["optimiser"])
    for a, b in zip(average, content["average"], strict=True):
        a.copy_(b)
    return int(content["step"]), float(content["loss"])


def _warm_start(model: Preconditioned, weights: str) -> None:
    """Take the shipped or given weights as a start; input and output convolutions are averaged over channels."""
    from safetensors.torch import load_file

    path = Path(weights)
    if not path.is_file():
        path = Path(__file__).parent.parent / "weights" / f"{weights}.safetensors"
    if not path.is_file():
        raise FileError(f"start_from: no weights {weights!r}; give a .safetensors file or the name of a shipped prior")
    own = model.backbone.state_dict()
    for name, value in load_file(path).items():
        value = value.float()
        if name not in own:
            raise FormatError(f"{path}: tensor {name} is not in this network; start_from needs the same architecture")
        if value.shape != own[name].shape:
            value = _merge_channels(value, own[name])
        own[name] = value
    model.backbone.load_state_dict(own)


def _merge_channels(value: Tensor, like: Tensor) -> Tensor:
    """Keep the first image channel's filters (pixel-unshuffle keeps the channels of one image channel together)."""
    for axis, size in enumerate(like.shape):
        value = value.narrow(axis, 0, size)
    return value


def _export(net: Preconditioned, config: TrainConfig, sigma_data: float, psnr: dict[str, float], target: Path) -> None:
    from safetensors.torch import save_file

    card = {
        "name": config.name,
        "description": config.description,
        "domain": config.domain,
        "architecture": {"type": "UNet", **config.network.model_dump()},
        "sigma_data": sigma_data,
        "sigma_min": config.sigma_min,
        "sigma_max": config.sigma_max,
        "units": {"kind": "relative", "quantile": 0.99, "value": 0.8},
        "data": config.data.model_dump(),
        "steps": config.steps,
        "batch": config.batch,
        "denoising_psnr_db": psnr,
    }
    tensors = {k: v.detach().half().contiguous().cpu() for k, v in net.backbone.state_dict().items()}
    part = target.with_suffix(".part")
    save_file(tensors, part, metadata={"card": json.dumps(card)})
    os.replace(part, target)
