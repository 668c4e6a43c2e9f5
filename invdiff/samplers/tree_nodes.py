"""The bookkeeping of a search tree over denoising paths: who is whose child, how often visited, of what value."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["NONE", "Tree"]

NONE = -math.inf  # the value of a node below which no path is finished


class Tree:
    """Nodes by number; node 0 is the root, at depth 0, and a node at depth `leaves` is a leaf.

    The arrays live in tensors that the tree changes in place, so that a checkpoint can hold them as they are.

    Args:
        arrays: parent, depth, visits (int64) and value (float64) of each node, shape ``(capacity,)``; `empty` makes
            them. An unused place has depth -1; a node without a finished path below it has value minus infinity.
        leaves: depth of the leaves.
    """

    def __init__(self, arrays: tuple[Tensor, Tensor, Tensor, Tensor], leaves: int) -> None:
        self.parent, self.depth, self.visits, self.value = (a.numpy() for a in arrays)
        self.leaves = leaves
        self.size = int((self.depth >= 0).sum())
        self.children: list[list[int]] = [[] for _ in range(self.size)]
        for node in range(1, self.size):
            self.children[self.parent[node]].append(node)

    @staticmethod
    def empty(capacity: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Arrays that hold the root only."""
        numbers = [torch.full((capacity,), fill, dtype=torch.int64) for fill in (-1, -1, 0)]
        numbers[1][0] = 0
        return numbers[0], numbers[1], numbers[2], torch.full((capacity,), NONE, dtype=torch.float64)

    def add(self, parent: int) -> int:
        """Put a new child under a node and return its number."""
        node, self.size = self.size, self.size + 1
        self.parent[node], self.depth[node] = parent, self.depth[parent] + 1
        self.children.append([])
        self.children[parent].append(node)
        return node

    def back_up(self, leaf: int, value: float) -> None:
        """Give a leaf its value; above it ``V = log mean exp`` of the children that have one."""
        self.value[leaf], self.visits[leaf] = value, 1
        node = int(self.parent[leaf])
        while node >= 0:
            known = self.value[self.children[node]]
            known = known[known > NONE]
            self.value[node] = np.logaddexp.reduce(known) - math.log(len(known))
            self.visits[node] += 1
            node = int(self.parent[node])

    def choose(self, node: int, uniform: float) -> int | None:
        """A child with probability ``~ exp V``, among those that have a value; None if none has."""
        children = [c for c in self.children[node] if self.value[c] > NONE]
        if not children:
            return None
        chance = np.exp(self.value[children] - self.value[children].max()).cumsum()
        return children[min(int(np.searchsorted(chance, uniform * chance[-1], side="right")), len(children) - 1)]

    def place(self, draw: Callable[[], float], width: float, power: float) -> int:
        """Where to put the next child: go down by `choose` until a node has fewer children than ``width visits^power``.

        A path that would end on a leaf ends above it: the leaf gets a sibling.
        """
        node = 0
        while len(self.children[node]) >= width * max(1, self.visits[node]) ** power:
            child = self.choose(node, draw())
            if child is None or self.depth[child] == self.leaves:
                break
            node = child
        return node

    def leaf(self, draw: Callable[[], float]) -> int:
        """A leaf, reached by `choose` at every node."""
        node = 0
        while self.depth[node] < self.leaves:
            child = self.choose(node, draw())
            assert child is not None  # the root has a value once one path is finished, and so on down
            node = child
        return node
