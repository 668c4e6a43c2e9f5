"""A worker process is killed in the middle of a run: what it costs, and whether the draws are those of a serial run.

    python benchmarks/kill_a_worker.py --json benchmarks/results/kill_a_worker.json

A volume of slices (a procedural head, 8 views, the shipped prior, `slicewise`) is drawn serially, by worker processes,
and by as many of which one is killed once the first draw is there. ``runs[]``: how, seconds, same (to the bit),
chunks_made; the last of these counts chunks that workers began, so that what the kill cost can be seen.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

from invdiff.datasets.phantoms.volumes import head_volume
from invdiff.engine.checkpoint import Checkpoint, Cost
from invdiff.engine.distributed import connect, run_distributed
from invdiff.engine.run import run
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ParallelCT
from invdiff.priors.base import Prior
from invdiff.priors.loading import load_prior
from invdiff.priors.slices import SlicePrior
from invdiff.samplers.named import sampler

CPU = torch.device("cpu")


class Noted(SlicePrior):
    """Slices; each beginning of a draw (the first evaluation at the highest level) is noted in a file."""

    def __init__(self, plane: Prior, file: str) -> None:
        super().__init__(plane)
        self.file = file

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        if float(sigma) >= 0.999 * self.sigma_max:
            with open(self.file, "a", encoding="utf-8") as notes:
                notes.write(f"{os.getpid()}\n")
        return super().denoise(x, sigma)

    def to(self, target: Any) -> Prior:
        return Noted(self.plane.to(target), self.file)


def main() -> None:
    """Draw serially, by workers, and with one killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--nfe", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    n = args.size
    truth = head_volume(torch.Generator().manual_seed(0), (n, n, n))
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 8
    operator = ParallelCT((n, n, n), angles, (n, math.ceil(1.5 * n)), unit="pixel")
    y = Gaussian(0.05).sample(operator.forward(truth[None, None]), torch.Generator().manual_seed(1))[0]
    measurement = Measurement(y, operator, Gaussian(0.05))
    content: dict[str, Any] = {"size": n, "draws": args.draws, "workers": args.workers, "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        reference: Tensor | None = None
        for how in ("serial", "workers", "one killed"):
            notes = Path(folder) / f"{how}.txt"
            prior = Noted(load_prior("generic"), str(notes))
            options = (sampler("slicewise", args.nfe), prior, measurement, args.draws, 0, CPU, 1)
            if how == "serial":
                began = time.perf_counter()
                x = run(*options, progress=False)[0]
                reference = x
            else:
                with connect(args.workers, None) as client:
                    print(f"dashboard: {client.dashboard_link}")
                    pids = client.run(os.getpid)
                    keeper = _Killing(Path(folder) / how, client, pids) if how == "one killed" else None
                    began = time.perf_counter()
                    x = run_distributed(client, *options, progress=False, checkpoint=keeper)[0]
                    if keeper:
                        print(f"killed process {keeper.victim}")
            made = len(notes.read_text(encoding="utf-8").split())
            same = reference is not None and torch.equal(x, reference)
            content["runs"].append(
                {"how": how, "seconds": time.perf_counter() - began, "same": same, "chunks_made": made}
            )
            print(content["runs"][-1], flush=True)
            write(args.json, content)
    if not all(r["same"] for r in content["runs"]):
        raise SystemExit("the draws differ")


class _Killing(Checkpoint):
    """A checkpoint that, when the first chunk is there, kills a worker that is busy."""

    def __init__(self, folder: Path, client: Any, pids: dict[str, int]) -> None:
        super().__init__(folder, {}, resume=False)
        self.client, self.pids, self.victim = client, pids, 0

    def finish(self, first: int, x: Tensor, cost: Cost, log_weight: Tensor | None = None) -> None:
        super().finish(first, x, cost, log_weight)
        if not self.victim:
            busy = [worker for worker, tasks in self.client.processing().items() if tasks]
            self.victim = self.pids[busy[-1]]
            os.kill(self.victim, signal.SIGKILL)


if __name__ == "__main__":
    main()
