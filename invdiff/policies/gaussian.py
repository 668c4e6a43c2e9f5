"""Optimal design for linear-Gaussian beliefs: information (log-det), A- and D-optimality.

A Gaussian belief ``x = m + sum_k w_k f_k``, w standard normal, seen through the groups S has ``Cov[w | y_S] =
(I + K_S)^-1`` whatever the data say. Of particles, the Gaussian of their covariance is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.policies.base import greedily
from invdiff.policies.belief import Belief, half_logdet, quantities

__all__ = ["AOptimal", "DOptimal", "LogDet"]


class LogDet:
    """Maximise the expected information gain ``1/2 log det(I + K_S)``, greedily, with the true noise.

    As information is submodular, the greedy choice of any number of groups has at least 1 - 1/e of the largest
    information that as many can give (Krause, Singh and Guestrin, 2008). It is the Bayesian D-optimal design for x.
    """

    name, needs_belief = "logdet", True

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        del rng
        return greedily(belief, count, lambda chosen: self.scores(belief, chosen))

    def scores(self, belief: Belief, chosen: Sequence[int] = ()) -> Tensor:
        """Gain of each group beside those chosen, ``(groups,)``, in nats."""
        before = belief.at(chosen)
        return half_logdet(belief.k + before) - half_logdet(before)


class AOptimal:
    """Minimise the expected squared error ``tr Cov[q(x) | y_S]`` of x, or of a quantity q of it.

    Args:
        quantity: from events ``(N, *event)`` to ``(N, m)`` numbers that matter (the mean of a region); None for x. Of
            a Gaussian belief it must be linear; of particles, its spread over them counts.
    """

    name, needs_belief = "a-optimal", True

    def __init__(self, quantity: Callable[[Tensor], Tensor] | None = None) -> None:
        self.quantity = quantity

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        del rng
        v = quantities(belief, self.quantity)
        return greedily(belief, count, lambda chosen: -_remaining(belief, chosen, v).diagonal(dim1=-2, dim2=-1).sum(-1))


class DOptimal:
    """Minimise the volume of the belief, ``log det Cov[q(x) | y_S]``; for all of x that is `LogDet`.

    Args:
        quantity: as of `AOptimal`, with m below the number of particles; None for x.
    """

    name, needs_belief = "d-optimal", True

    def __init__(self, quantity: Callable[[Tensor], Tensor] | None = None) -> None:
        self.quantity = quantity

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups. Raises InputError for more numbers than the belief has directions."""
        if self.quantity is None:
            return LogDet()(belief, count, rng)
        v = quantities(belief, self.quantity)
        directions = len(v) - (0 if belief.is_gaussian else 1)
        if v.shape[1] > directions:
            raise InputError(
                f"D-optimality of {v.shape[1]} numbers under a belief of {directions} directions: their covariance has"
                " no inverse; use more particles, or A-optimality"
            )
        return greedily(belief, count, lambda chosen: -torch.linalg.slogdet(_remaining(belief, chosen, v))[1])


def _remaining(belief: Belief, chosen: Sequence[int], v: Tensor) -> Tensor:
    """``Cov[q | y_S]`` for each group beside those chosen; ``(groups, N, N)`` or ``(groups, m, m)``, whichever is less.

    With more numbers than directions the matrix is that of w, ``(I + K)^-1/2 V V^T (I + K)^-1/2``, of the same trace.
    """
    k = belief.k + belief.at(chosen)
    eye = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    root = torch.linalg.cholesky(k + eye)
    if v.shape[1] > len(v):
        v = torch.linalg.qr(v.mT, mode="r")[1].mT  # the same V V^T with N columns
    white = torch.linalg.solve_triangular(root, v.to(k).expand(len(k), *v.shape), upper=False)
    return white.mT @ white
