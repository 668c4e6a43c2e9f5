"""A folder ``OUT.ckpt`` in which a run keeps what it has: finished chunks and the state of the one under way."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import FileError
from invdiff.files import replacing
from invdiff.random import Streams
from invdiff.solvers.base import State

__all__ = ["Checkpoint", "Cost"]

Cost = tuple[int, ...]  # what a chunk took: the fields of `invdiff.guidance.base.Counts`


class Checkpoint:
    """Write and find the pieces of a run; `recipe` says what run it is, and another run's pieces are refused.

    Args:
        folder: where; made if absent.
        recipe: everything that determines the draws (versions, options, seed, prior hash, data hash), JSON-able.
        resume: go on from what is there; otherwise a folder left over is an error.
        every: seconds between two states of a chunk under way.

    Raises:
        FileError: the folder holds another run, or pieces although `resume` is false, or cannot be written.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any], resume: bool, every: float = 20.0) -> None:
        self.folder, self.every, self.last = folder, every, time.monotonic()
        text = json.dumps(recipe, sort_keys=True, default=str)
        note = folder / "recipe.json"
        if note.is_file():
            if not resume:
                raise FileError(
                    f"{folder} holds an interrupted run: go on from it with resume (--resume), or remove the folder"
                )
            if note.read_text(encoding="utf-8") != text:
                raise FileError(
                    f"{folder} belongs to a run with other options, data or versions; it cannot be resumed with these"
                )
        else:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise FileError(f"cannot write the checkpoint folder {folder}: {error}") from error
            with replacing(note) as part:
                part.write_text(text, encoding="utf-8")

    def finished(self, first: int) -> tuple[Tensor, Cost, Tensor | None] | None:
        """The chunk that starts at unit `first`, what it took and its log-weights, if it is done."""
        path = self.folder / f"chunk-{first:06d}.pt"
        if not path.is_file():
            return None
        content = _load(path)
        return content["x"], content["cost"], content["log_weight"]

    def finish(self, first: int, x: Tensor, cost: Cost, log_weight: Tensor | None = None) -> None:
        """Keep a finished chunk and drop its intermediate state."""
        content = {"x": x, "cost": cost, "log_weight": log_weight}
        _save(self.folder / f"chunk-{first:06d}.pt", content)
        (self.folder / f"state-{first:06d}.pt").unlink(missing_ok=True)

    def keep(self, first: int, state: State, rng: Streams, cost: Cost) -> None:
        """Keep where the chunk under way stands, at most every `every` seconds."""
        if time.monotonic() - self.last < self.every:
            return
        self.last = time.monotonic()
        content = {
            "step": state.step,
            "total": state.total,
            "sigma": state.sigma,
            "x": state.x.cpu(),
            "x0": None if state.x0 is None else state.x0.cpu(),
            "memory": [m.cpu() for m in state.memory],
            "rng": rng.state(),
            "cost": cost,
        }
        _save(self.folder / f"state-{first:06d}.pt", content)

    def resume(self, first: int, rng: Streams, device: torch.device) -> tuple[State, Cost] | None:
        """The state to go on from and what it took, with the generators set to it; None to start afresh."""
        path = self.folder / f"state-{first:06d}.pt"
        if not path.is_file():
            return None
        content = _load(path)
        if len(content["rng"]) != len(rng):
            return None
        rng.restore(content["rng"])
        x0 = content["x0"]
        state = State(
            content["step"],
            content["total"],
            content["sigma"],
            content["x"].to(device),
            None if x0 is None else x0.to(device),
            tuple(m.to(device) for m in content["memory"]),
        )
        return state, content["cost"]

    def remove(self) -> None:
        """Delete the folder: the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _save(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as part, part.open("wb") as file:
        torch.save(content, file)


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise FileError(f"{path} is damaged ({error}); remove it to compute that part again") from error
    return content
