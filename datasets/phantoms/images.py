"""Procedural ground truths for demonstrations and for training priors without any data.

>>> import torch
>>> head_phantom(torch.Generator().manual_seed(0), 64).shape
torch.Size([64, 64])
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invdiff.datasets.phantoms.body import body_phantom
from invdiff.datasets.phantoms.ct import ct_slice
from invdiff.datasets.phantoms.fields import smooth_phase
from invdiff.datasets.phantoms.head import head_phantom
from invdiff.datasets.phantoms.leaves import dead_leaves
from invdiff.errors import InputError, UnknownNameError

__all__ = ["KINDS", "body_phantom", "dead_leaves", "ground_truth", "head_phantom", "pool", "smooth_phase"]

KINDS = {"head": head_phantom, "body": body_phantom, "leaves": dead_leaves, "ct": ct_slice}


def ground_truth(rng: torch.Generator, size: int = 256) -> Tensor:
    """A head with a smooth phase, as a complex image event: complex64 (1, size, size)."""
    magnitude = head_phantom(rng, size)
    return torch.polar(magnitude, smooth_phase(rng, (size, size)))[None]


def _generator(seed: int, index: int) -> torch.Generator:
    # Neighbouring seeds of the Mersenne Twister give related states: mix both numbers first (splitmix64).
    z = (seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return torch.Generator().manual_seed((z ^ (z >> 31)) % 2**63)


def _one(job: tuple[int, int, int, tuple[str, ...]]) -> Tensor:
    seed, index, size, kinds = job
    return KINDS[kinds[index % len(kinds)]](_generator(seed, index), size).half()


def _one_array(job: tuple[int, int, int, tuple[str, ...]]) -> NDArray[np.float16]:
    # Arrays are copied through the pipe; tensors would each hold a file descriptor.
    array: NDArray[np.float16] = _one(job).numpy()
    return array


def _single_thread() -> None:
    torch.set_num_threads(1)


def pool(
    seed: int,
    n: int,
    size: int = 256,
    kinds: Sequence[str] = ("head", "head", "body", "leaves"),
    *,
    workers: int | None = None,
) -> Tensor:
    """``n`` magnitude images, made in parallel: float16 (n, size, size).

    Image ``i`` is of kind ``kinds[i % len(kinds)]`` ("head", "body", "leaves" or "ct") and has its own generator,
    seeded by (seed, i): the same for any ``n`` and any number of ``workers`` (default: one per CPU). Workers
    are started afresh ("spawn"), so a script that calls this needs the usual ``__main__`` guard;
    ``workers=0`` stays in this process.

    Raises UnknownNameError for an unknown kind, InputError for a size below 16 or a negative n.
    """
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds:
        raise UnknownNameError(f"kinds holds {unknown or 'nothing'}; expected names from {sorted(KINDS)}.")
    if size < 16 or n < 0:
        raise InputError(f"size is {size} and n is {n}; expected a size of at least 16 and n of at least 0.")
    jobs = [(seed, index, size, tuple(kinds)) for index in range(n)]
    out = torch.empty(n, size, size, dtype=torch.float16)
    workers = min(os.cpu_count() or 1 if workers is None else workers, n)
    if workers == 0:
        for index, job in enumerate(jobs):
            out[index] = _one(job)
        return out
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_single_thread) as processes:
        for index, image in enumerate(processes.imap(_one_array, jobs, chunksize=16)):
            out[index] = torch.from_numpy(image)
    return out
