"""`invdiff train`: fit a denoiser; checkpoints at intervals, goes on after an interruption to the same bits.

Loss (Karras et al., 2022, arXiv 2206.00364): ``E w(sigma) |D(x0 + sigma n, sigma) - x0|^2``, with the weight w of the
objective (`invdiff.networks.precondition`) and sigma drawn as `invdiff.training.losses.noise_levels` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, missing_extra
from invdiff.networks.build import denoiser
from invdiff.training.config import TrainConfig
from invdiff.training.losses import by_interval, intervals, noise_levels, project_conflicts
from invdiff.training.source import Batch, Source
from invdiff.training.sources import make_source
from invdiff.training.state import export, resume, save, warm_start
from invdiff.training.validate import note

__all__ = ["train"]

_NAMES = {"unet": "UNet", "field_unet": "FieldUNet"}  # of the architectures, in configurations and in cards


def train(
    config: TrainConfig,
    folder: Path,
    report: Callable[[str], None] = print,
    progress: bool = True,
    source: Source | None = None,
) -> Path:
    """Train as the configuration says and return the path of the finished weights ``folder/NAME.safetensors``.

    The folder holds ``checkpoint.pt``; calling again with the same folder goes on from it. It also
    gets ``validation.json`` (PSNR by step and sigma), ``validation.png`` and ``samples.png``. Under ``accelerate
    launch`` each process takes batches of its own.

    Args:
        source: data to take in place of those that ``config.data`` names.

    Raises:
        MissingExtraError: `accelerate` is not installed. FileError: the checkpoint is of another configuration.
        InputError: pcgrad on several processes.
    """
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise missing_extra("accelerate", "train", "training") from error
    from accelerate.state import AcceleratorState
    from tqdm import tqdm

    AcceleratorState._reset_state()  # another run of this process may have had another precision
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, cpu=not torch.cuda.is_available() and not _mps_available()
    )
    rank, world = accelerator.process_index, accelerator.num_processes
    if config.balance == "pcgrad" and world > 1:
        raise InputError(f"balance is pcgrad, which runs in one process; this run has {world}: take 'uncertainty'")
    folder.mkdir(parents=True, exist_ok=True)
    if source is None:
        with accelerator.main_process_first():
            source = make_source(config, folder / "cache")
    torch.manual_seed(config.seed)
    sigma_data = float(source.batch(0, 256).x.std())
    shape = {"type": _NAMES[config.network.kind], **config.network.model_dump(exclude={"kind"})}
    own = getattr(source, "denoiser", None)  # fields begin from a Gaussian that is fitted to them
    model: Any = (
        own(shape) if own else denoiser(shape, source.channels, source.conditions, config.objective, sigma_data)
    )
    if config.start_from:
        warm_start(model.backbone, config.start_from)
    if source.batch(0, 1).x.ndim == 4:
        model = model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    average = [p.detach().clone().to(accelerator.device) for p in model.parameters()]
    model, optimiser = accelerator.prepare(model, optimiser)
    plain = accelerator.unwrap_model(model)
    edges = _edges(config, plain)
    size = torch.zeros(config.intervals)  # running mean loss of each interval, for balance = uncertainty
    checkpoint, start, loss_mean = folder / "checkpoint.pt", 0, 1.0
    if checkpoint.is_file():
        numbers, extra = resume(checkpoint, config, plain, optimiser)
        start, loss_mean, size = numbers["step"], numbers["loss"], extra["size"]
        for a, b in zip(average, extra["average"], strict=True):
            a.copy_(b)
        report(f"going on from step {start}")
    bar = tqdm(total=config.steps, initial=start, disable=not (progress and accelerator.is_main_process), unit="step")
    began = time.monotonic()
    for step in range(start, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        batch = source.batch(step * world + rank, config.batch)
        sigma, losses = _losses(accelerator, model, config, batch, (config.seed * world + rank) * 2_000_003 + 17 * step)
        optimiser.zero_grad(set_to_none=True)
        if config.balance == "pcgrad":
            _pcgrad(plain, losses, sigma, edges, step)
        else:
            if config.balance == "uncertainty":
                losses, size = _balanced(accelerator, losses, sigma, edges, size)
            accelerator.backward(losses.mean())
        accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        decay = min(config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in plain.parameters()], 1 - decay)
        loss_mean = 0.99 * loss_mean + 0.01 * float(losses.detach().mean())
        bar.update()
        bar.set_postfix(loss=f"{loss_mean:.4f}", refresh=False)
        done, last = step + 1, step + 1 == config.steps
        if accelerator.is_main_process:
            if done % config.checkpoint_every == 0:
                numbers = {"step": done, "loss": loss_mean}
                save(checkpoint, config, numbers, plain, optimiser, {"average": average, "size": size})
                rate = (done - start) / (time.monotonic() - began)
                report(f"step {done} loss {loss_mean:.4f} ({rate:.1f} steps/s)")
            if config.validate_every and done % config.validate_every == 0 and not last:
                current = _swap(plain, average)
                report(f"step {done} denoising PSNR in dB by sigma: {note(folder, done, plain, config, source)}")
                _swap(plain, current)
    bar.close()
    accelerator.wait_for_everyone()
    _swap(plain, average)
    target = folder / f"{config.name}.safetensors"
    if accelerator.is_main_process:
        psnr = note(folder, config.steps, plain, config, source)
        export(plain, config, source, psnr, target)
        report(f"wrote {target}; denoising PSNR in dB by sigma: {psnr}")
    return target


def _mps_available() -> bool:
    return torch.backends.mps.is_available()


def _schedule(step: int, config: TrainConfig) -> float:
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    left = (1 - step / config.steps) / max(1e-9, 1 - config.decay_from)
    return warm * max(0.01, min(1.0, left))


def _losses(accelerator: Any, model: Any, config: TrainConfig, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
    """Noise levels and weighted losses of a batch, each ``(n,)``."""
    layout = torch.channels_last if batch.x.ndim == 4 else torch.contiguous_format
    clean = batch.x.to(accelerator.device, memory_format=layout)
    rng = torch.Generator().manual_seed(seed + 5)
    net = accelerator.unwrap_model(model)
    sigma = noise_levels(rng, len(clean), config, net).to(clean.device)
    noise = torch.randn(clean.shape, generator=rng).to(clean.device, memory_format=layout)
    given = () if batch.condition is None else (batch.condition.to(clean.device),)
    with accelerator.autocast():
        denoised = model(clean + sigma.reshape(-1, *(1,) * (clean.ndim - 1)) * noise, sigma, *given)
    return sigma, net.weight(sigma) * (denoised.float() - clean).square().flatten(1).mean(1)


def _edges(config: TrainConfig, net: Any) -> Tensor:
    levels = noise_levels(torch.Generator().manual_seed(0), 400, config, net)
    return intervals(levels, config.intervals)


def _balanced(accelerator: Any, losses: Tensor, sigma: Tensor, edges: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Losses over the running mean loss of their interval: learned uncertainty at its fixed point."""
    mean, share = (accelerator.reduce(v, "mean").cpu() for v in by_interval(losses.detach(), sigma, edges))
    size = torch.where(share > 0, torch.where(size > 0, 0.99 * size + 0.01 * mean, mean), size)
    return losses / size.to(losses)[torch.bucketize(sigma, edges.to(sigma))], size


def _pcgrad(net: Any, losses: Tensor, sigma: Tensor, edges: Tensor, step: int) -> None:
    """Set the gradients of the network to the sum of the intervals' gradients without their conflicts."""
    parameters = list(net.parameters())
    mean, share = by_interval(losses, sigma, edges)
    present = [i for i in range(len(mean)) if share[i] > 0]
    flat = []
    for i in present:
        found = torch.autograd.grad(mean[i] * share[i], parameters, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
        flat.append(torch.cat([g.flatten() for g in parts]))
    rng = torch.Generator().manual_seed(step)
    order = [[j for j in torch.randperm(len(flat), generator=rng).tolist() if j != i] for i in range(len(flat))]
    total = project_conflicts(flat, order)
    for p, g in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
        p.grad = g.reshape(p.shape)


def _swap(net: Any, values: list[Tensor]) -> list[Tensor]:
    """Put values into the network's parameters and return those that were there."""
    with torch.no_grad():
        held = [p.detach().clone() for p in net.parameters()]
        for p, v in zip(net.parameters(), values, strict=True):
            p.copy_(v)
    return held
