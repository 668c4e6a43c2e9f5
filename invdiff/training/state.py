"""What a training run writes and reads: checkpoints, weights to start from, finished weights with their card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import FileError, FormatError
from invdiff.files import replacing
from invdiff.training.config import TrainConfig

__all__ = ["export", "resume", "save", "warm_start"]


def save(path: Path, config: TrainConfig, numbers: dict[str, Any], net: Any, optimiser: Any, extra: Any) -> None:
    """Write a checkpoint, the whole file at once; `extra` is a dictionary of tensors and lists of tensors."""
    content = {
        "config": config.model_dump_json(),
        "numbers": numbers,
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "extra": extra,
    }
    with replacing(path) as part, part.open("wb") as file:
        torch.save(content, file)


def resume(path: Path, config: TrainConfig, net: Any, optimiser: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load a checkpoint into network and optimiser; return its numbers and `extra`.

    Raises FileError where it is of another configuration: nothing but the number of steps and what is written when may
    differ.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    saved, now = json.loads(content["config"]), config.model_dump(mode="json")
    free = ("steps", "checkpoint_every", "validate_every", "description", "learning_rate", "decay_from")
    for field, value in now.items():
        if field not in free and saved.get(field) != value:
            raise FileError(
                f"{path} was written with another {field} ({saved.get(field)}); this run has {value}: give --out"
                " another folder, or delete that one"
            )
    net.load_state_dict(content["net"])
    optimiser.load_state_dict(content["optimiser"])
    return content["numbers"], content["extra"]


def warm_start(net: torch.nn.Module, weights: str) -> None:
    """Take the shipped or given weights of the same architecture as a start.

    Where image channels differ the first ones are kept; those that the file lacks (a condition) start at 0.

    Raises:
        FileError: no such weights. FormatError: they are of another architecture.
    """
    from safetensors.torch import load_file

    path = Path(weights)
    if not path.is_file():
        path = Path(__file__).parent.parent / "weights" / f"{weights}.safetensors"
    if not path.is_file():
        raise FileError(f"start_from: no weights {weights!r}; give a .safetensors file or the name of a shipped prior")
    own = net.state_dict()
    for name, value in load_file(path).items():
        if name not in own or value.ndim != own[name].ndim:
            raise FormatError(f"{path}: tensor {name} is not in this network; start_from needs the same architecture")
        own[name] = _fitted(value.float(), own[name])
    net.load_state_dict(own)


def _fitted(value: Tensor, like: Tensor) -> Tensor:
    # pixel-unshuffle keeps the channels of one image channel together, so the first filters are the first channel's
    out = torch.zeros_like(like)
    common = tuple(slice(min(a, b)) for a, b in zip(value.shape, like.shape, strict=True))
    out[common] = value[common]
    return out


def export(net: Any, config: TrainConfig, source: Any, psnr: dict[str, float], target: Path) -> None:
    """Write the weights in half precision with their card."""
    from safetensors.torch import save_file

    shape = config.network.model_dump(exclude={"kind"})
    card = {
        "name": config.name,
        "description": config.description,
        "domain": config.domain,
        "architecture": {"type": type(net.backbone).__name__, **shape},
        "objective": config.objective,
        "channels": source.channels,
        "sigma_data": net.sigma_data,
        "sigma_min": config.sigma_min,
        "sigma_max": config.sigma_max,
        **source.card,
        "data": config.data.model_dump(exclude={"paths"}),
        "steps": config.steps,
        "batch": config.batch,
        "denoising_psnr_db": psnr,
    }
    tensors = {k: v.detach().half().contiguous().cpu() for k, v in net.backbone.state_dict().items()}
    with replacing(target) as part:
        save_file(tensors, part, metadata={"card": json.dumps(card)})
