"""Run a sampler's chunks on several processes or machines, through Dask Distributed.

A chunk is what `invdiff.engine.run` makes at once: some draws of some problems, with random streams of their own. So
it does not matter where a chunk is made, nor how often, and the draws are those of a serial run with the same chunks on
the same kind of device, to the bit. A worker that dies costs the chunk it was at, which is made again elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invdiff.engine.checkpoint import Checkpoint, Cost
from invdiff.engine.run import Bar, assemble, dtype_of, make_chunk
from invdiff.errors import InputError, missing_extra
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.samplers.base import Sampler

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connect", "run_distributed"]

Payload = tuple[Sampler, Prior, Measurement]

# Dask has its workers hand freed memory back at once, so a network would spend half its time having pages zeroed again.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": 10**10, "MALLOC_MMAP_THRESHOLD_": 2**25, "MALLOC_ARENA_MAX": 1}


@contextlib.contextmanager
def connect(workers: int | None, scheduler: str | None) -> Iterator[Client]:
    """Give a client of the scheduler at an address ``tcp://host:port``, or of that many worker processes here.

    Workers here listen on the loopback interface and end with the run. Each has one thread for Dask and as many for
    torch as this process; memory is not divided among them.

    Raises:
        InputError: both or neither are given, workers is below 1, or the scheduler does not answer.
        MissingExtraError: distributed is not installed.
    """
    if (workers is None) == (scheduler is None):
        raise InputError("give either a number of workers or the address of a scheduler")
    if workers is not None and workers < 1:
        raise InputError(f"workers = {workers}; it expects at least 1")
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise missing_extra("distributed", "scale", "running on several workers") from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="10s")
        except (OSError, ValueError) as error:
            raise InputError(f"scheduler {scheduler} does not answer ({error}); expected tcp://host:port") from error
        with client:
            yield client
        return
    spawn = "distributed.nanny.pre-spawn-environ"
    with (
        dask.config.set({spawn: dask.config.get(spawn, {}) | MALLOC}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def run_distributed(
    client: Client,
    sampler: Sampler,
    prior: Prior,
    measurement: Measurement,
    draws: int,
    seed: int,
    device: torch.device,
    chunk: int,
    progress: bool = True,
    checkpoint: Checkpoint | None = None,
) -> tuple[Tensor, Cost, Tensor | None]:
    """Return what `invdiff.engine.run.run` returns, made by the client's workers.

    Finished chunks are kept in the checkpoint; what a worker is at is not. `device` is that of the workers.

    Raises:
        InputError: the sampler returned NaN, or a chunk was lost with four workers in turn.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    problems, event = measurement.n_problems, measurement.operator.domain_shape
    made = -(-draws // sampler.unit) * sampler.unit
    total = problems * made
    chunk = max(1, chunk // sampler.unit) * sampler.unit
    parts = {first: list(range(first, min(first + chunk, total))) for first in range(0, total, chunk)}
    done = {first: found for first in parts if checkpoint and (found := checkpoint.finished(first))}
    with warnings.catch_warnings(), Bar(progress, total, sampler.name) as bar:
        warnings.filterwarnings("ignore", "Sending large graph")  # the prior's weights, once
        # A task, not scattered data: where the worker that holds it dies, the scheduler makes it again.
        payload = client.submit(_payload, sampler, prior, measurement, pure=False)
        futures = {
            client.submit(_make, payload, indices, made, seed, str(device), torch.get_num_threads(), pure=False): first
            for first, indices in parts.items()
            if first not in done
        }
        bar.advance(sum(len(parts[first]) for first in done))
        for future in as_completed(futures):
            first = futures[future]
            try:
                done[first] = future.result()
            except KilledWorker as error:
                raise InputError(
                    f"draws {parts[first]} were lost with {error.last_worker} and three workers before it; do they have"
                    " enough memory?"
                ) from error
            if checkpoint:
                checkpoint.finish(first, *done[first])
            bar.advance(sum(len(parts[k]) for k in done))
    out = torch.empty(total, *event, dtype=dtype_of(measurement))
    for first, indices in parts.items():
        out[indices] = done[first][0]
    costs = [done[first][1] for first in parts]
    weights = [w for first in parts if (w := done[first][2]) is not None]
    return assemble(out, costs, weights, problems, made, draws)


def _payload(sampler: Sampler, prior: Prior, measurement: Measurement) -> Payload:
    return sampler, prior, measurement


def _make(payload: Payload, indices: list[int], made: int, seed: int, device: str, threads: int) -> Any:
    sampler, prior, measurement = payload
    torch.set_num_threads(threads)  # the last bits depend on it
    target = torch.device(device)
    return make_chunk(
        sampler, prior.to(target), measurement.to(target), indices, made, seed, target, dtype_of(measurement),
        None, None, None,
    )  # fmt: skip
