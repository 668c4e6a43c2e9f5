"""Keep a run and go on from it to the bit: one safetensors file of tensors, with the counters as JSON in its header.

Networks, optimisers, buffers, the bias with its hills and the random generator are all in it. Nothing is pickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.bridges.asbs import Trainer
from invdiff.bridges.refine import Walkers
from invdiff.bridges.target import Evaluated
from invdiff.errors import FileError, FormatError
from invdiff.files import existing, replacing

__all__ = ["load", "restore_trainer", "restore_walkers", "save", "trainer_state", "walkers_state"]

_EVALUATED = ("x", "u", "gradient", "s", "jacobian")


def save(path: Path, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
    """Write tensors and JSON-able counters to one file, under a temporary name first. Raises FileError."""
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as part:
        save_file(plain, part, metadata={"counters": json.dumps(counters)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote. Raises FileError, FormatError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(existing(path), framework="pt") as file:
            counters = json.loads((file.metadata() or {})["counters"])
            return {name: file.get_tensor(name) for name in file.keys()}, counters  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise FormatError(f"{path} is damaged ({error}); remove it to compute that part again") from error


def trainer_state(trainer: Trainer) -> dict[str, Tensor]:
    """Return all that a trainer has learned and stored, as tensors by name; `Trainer.done` is the one counter."""
    found = {f"control.{k}": v for k, v in trainer.control.state_dict().items()}
    if trainer.corrector is not None:
        found |= {f"corrector.{k}": v for k, v in trainer.corrector.state_dict().items()}
    for i, optimiser in enumerate(trainer.optimisers):
        for row, values in optimiser.state_dict()["state"].items():
            found |= {f"optimiser{i}.{row}.{k}": torch.as_tensor(v) for k, v in values.items()}
    found |= {f"buffer.{k}": v for k, v in trainer.buffer.state().items()}
    found |= {f"pairs.{k}": v for k, v in trainer.pairs.items()}
    if trainer.bias is not None:
        found |= {f"bias.{k}": v for k, v in trainer.bias.state().items()}
    return found | {"rng": trainer.rng.get_state()}


def restore_trainer(trainer: Trainer, tensors: dict[str, Tensor], done: int) -> None:
    """Set a freshly made trainer to a kept state. Raises FileError where it is of another network or bias."""
    device = trainer.rng.device

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    try:
        trainer.control.load_state_dict(part("control."))
        if trainer.corrector is not None:
            trainer.corrector.load_state_dict(part("corrector."))
        for i, optimiser in enumerate(trainer.optimisers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in part(f"optimiser{i}.").items():
                row, _, key = name.partition(".")
                state.setdefault(int(row), {})[key] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        trainer.buffer.restore(part("buffer."), device)
        trainer.pairs = {k: v.to(device) for k, v in part("pairs.").items()}
        if trainer.bias is not None:
            trainer.bias.restore(part("bias."))
        trainer.rng.set_state(tensors["rng"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise FileError(f"the kept state belongs to another run ({error}); remove it or use its options") from error
    trainer.done = done


def walkers_state(walkers: Walkers) -> dict[str, Tensor]:
    """Return chains as tensors."""
    found = {f"walkers.{name}": getattr(walkers.found, name) for name in _EVALUATED}
    step = torch.tensor(walkers.step, dtype=torch.float64)
    return found | {"walkers.velocity": walkers.velocity, "walkers.step": step}


def restore_walkers(tensors: dict[str, Tensor], device: torch.device | str = "cpu") -> Walkers:
    """Return the chains that `walkers_state` wrote."""
    found = Evaluated(*(tensors[f"walkers.{name}"].to(device) for name in _EVALUATED))
    return Walkers(found, tensors["walkers.velocity"].to(device), float(tensors["walkers.step"]))
