"""Free energies from samples, from a bias and by quadrature, with errors; all in kT.

A state is a box in collective-variable space, ``((low, high), ...)``, one interval per variable; None for an open end.
``delta_f = F(B) - F(A) = -ln (p_B / p_A)``: positive where B is the rarer one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError, missing_extra

__all__ = [
    "State",
    "delta_f_of_grid",
    "delta_f_of_samples",
    "effective_size",
    "inside",
    "jackknife",
    "mbar",
    "pmf_difference",
    "pmf_of_samples",
    "quadrature",
]

State = Sequence[tuple[float | None, float | None]]


def inside(s: Tensor, state: State) -> Tensor:
    """Return which rows of s ``(..., k)`` lie in a state; an interval with low above high wraps round a period."""
    if s.shape[-1] != len(state):
        raise ShapeError(f"a state of {len(state)} intervals for {s.shape[-1]} collective variables; one each, please")
    yes = torch.ones(s.shape[:-1], dtype=torch.bool, device=s.device)
    for i, (low, high) in enumerate(state):
        above = torch.ones_like(yes) if low is None else s[..., i] >= low
        below = torch.ones_like(yes) if high is None else s[..., i] < high
        wraps = low is not None and high is not None and low > high
        yes &= (above | below) if wraps else (above & below)
    return yes


def delta_f_of_samples(s: Tensor, log_weight: Tensor, a: State, b: State) -> float:
    """``-ln (W_B / W_A)`` of samples s ``(..., k)`` with log-weights ``(...)``; infinite where a state is empty."""
    s, w = s.reshape(-1, s.shape[-1]), log_weight.reshape(-1).double()
    in_a, in_b = (_log_sum(w[inside(s, state)]) for state in (a, b))
    return in_a - in_b if in_a > -math.inf or in_b > -math.inf else math.nan


def delta_f_of_grid(f: Tensor, axes: Sequence[Tensor], a: State, b: State) -> float:
    """The same of a free energy f on a grid, ``-ln (sum_B e^-f / sum_A e^-f)``.

    A grid point stands for its cell, so edges of states are met to half a spacing.
    """
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).to(f)
    return delta_f_of_samples(points, -f, a, b)


def effective_size(log_weight: Tensor) -> float:
    """Kish's effective number of samples, ``(sum w)^2 / sum w^2``."""
    w = (log_weight.double() - log_weight.double().max()).exp()
    return float(w.sum() ** 2 / w.square().sum())


def jackknife(s: Tensor, log_weight: Tensor, a: State, b: State, blocks: int | None = None) -> tuple[float, float]:
    """Free-energy difference and its standard error, leaving out one block after the other.

    Args:
        s: ``(n, ..., k)``; the first axis holds what is independent (chains, or stretches of one chain).
        log_weight: ``(n, ...)``.
        a, b: states.
        blocks: how many blocks along the first axis; None for one per row.

    Returns:
        The difference of all samples and its error; infinite where a block holds all there is of a state.
    """
    n = s.shape[0]
    blocks = min(n, blocks or n)
    if blocks < 2:
        raise InputError("one block tells no error; jackknife expects 2 independent rows at least")
    s, w = s.double(), log_weight.double()
    shift = w.max()
    inner = tuple(range(1, w.ndim))
    sums = [
        ((w - shift).exp() * inside(s, state)).sum(inner) if inner else (w - shift).exp() * inside(s, state)
        for state in (a, b)
    ]
    part_a, part_b = (torch.stack([p.sum() for p in x.tensor_split(blocks)]) for x in sums)
    every = float(torch.log(part_a.sum()) - torch.log(part_b.sum()))
    left = torch.log(part_a.sum() - part_a) - torch.log(part_b.sum() - part_b)
    if not bool(torch.isfinite(left).all()):
        return every, math.inf
    return every, float(((blocks - 1) / blocks * (left - left.mean()).square().sum()).sqrt())


def pmf_of_samples(s: Tensor, log_weight: Tensor, edges: Sequence[Tensor]) -> Tensor:
    """Free energy ``-ln p(s)`` on bins (their edges given), the minimum 0 and infinite where no sample fell."""
    values = s.reshape(-1, s.shape[-1]).double().cpu().numpy()
    w = log_weight.reshape(-1).double().cpu()
    density, _ = np.histogramdd(values, bins=[e.numpy() for e in edges], weights=(w - w.max()).exp().numpy())
    with np.errstate(divide="ignore"):
        f = -np.log(density)
    return torch.from_numpy(f - f.min())


def pmf_difference(f: Tensor, truth: Tensor, below: float = 6.0) -> float:
    """Mean absolute difference in kT where the truth lies within `below` of its minimum, after the best shift."""
    where = (truth - truth.min() < below) & torch.isfinite(f)
    difference = (f - truth)[where]
    return float((difference - difference.median()).abs().mean())


def quadrature(
    potential: Callable[[Tensor], Tensor],
    limits: Sequence[tuple[float, float]],
    a: State,
    b: State,
    points: int = 800,
    variable: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Exact ``F(B) - F(A)`` of a potential in kT on few dimensions.

    Args:
        potential: U ``(N, d) -> (N,)`` in kT.
        limits: box that holds practically all of ``exp(-U)``.
        a, b: states.
        points: midpoints per dimension.
        variable: s(x), ``(N, d) -> (N, k)``; None where the states are boxes in x itself.
    """
    axes = [low + (torch.arange(points, dtype=torch.float64) + 0.5) * (high - low) / points for low, high in limits]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    with torch.no_grad():
        u = torch.cat([potential(part) for part in x.split(200_000)])
    return delta_f_of_samples(x if variable is None else variable(x), -u, a, b)


def mbar(reduced: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Log-weights for the unbiased density of samples from several biased runs together (Shirts, Chodera 2008).

    Args:
        reduced: biases in kT, ``(K runs, n samples)``: entry (k, j) is the bias of run k at sample j. The samples stand
            in the order of their runs.
        counts: samples per run.

    Returns:
        Log-weights ``(n,)`` whose exponentials sum to 1.

    Raises:
        ShapeError: the counts do not add up. MissingExtraError: pymbar is not installed.
    """
    runs, n = reduced.shape
    if len(counts) != runs or sum(counts) != n:
        raise ShapeError(f"mbar got biases of shape {reduced.shape} and counts {list(counts)}; they do not fit")
    try:
        import logging

        logging.getLogger("pymbar").setLevel(logging.ERROR)
        from pymbar import MBAR
    except ImportError as error:
        raise missing_extra("pymbar", "molecules", "combining biased runs") from error
    # The unbiased density enters as one more state, without samples: u = 0.
    estimator = MBAR(np.vstack([reduced, np.zeros(n)]), np.array([*counts, 0]), solver_protocol="robust")
    log_weight = np.asarray(estimator.Log_W_nk)[:, -1]
    found: np.ndarray = log_weight - np.logaddexp.reduce(log_weight)
    return found


def _log_sum(w: Tensor) -> float:
    return float(torch.logsumexp(w, 0)) if len(w) else -math.inf
