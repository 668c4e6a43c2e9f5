"""Adjoint Schrödinger Bridge Sampler (Liu et al. 2025, arXiv 2506.22565), and what it specialises to.

Stages in turn, starting with the corrector h = 0:

- adjoint matching of the control v with the corrector of the stage before (`invdiff.bridges.adjoint`);
- corrector matching, ``|h(x1) - (x0 - x1) / K|^2`` over pairs of the current diffusion.

With a point as source, one stage and ``h = -x1/K`` it is Adjoint Sampling; with a bias it is WT-ASBS
(`invdiff.bridges.wt_asbs`). `Trainer.run` is a generator: one value per epoch, so that progress, checkpoints and
interruption are the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invdiff.bridges.adjoint import Field, Memoryless, NoCorrector, adjoint_matching, bridge_matching, clip
from invdiff.bridges.bias import Bias
from invdiff.bridges.buffer import Buffer
from invdiff.bridges.refine import settle
from invdiff.bridges.sde import Schedule, centred, simulate
from invdiff.bridges.source import GaussianSource
from invdiff.bridges.target import Target
from invdiff.errors import InputError

__all__ = ["Epoch", "Stage", "Training", "Trainer", "corrector_matching"]


@dataclass(frozen=True)
class Stage:
    """One round: epochs of adjoint matching, then of corrector matching.

    Args:
        adjoint, corrector: epochs.
        deposit: whether the bias grows (the last stage should have it frozen).
        height: factor on the bias' hill height, so that later stages can fill more gently.
    """

    adjoint: int
    corrector: int = 0
    deposit: bool = True
    height: float = 1.0


@dataclass(frozen=True)
class Training:
    """How a sampler is trained.

    Args:
        stages: the curriculum.
        warm: epochs of bridge matching on given data before it.
        fresh: new samples (energies) per epoch of adjoint or corrector matching.
        first: samples of the very first epoch, which fill the buffer.
        buffer: samples kept.
        batch, updates: size and number of gradient steps per epoch.
        steps: Euler steps of the diffusion.
        rate, rate_end: learning rate of Adam, falling by a cosine.
        largest: longest gradient (of a particle, or of a vector as a whole), in kT per length.
        refine: MALA steps in the current bias that every new sample takes before it is deposited and kept.
        refine_step: MALA step, in the unit of x.
    """

    stages: tuple[Stage, ...]
    warm: int = 0
    fresh: int = 512
    first: int = 2048
    buffer: int = 4096
    batch: int = 512
    updates: int = 20
    steps: int = 60
    rate: float = 1e-3
    rate_end: float = 1e-4
    largest: float = 100.0
    refine: int = 0
    refine_step: float = 0.1


@dataclass(frozen=True)
class Epoch:
    """What an epoch has done: `kind` is warm, adjoint or corrector; `s` are the newest collective variables."""

    number: int
    total: int
    kind: str
    stage: int
    loss: float
    energies: int
    failed: int
    hills: int
    s: Tensor


def corrector_matching(corrector: Field, x0: Tensor, x1: Tensor, total: float) -> Tensor:
    """Return the mean of ``|h(x1) - (x0 - x1)/K|^2`` with K = `total`; h is taken at t = 1."""
    t = torch.ones(x1.shape[0], dtype=x1.dtype, device=x1.device)
    return (corrector(t, x1) - (x0 - x1) / total).square().flatten(1).sum(1).mean()


class Trainer:
    """A control, a corrector, a buffer and a bias in training.

    Args:
        target: what to sample.
        source: where the diffusion starts; with scale 0 the corrector is ``-x/K`` and needs no network.
        schedule: noise of the base process.
        control: network v(t, x).
        corrector: network h(t, x), used at t = 1; None with a point source.
        training: sizes and stages.
        rng: all random numbers, on the networks' device.
        bias: grows while training; None for the plain sampler.
        data: samples ``(n, *event)`` for the warm start.

    Raises:
        InputError: a corrector is missing, a warm start has no data, a bias has no collective variable.
    """

    def __init__(
        self,
        target: Target,
        source: GaussianSource,
        schedule: Schedule,
        control: nn.Module,
        corrector: nn.Module | None,
        training: Training,
        rng: torch.Generator,
        bias: Bias | None = None,
        data: Tensor | None = None,
    ) -> None:
        if corrector is None and source.scale != 0:
            raise InputError("a Gaussian source needs a corrector network; only a point source (scale 0) has none")
        if training.warm and data is None:
            raise InputError(f"warm is {training.warm} epochs, but there are no data to start from")
        if bias is not None and target.variable is None:
            raise InputError("there is a bias but the target has no collective variable for it")
        self.target, self.source, self.schedule, self.training = target, source, schedule, training
        self.control, self.corrector, self.rng, self.bias = control, corrector, rng, bias
        self.data = None if data is None else data.float().to(rng.device)
        self.buffer = Buffer(training.buffer)
        self.optimisers = [torch.optim.Adam(control.parameters(), lr=training.rate)]
        if corrector is not None:
            self.optimisers.append(torch.optim.Adam(corrector.parameters(), lr=training.rate))
        self.plan = [("warm", 0)] * training.warm
        for i, stage in enumerate(training.stages):
            self.plan += [("adjoint", i)] * stage.adjoint
            self.plan += [("corrector", i)] * (stage.corrector if corrector is not None else 0)
        self.done = 0
        self.pairs: dict[str, Tensor] = {}
        self.particles = len(target.shape) == 2
        self.project = centred if source.mean_free else None

    # ---- one epoch after the other -----------------------------------------------------------------------------
    def run(self) -> Iterator[Epoch]:
        """Train on from where it stands, one epoch per value."""
        while self.done < len(self.plan):
            kind, index = self.plan[self.done]
            s = self.target.variables(torch.zeros(0, *self.target.shape))
            if kind == "warm":
                loss = self._updates(self.optimisers[0], self._warm_loss)
            elif kind == "adjoint":
                s = self._refill(index)
                loss = self._updates(self.optimisers[0], self._adjoint_loss)
            else:
                s = self._repair()
                loss = self._updates(self.optimisers[1], self._corrector_loss)
            self.done += 1
            hills = sum(len(h) for _, h in self.bias.hills) if self.bias is not None else 0
            yield Epoch(self.done, len(self.plan), kind, index, loss, self.target.calls, self.target.failed, hills, s)

    def sample(self, count: int, chunk: int = 1024) -> Tensor:
        """Draw `count` end points of the diffusion as it is now."""
        parts = []
        for first in range(0, count, chunk):
            x0 = self.source.draw(min(chunk, count - first), self.rng, self.rng.device)
            parts.append(self._simulate(x0))
        return torch.cat(parts)

    # ---- inner workings ----------------------------------------------------------------------------------------
    def _simulate(self, x0: Tensor) -> Tensor:
        return simulate(self.control, x0, self.schedule, self.training.steps, self.rng, self.project)

    def _refill(self, stage: int) -> Tensor:
        """Draw samples, let them settle in the bias, add hills where they are, keep them. Return their s."""
        count = self.training.fresh if len(self.buffer) else max(self.training.first, self.training.fresh)
        x0 = self.source.draw(count, self.rng, self.rng.device)
        x1 = self._simulate(x0)
        if self.training.refine:
            found = settle(self.target, self.bias, x1, self.training.refine, self.training.refine_step, self.rng)
        else:
            found = self.target.evaluate(x1)
        plan = self.training.stages[stage]
        if self.bias is not None and plan.deposit:
            self.bias.deposit(found.s, plan.height)
        self.buffer.add(x0, found)
        return found.s

    def _repair(self) -> Tensor:
        """Draw pairs for the corrector, which needs no energies. Return their s."""
        count = self.training.fresh if self.pairs else self.training.buffer
        x0 = self.source.draw(count, self.rng, self.rng.device)
        new = {"x0": x0, "x1": self._simulate(x0)}
        old = self.pairs or {name: value[:0] for name, value in new.items()}
        self.pairs = {name: torch.cat([old[name], new[name]])[-self.training.buffer :] for name in new}
        return self.target.variables(new["x1"])

    def _warm_loss(self) -> Tensor:
        assert self.data is not None
        rows = torch.randint(len(self.data), (self.training.batch,), generator=self.rng, device=self.rng.device)
        x0 = self.source.draw(self.training.batch, self.rng, self.rng.device)
        return bridge_matching(self.control, x0, self.data[rows], self.schedule, self.rng, self.project)

    def _adjoint_loss(self) -> Tensor:
        x0, found = self.buffer.draw(self.training.batch, self.rng)
        gradient = clip(found.biased(self.bias)[1], self.training.largest, self.particles)
        with torch.no_grad():
            adjoint = gradient + self._h(torch.ones_like(found.u), found.x)
        return adjoint_matching(self.control, x0, found.x, adjoint, self.schedule, self.rng, self.project)

    def _corrector_loss(self) -> Tensor:
        assert self.corrector is not None
        rows = torch.randint(len(self.pairs["x0"]), (self.training.batch,), generator=self.rng, device=self.rng.device)
        return corrector_matching(self.corrector, self.pairs["x0"][rows], self.pairs["x1"][rows], self.schedule.total)

    def _h(self, t: Tensor, x: Tensor) -> Tensor:
        """The corrector of the stage before: none in the first stage of a Schrödinger bridge."""
        if self.corrector is None:
            return Memoryless(self.schedule.total)(t, x)
        trained = any(kind == "corrector" for kind, _ in self.plan[: self.done])
        out: Tensor = self.corrector(t, x) if trained else NoCorrector()(t, x)
        return out

    def _updates(self, optimiser: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> float:
        rate = _cosine(self.done / max(1, len(self.plan) - 1), self.training.rate, self.training.rate_end)
        for group in optimiser.param_groups:
            group["lr"] = rate
        total = 0.0
        for _ in range(self.training.updates):
            value = loss()
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            total += float(value.detach())
        return total / self.training.updates


def _cosine(progress: float, first: float, last: float) -> float:
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * progress))
