"""DTS: diffusion tree sampling; finished denoising paths are kept in a tree and say where to sample next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.guidance.base import Counts, Guidance
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.random import Streams
from invdiff.samplers.tree_nodes import NONE, Tree
from invdiff.schedules import karras
from invdiff.solvers.base import State

__all__ = ["DTS"]


class DTS:
    """Monte Carlo tree search over the reverse chain ``x_s = D(x_t) + (s/t)^2 (x_t - D(x_t)) + s sqrt(1 - (s/t)^2) n``.

    A node is a noisy image; the root's children are pure noise, a leaf is a denoised image of value log p(y | x0).
    Over and over: go down from the root, to a child with probability ``~ exp V``, until a node has fewer than
    ``width visits^power`` children; give it a new one; follow the chain from there to a leaf; update
    ``V = log mean exp V(children)`` on the way back. For the draws, go down by ``~ exp V`` to the node above a leaf and
    take the last step, that of the smallest noise, afresh: draws that share a path differ. A is only evaluated. As the
    tree grows the draws' law tends to the posterior of the chain with these levels, slowly: a child whose first path
    was poor is seldom tried again. And a first-order chain of few levels is itself too narrow (24 levels leave 0.68 of
    the variance of a Gaussian prior).

    The `unit` draws of a tree are also its workers: each has its own path under way, and all are denoised together.

    Args:
        nfe: network evaluations per draw; a tree has unit times as many.
        workers: draws of one tree.
        levels: noise levels of the chain; None for ``nfe / 8`` but at most 24.
        width, power: how fast a node gets children.

    Source: Jain et al., 2025, arXiv 2506.20701, algorithm 1. The tree keeps ``nfe * unit`` images in memory.
    """

    name, exact_for, uses_vjp = "dts", "none", False

    def __init__(
        self, nfe: int = 200, workers: int = 32, levels: int | None = None, width: float = 2.0, power: float = 0.8
    ) -> None:
        levels = max(1, min(24, (nfe - 1) // 8)) if levels is None else levels
        if nfe < 1 or nfe <= levels > 1 or levels < 1 or workers < 1 or width <= 0 or not 0 < power <= 1:
            raise InputError(
                f"DTS got nfe = {nfe}, workers = {workers}, levels = {levels}, width = {width}, power = {power};"
                " expected levels >= 1 and fewer than nfe, workers >= 1, width > 0 and 0 < power <= 1"
            )
        self.nfe, self.unit, self.levels, self.width, self.power = nfe, workers, levels, width, power
        self.counts = Counts()

    def steps(
        self, prior: Prior, measurement: Measurement, like: Tensor, rng: Streams, resume: State | None = None
    ) -> Iterator[State]:
        """Yield a state after each network evaluation; its memory holds the trees."""
        network = Guidance(prior, measurement)
        levels = karras(prior.sigma_min, prior.sigma_max, self.levels)[:-1]
        forest = _Forest(self, like, levels, rng, resume)
        first = 0 if resume is None else resume.step
        for k in range(first, self.nfe):
            last = k + 1 == self.nfe
            if last:
                forest.finish()
            x0 = forest.denoise(network)
            self.counts.nfe += 1
            if last:
                yield State(self.nfe, self.nfe, 0.0, x0, x0)
            else:
                forest.grow(x0, measurement)
                yield State(k + 1, self.nfe, levels[-1], forest.x, x0, forest.memory())


class _Forest:
    """The trees of a chunk. Worker n of the chunk is at node ``at[n]`` of tree ``n // unit``, with its image x[n].

    `means` holds of each node the mean of its children, of a leaf the image.
    """

    def __init__(self, options: DTS, like: Tensor, levels: list[float], rng: Streams, resume: State | None) -> None:
        self.options, self.levels, self.rng = options, levels, rng
        self.unit, count = options.unit, len(like) // options.unit
        capacity = options.unit * (options.nfe + 1) + 1  # each worker enters one node more than it evaluates
        if resume is None:
            # The root's children are noise about zero.
            self.means = torch.zeros(count, capacity, *like.shape[1:], dtype=like.dtype, device=like.device)
            self.arrays = [Tree.empty(capacity) for _ in range(count)]
            self.trees = [Tree(arrays, len(levels)) for arrays in self.arrays]
            self.at = torch.tensor([self.trees[n // self.unit].add(0) for n in range(len(like))])
            self.x = levels[0] * rng.normal(like)
        else:
            self.x, (self.means, self.at, *flat) = resume.x, resume.memory
            flat = [a.cpu() for a in flat]
            self.at = self.at.cpu()
            self.arrays = [tuple(flat[4 * i : 4 * i + 4]) for i in range(count)]  # type: ignore[misc]
            self.trees = [Tree(arrays, len(levels)) for arrays in self.arrays]

    def memory(self) -> tuple[Tensor, ...]:
        return (self.means, self.at, *(a for arrays in self.arrays for a in arrays))

    def depths(self) -> list[int]:
        return [int(self.trees[n // self.unit].depth[node]) for n, node in enumerate(self.at.tolist())]

    def denoise(self, network: Guidance) -> Tensor:
        """The denoised image of each worker, level by level."""
        depths = torch.tensor(self.depths())
        x0 = torch.empty_like(self.x)
        for depth in depths.unique().tolist():
            rows = (depths == depth).nonzero()[:, 0].to(self.x.device)
            x0[rows] = network.denoise(self.x[rows], self.levels[depth - 1])
        return x0

    def grow(self, x0: Tensor, measurement: Measurement) -> None:
        """Enter what was denoised, finish paths that ended, and give every worker its next image."""
        depths = self.depths()
        kept = x0.clone()
        for n, depth in enumerate(depths):
            if depth < len(self.levels):
                t, s = self.levels[depth - 1], self.levels[depth]
                kept[n] = x0[n] + (s / t) ** 2 * (self.x[n] - x0[n])
        tree_of = torch.arange(len(depths)) // self.unit
        self.means[tree_of.to(x0.device), self.at.to(x0.device)] = kept
        ended = [n for n, depth in enumerate(depths) if depth == len(self.levels)]
        if ended:
            values = measurement.take(ended).log_likelihood(x0[ended]).double().tolist()
            for n, value in zip(ended, values, strict=True):
                self.trees[n // self.unit].back_up(int(self.at[n]), value)
        parents = self.at.tolist()
        for n, depth in enumerate(depths):
            if depth == len(self.levels):
                parents[n] = self.trees[n // self.unit].place(self._uniform(n), self.options.width, self.options.power)
        self._descend(parents)

    def finish(self) -> None:
        """Put each worker below the node above a leaf that it finds by the values."""
        trees = [self.trees[n // self.unit] for n in range(len(self.x))]
        if all(tree.value[0] > NONE for tree in trees):
            self._descend([tree.parent[tree.leaf(self._uniform(n))] for n, tree in enumerate(trees)])

    def _descend(self, parents: list[int]) -> None:
        """Give each worker a new child of a node: ``x = mean + std n``."""
        tree_of = torch.arange(len(parents)) // self.unit
        mean = self.means[tree_of.to(self.x.device), torch.tensor(parents, device=self.x.device)]
        scale = torch.empty(len(parents), dtype=self.x.real.dtype)
        for n, parent in enumerate(parents):
            tree = self.trees[n // self.unit]
            depth = int(tree.depth[parent])
            scale[n] = self.levels[0] if depth == 0 else _fresh(self.levels[depth - 1], self.levels[depth])
            self.at[n] = tree.add(parent)
        scale = scale.to(self.x.device).reshape(-1, *[1] * (self.x.ndim - 1))
        self.x = mean + scale * self.rng.normal(self.x)

    def _uniform(self, n: int) -> Callable[[], float]:
        """Uniform numbers of worker n."""
        rng, device = self.rng.generators[n], self.rng.device
        return lambda: float(torch.rand(1, generator=rng, dtype=torch.float64, device=device))


def _fresh(t: float, s: float) -> float:
    return s * math.sqrt(1 - (s / t) ** 2)
