"""What the studies share: where figures were taken, how they are written, and a fair clock."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from invdiff.cli.options import write_json

__all__ = ["best", "machine", "write"]

_PEERS = ("sigpy", "finufft", "torchkbnufft", "astra-toolbox", "deepinv", "azula", "scikit-image", "openmm")


def machine(device: str | torch.device = "cpu") -> dict[str, Any]:
    """What the figures were taken on, how busy it was, and with which versions."""
    versions = {}
    for library in ("invdiff", "torch", "numpy", *_PEERS):
        with contextlib.suppress(PackageNotFoundError):
            versions[library] = version(library)
    return {
        "processor": torch.cuda.get_device_name() if torch.device(device).type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def write(path: Path | None, content: Mapping[str, Any], device: str | torch.device = "cpu") -> None:
    """Write figures with date and machine as JSON, the whole file at once; nothing where `path` is None."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        write_json(path, {"date": today, "machine": machine(device), **content})


def best(
    jobs: Sequence[Callable[[], object]], seconds: float, device: str | torch.device = "cpu"
) -> list[tuple[float, float]]:
    """Least wall and processor time (all threads) of each job in seconds; they take turns for about `seconds`."""
    gpu = torch.device(device).type == "cuda"

    def once(run: Callable[[], object]) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        run()
        if gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - wall, time.process_time() - processor

    times = [once(run) for run in jobs]
    end = time.perf_counter() + seconds
    while True:
        for i, run in enumerate(jobs):
            now = once(run)
            times[i] = min(times[i][0], now[0]), min(times[i][1], now[1])
        if time.perf_counter() > end:
            return times


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()
