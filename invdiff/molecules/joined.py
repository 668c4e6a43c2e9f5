"""Runs from several seeds, each in the frozen bias that it came to, joined into one set of weighted samples by MBAR.

Every bias has a constant of its own, so the runs' own weights ``exp(V_k)`` may not stand side by side. The multistate
Bennett acceptance ratio (Shirts, Chodera 2008, doi 10.1063/1.2978177; pymbar) takes the samples as one mixture,
``w(x) = 1 / sum_k N_k exp(f_k - V_k(s))``, with the free energies f_k of the biased ensembles such that all agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.bridges.bias import Bias
from invdiff.errors import MissingExtraError
from invdiff.metrics.free_energy import State, delta_f_of_samples, mbar
from invdiff.molecules.keeping import SeedRun

__all__ = ["Joined", "join"]

_THIN = 4000  # frames of a run that determine its f_k; all frames count in what is reported
_BLOCKS = 20


@dataclass(frozen=True)
class Joined:
    """The free-energy difference of all runs together and its error in kT, and log-weights ``(walkers, times)`` each.

    `method` is ``one run``, ``mbar``, or ``each run by itself`` where pymbar is not installed.
    """

    delta_f: float
    stderr: float
    log_weights: list[Tensor]
    method: str


def join(runs: list[SeedRun], a: State, b: State) -> Joined:
    """Return the runs' chains as one weighted sample; the error leaves out a twentieth of the chains at a time."""
    biases = [run.bias for run in runs if run.bias is not None]
    own = [run.chains["v"].double() for run in runs]
    if len(runs) < 2 or len(biases) < len(runs):
        return Joined(math.nan, math.nan, own, "one run")
    s = [run.chains["s"] for run in runs]
    u = [_biases(biases, x) for x in s]
    try:
        weights = _weights(u)
    except MissingExtraError:
        return Joined(math.nan, math.nan, [v - torch.logsumexp(v.flatten(), 0) for v in own], "each run by itself")
    whole = _difference(s, weights, a, b)
    left = []
    blocks = min(_BLOCKS, *(x.shape[0] for x in s))
    for block in range(blocks):
        rows = [torch.arange(x.shape[0]) % blocks != block for x in s]
        others = [x[r] for x, r in zip(s, rows, strict=True)]
        left.append(_difference(others, _weights([x[:, r] for x, r in zip(u, rows, strict=True)]), a, b))
    values = torch.tensor(left, dtype=torch.float64)
    spread = float(((blocks - 1) / blocks * (values - values.mean()).square().sum()).sqrt())
    return Joined(whole, spread if math.isfinite(spread) else math.inf, weights, "mbar")


def _biases(biases: list[Bias], s: Tensor) -> Tensor:
    """Every bias at every frame, ``(runs, walkers, times)`` in kT."""
    flat = s.reshape(-1, s.shape[-1])
    return torch.stack([bias(flat)[0].double().reshape(s.shape[:2]) for bias in biases])


def _weights(u: list[Tensor]) -> list[Tensor]:
    """Log-weights of all frames from biases ``(runs, walkers, times)`` of each run's frames."""
    parts = [x.flatten(1) for x in u]
    parts = [x[:, :: -(-x.shape[1] // _THIN)] for x in parts]
    thin = torch.cat(parts, 1)
    weight = torch.from_numpy(mbar(thin.numpy(), [x.shape[1] for x in parts]))
    f = -torch.logsumexp(weight - thin, 1)  # the weights stand for the unbiased density, whose f is 0
    counts = torch.tensor([x[0].numel() for x in u], dtype=torch.float64)
    return [-torch.logsumexp((counts.log() + f)[:, None, None] - x, 0) for x in u]


def _difference(s: list[Tensor], weights: list[Tensor], a: State, b: State) -> float:
    flat = torch.cat([x.reshape(-1, x.shape[-1]) for x in s])
    return delta_f_of_samples(flat, torch.cat([w.flatten() for w in weights]), a, b)
