"""Run a sampler over all draws: in chunks that fit memory, with progress, checkpoints and an answer to Ctrl-C.

A unit is what cannot be split (a draw, or a population). Draw d of problem p takes its random numbers from stream
``p 2^32 + d``, so neither the chunking nor the number of draws matters.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import astuple

import torch
from torch import Tensor

from invdiff.engine.checkpoint import Checkpoint, Cost
from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.base import Sampler
from invdiff.solvers.base import State

__all__ = ["Bar", "assemble", "chunk_size", "dtype_of", "make_chunk", "run"]

Watch = Callable[[State, Measurement], None]


def run(
    sampler: Sampler,
    prior: Prior,
    measurement: Measurement,
    draws: int,
    seed: int,
    device: torch.device,
    chunk: int,
    progress: bool = True,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
) -> tuple[Tensor, Cost, Tensor | None]:
    """Return draws ``(draws, problems, *event)`` on the CPU, the cost of a draw (the mean over chunks) and log-weights.

    Log-weights are ``(draws, problems)`` float64, None where the sampler gives none. A sampler that draws whole
    populations makes the last one whole too; what is beyond `draws` is dropped, but counted as cost.

    Raises:
        InputError: the sampler returned NaN or infinity.
    """
    problems, event = measurement.n_problems, measurement.operator.domain_shape
    dtype = dtype_of(measurement)
    made = -(-draws // sampler.unit) * sampler.unit
    total = problems * made
    chunk = max(1, chunk // sampler.unit) * sampler.unit
    out = torch.empty(total, *event, dtype=dtype)
    costs: list[Cost] = []
    weights: list[Tensor] = []
    first = 0
    with Bar(progress, total, sampler.name) as bar:
        while first < total:
            indices = list(range(first, min(first + chunk, total)))
            stored = checkpoint.finished(first) if checkpoint else None
            if stored is None:
                try:
                    stored = make_chunk(
                        sampler,
                        prior,
                        measurement,
                        indices,
                        made,
                        seed,
                        device,
                        dtype,
                        bar,
                        checkpoint,
                        watch,
                    )
                except torch.cuda.OutOfMemoryError:
                    if len(indices) <= sampler.unit:
                        raise
                    chunk = max(sampler.unit, (len(indices) // 2) // sampler.unit * sampler.unit)
                    torch.cuda.empty_cache()
                    warnings.warn(f"out of GPU memory: going on with chunks of {chunk} draws", stacklevel=2)
                    continue
                if checkpoint:
                    checkpoint.finish(first, *stored)
            x, cost, log_weight = stored
            costs.append(cost)
            if log_weight is not None:
                weights.append(log_weight)
            out[first : first + x.shape[0]] = x
            bar.advance(first + x.shape[0])
            first += x.shape[0]
    return assemble(out, costs, weights, problems, made, draws)


def assemble(
    out: Tensor, costs: list[Cost], weights: list[Tensor], problems: int, made: int, draws: int
) -> tuple[Tensor, Cost, Tensor | None]:
    """What `run` returns, of all units in order ``(problems made, *event)``, costs of chunks and their log-weights."""
    cost = tuple(round(sum(each) / len(costs) * made / draws) for each in zip(*costs, strict=True))
    x = out.reshape(problems, made, *out.shape[1:])[:, :draws].transpose(0, 1)
    if not weights:
        return x, cost, None
    return x, cost, torch.cat(weights).reshape(problems, made)[:, :draws].T


def make_chunk(
    sampler: Sampler,
    prior: Prior,
    measurement: Measurement,
    indices: list[int],
    draws: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    bar: Bar | None,
    checkpoint: Checkpoint | None,
    watch: Watch | None,
) -> tuple[Tensor, Cost, Tensor | None]:
    """Make the units of these indices; `draws` a problem are made in all. Raises as `run` does."""
    part = measurement.take([i // draws for i in indices])
    rng = Streams(seed, [(i // draws << 32) + i % draws for i in indices], device)
    like = torch.empty(len(indices), *measurement.operator.domain_shape, dtype=dtype, device=device)
    counts = sampler.counts
    before = astuple(counts)
    resume, state = None, None
    if checkpoint and (found := checkpoint.resume(indices[0], rng, device)):
        resume, spent = found
        before = _less(before, spent)
    with torch.no_grad() if sampler.uses_vjp else torch.inference_mode():
        for state in sampler.steps(prior, part, like, rng, resume):
            if bar:
                bar.step(state, part)
            if watch:
                watch(state, part)
            if checkpoint and state.step < state.total:
                checkpoint.keep(indices[0], state, rng, _less(astuple(counts), before))
        if state is None:
            raise InputError(f"sampler {sampler.name} made no step")
        if state.x.shape != like.shape or state.x.dtype != like.dtype:
            raise ShapeError(
                f"sampler {sampler.name} returned {state.x.dtype} of shape {tuple(state.x.shape)}; it expects"
                f" {like.dtype} of {tuple(like.shape)}"
            )
        if not bool(torch.isfinite(torch.view_as_real(state.x) if state.x.is_complex() else state.x).all()):
            raise InputError(
                f"sampler {sampler.name} returned NaN or infinity; check the prior's sigma range and the unit of the"
                " data, or take more steps"
            )
        log_weight = None if state.log_weight is None else state.log_weight.double().cpu()
        return state.x.cpu().clone(), _less(astuple(counts), before), log_weight


def _less(cost: Cost, other: Cost) -> Cost:
    return tuple(a - b for a, b in zip(cost, other, strict=True))


def dtype_of(measurement: Measurement) -> torch.dtype:
    """The dtype of x: as precise as the data, complex where the operator's x is."""
    double = measurement.y.dtype in (torch.float64, torch.complex128)
    if measurement.operator.domain == "complex":
        return torch.complex128 if double else torch.complex64
    return torch.float64 if double else torch.float32


def chunk_size(event: tuple[int, ...], uses_vjp: bool, memory: int, network: bool) -> int:
    """How many draws fit `memory` bytes: a network keeps about 250 numbers per pixel, 1 500 with its gradient."""
    per_value = (1500 if uses_vjp else 250) if network else 64
    return max(1, memory // (4 * per_value * math.prod(event)))


class Bar:
    """Progress in steps of draws, with sigma, chi2 over the number of data, and the remaining time."""

    def __init__(self, shown: bool, total: int, name: str) -> None:
        from tqdm import tqdm

        layout = "{l_bar}{bar}| {n:.1f}/{total} {postfix} [{elapsed}<{remaining}]"
        self.bar = tqdm(total=total, desc=name, unit="draw", disable=not shown, bar_format=layout)
        self.base, self.last = 0, 0.0

    def step(self, state: State, part: Measurement) -> None:
        if self.bar.disable:
            return
        now = time.monotonic()
        if now - self.last > 0.5 or state.step == state.total:
            self.last = now
            notes = f"sigma {state.sigma:.3g}"
            if state.x0 is not None:
                notes += f", chi2/n {float(part.chi2(state.x0).mean()) / part.count:.3g}"
            self.bar.set_postfix_str(notes, refresh=False)
            self.bar.n = self.base + state.x.shape[0] * state.step / state.total
            self.bar.refresh()

    def advance(self, done: int) -> None:
        self.base = done
        self.bar.n = done
        self.bar.refresh()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.close()
