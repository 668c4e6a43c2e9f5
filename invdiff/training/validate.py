"""What training shows of itself: denoising PSNR by noise level on held-out data, and pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.files import replacing
from invdiff.networks.precondition import FlowMatched, Preconditioned
from invdiff.training.config import TrainConfig
from invdiff.training.source import Batch, Source

__all__ = ["VALIDATION_SIGMAS", "denoising_psnr", "draw", "note", "psnr_by_sigma"]

VALIDATION_SIGMAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def psnr_by_sigma(
    denoise: Callable[[Tensor, Tensor], Tensor], clean: Tensor, sigmas: tuple[float, ...] = VALIDATION_SIGMAS
) -> dict[str, float]:
    """PSNR in dB (peak 1, per real component) of denoised images, for several sigma; noise of one fixed seed."""
    rng = torch.Generator().manual_seed(11)
    out = {}
    for sigma in sigmas:
        pairs = torch.view_as_real(clean) if clean.is_complex() else clean
        noisy = pairs + sigma * torch.randn(pairs.shape, generator=rng)
        noisy = torch.view_as_complex(noisy) if clean.is_complex() else noisy
        with torch.inference_mode():
            error = denoise(noisy, torch.full((len(clean),), sigma)) - clean
        error = torch.view_as_real(error) if error.is_complex() else error
        out[str(sigma)] = round(-10 * math.log10(float(error.square().mean())), 3)
    return out


def denoising_psnr(net: torch.nn.Module, batch: Batch | Tensor) -> dict[str, float]:
    """`psnr_by_sigma` of a network, on its device."""
    batch = batch if isinstance(batch, Batch) else Batch(batch)
    device = next(net.parameters()).device
    condition = None if batch.condition is None else batch.condition.to(device)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        given = () if condition is None else (condition,)
        found: Tensor = net(x.to(device), sigma.to(device), *given)
        return found.cpu()

    return psnr_by_sigma(denoise, batch.x)


def note(folder: Path, step: int, net: Preconditioned | FlowMatched, config: TrainConfig, source: Source) -> Any:
    """Measure on held-out data; add to ``validation.json``, draw ``validation.png`` and ``samples.png``."""
    held_out = source.held_out(0, 64)
    psnr = denoising_psnr(net, held_out)
    path = folder / "validation.json"
    history = json.loads(path.read_text()) if path.is_file() else {}
    history = {k: v for k, v in history.items() if int(k) < step} | {str(step): psnr}
    with replacing(path) as part:
        part.write_text(json.dumps(history, indent=1) + "\n")
    if held_out.x.ndim == 4:
        condition = None if held_out.condition is None else held_out.condition[:16]
        _pictures(folder, history, held_out.x[:16], draw(net, held_out.x[:16], config, condition))
    return psnr


def draw(
    net: Preconditioned | FlowMatched, like: Tensor, config: TrainConfig, condition: Tensor | None = None
) -> Tensor:
    """Unconditional draws of the shape of `like` from the prior, 24 steps of DPM-Solver++ 2M, seed 0."""
    from invdiff.random import Streams
    from invdiff.schedules import karras
    from invdiff.solvers import DPMpp2M

    device = next(net.parameters()).device
    told = None if condition is None else condition.to(device)
    sigmas = karras(config.sigma_min, config.sigma_max, 24)
    rng = Streams(0, range(len(like)), device)
    x = sigmas[0] * rng.normal(like.to(device))

    def denoise(x: Tensor, sigma: float) -> Tensor:
        given = () if told is None else (told,)
        found: Tensor = net(x, torch.full((len(x),), sigma, device=device), *given)
        return found

    with torch.inference_mode():
        for state in DPMpp2M(1.0).steps(denoise, x, sigmas, rng):
            x = state.x
    return x.cpu().clone()


def _pictures(folder: Path, history: dict[str, dict[str, float]], held_out: Tensor, drawn: Tensor) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for step, psnr in history.items():
        axes.semilogx([float(s) for s in psnr], list(psnr.values()), "o-", label=f"step {step}")
    axes.set(xlabel="sigma", ylabel="PSNR of the denoised image in dB (peak 1)", title="Held-out images")
    axes.legend(fontsize=7)
    figure.savefig(folder / "validation.png", dpi=110, bbox_inches="tight")
    figure = Figure(figsize=(10, 5.4))
    for axes, images, title in zip(figure.subplots(1, 2), (held_out, drawn), ("held out", "drawn"), strict=True):
        axes.imshow(_tiled(images), cmap="gray", vmin=min(0.0, float(images.min())) if images.shape[1] != 2 else 0)
        axes.set_title(title + (" (magnitude)" if images.shape[1] == 2 else ""))
        axes.set_axis_off()
    figure.savefig(folder / "samples.png", dpi=110, bbox_inches="tight")


def _tiled(images: Tensor) -> Any:
    """Sixteen images ``(16, C, H, W)`` side by side, 4 x 4: magnitude of two channels, else the first channel."""
    shown = images.square().sum(1).sqrt() if images.shape[1] == 2 else images[:, 0]
    n, h, w = shown.shape
    return shown.reshape(n // 4, 4, h, w).permute(0, 2, 1, 3).reshape(n // 4 * h, 4 * w).numpy()
