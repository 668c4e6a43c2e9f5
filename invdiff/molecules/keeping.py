"""What a run from one seed gathers, and how it is kept: energies and seconds count on over interruptions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from invdiff.bridges.bias import Bias
from invdiff.bridges.checkpoint import load, save
from invdiff.molecules.systems import Case

__all__ = ["Keeper", "Progress", "SeedRun"]

Progress = Callable[[dict[str, Any]], None]


@dataclass
class SeedRun:
    """What a seed gave: the bias, the sampler's draws (x, s), the chains' records ``(walkers, times, ...)``."""

    seed: int
    bias: Bias | None
    draws: dict[str, Tensor]
    chains: dict[str, Tensor]
    energies: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: int = 0
    accepted: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)


class Keeper:
    """Counts energies and seconds over interruptions; keeps a state at most every so often."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.began = self.last = time.monotonic()
        self.counters: dict[str, Any] = {"calls": case.target.calls, "failed": 0, "seconds": 0.0}

    def found(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            return None
        tensors, counters = load(path)
        self.case.target.energy.calls, self.case.target.failed = counters["calls"], counters["failed"]
        self.began = time.monotonic() - counters["seconds"]
        return tensors, counters

    def seconds(self) -> float:
        """Since the run began, interruptions left out."""
        return time.monotonic() - self.began

    def due(self) -> bool:
        return time.monotonic() - self.last >= self.case.config.checkpoint_every

    def keep(self, name: str, tensors: dict[str, Tensor], **more: Any) -> dict[str, Any]:
        target = self.case.target
        counters = {"calls": target.calls, "failed": target.failed, "seconds": self.seconds(), **more}
        save(self.folder / f"{name}.safetensors", tensors, counters)
        self.last = time.monotonic()
        return counters
