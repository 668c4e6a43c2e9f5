"""The one-step oracle: it knows the truth, and marks what no policy of one step can pass by much."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.noise import Gaussian
from invdiff.policies.base import greedily
from invdiff.policies.belief import Belief, gather, quantities

__all__ = ["Oracle"]


class Oracle:
    """Choose the group whose data, known beforehand, bring the particles' mean nearest to the truth.

    The mean is updated linearly in the span of the particles (an ensemble Kalman step without noise in the data):
    ``w = (I + K_S)^-1 Z_S^T (z - m)``, and the error left is ``|x - mean - X^T w|^2``.

    Args:
        truth: the event ``(*event)``, in the instrument's unit.

    Raises:
        InputError: its shape is not that of the particles.
    """

    name, needs_belief = "oracle", True

    def __init__(self, truth: Tensor) -> None:
        self.truth = truth

    def __call__(self, belief: Belief, count: int, rng: torch.Generator) -> list[int]:
        """Return the next groups."""
        del rng
        x, operator = belief.x, belief.operator
        if x is None or operator is None or belief.is_gaussian or x.shape[1:] != self.truth.shape:
            raise InputError(f"the oracle knows a truth of shape {tuple(self.truth.shape)} and needs particles like it")
        truth = self.truth.to(x) * belief.unit
        joined = torch.cat([x, truth[None]])
        z = gather(operator.forward(joined), belief.candidates, Gaussian(belief.sigma))
        scale = (len(x) - 1) ** 0.5
        mean = z[:-1].mean(0)
        pull = torch.einsum("ngs,gs->gn", z[:-1] - mean, z[-1] - mean) / scale
        v = quantities(belief, None)
        t = _gap(truth, x)
        reach, gram = v @ t, v @ v.mT

        def score(chosen: list[int]) -> Tensor:
            index = [*belief.pending, *chosen]
            k = belief.k + belief.at(chosen)
            eye = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
            w = torch.linalg.solve(k + eye, (pull + pull[index].sum(0))[..., None])[..., 0]
            return 2 * w @ reach - ((w @ gram) * w).sum(-1)

        return greedily(belief, count, score)  # type: ignore[arg-type]


def _gap(truth: Tensor, x: Tensor) -> Tensor:
    """``truth - mean of x`` as a real vector in double precision."""
    gap = (truth - x.mean(0)).flatten()
    return (torch.view_as_real(gap).flatten() if gap.is_complex() else gap).double()
