"""DW-4 and LJ-13 by the adjoint Schrödinger bridge sampler at reduced size, against long Markov chains of our own.

Published at full size on GPUs, 400 000 gradient steps (Liu et al. 2025, arXiv 2506.22565, Table 2): DW-4 W2 0.43 and
energy W2 0.20, LJ-13 1.59 and 1.99; Adjoint Sampling 0.62 and 0.55, 1.67 and 2.40. Here some 2000 steps on a CPU. W2 is
the 2-Wasserstein distance of configurations up to rotation, reflection and exchange, energy W2 that of the energies in
kT. Beside each figure stands its floor: as many samples of other long chains in the sampler's place. `refined` is what
the package reports: the same draws after MALA.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from invdiff.bridges.adjoint import clip
from invdiff.bridges.asbs import Stage, Trainer, Training
from invdiff.bridges.control import Paced
from invdiff.bridges.refine import advance, begin, walk
from invdiff.bridges.sde import Geometric
from invdiff.bridges.source import GaussianSource
from invdiff.bridges.target import Target
from invdiff.energies.analytic import LennardJones, PairwiseDoubleWell, pair_distances
from invdiff.energies.base import Energy
from invdiff.networks.equivariant import EquivariantField
from invdiff.random import generator

__all__ = ["clusters", "energy_w2", "shape_w2"]

DW4 = {
    "source": 1.6,
    "noise": (0.01, 1.5),
    "finest": 0.2,
    "reach": 9.0,
    "width": 24,
    "stages": (Stage(40, 4), Stage(40, 4), Stage(30)),
    "training": {"fresh": 256, "first": 1024, "buffer": 2048, "batch": 256, "updates": 20, "steps": 40, "rate": 5e-3},
    "chains": (400, 8000, 0.2),
    "draws": 400,
    "polish": 500,
}
LJ13 = {  # begins with bridge matching on short chains: a clash is worth 10^4 kT, and few steps do not unlearn it.
    # At this size adjoint matching, whose targets are mostly noise, does not better what the warm start gives.
    "source": 0.6,
    "noise": (0.01, 1.0),
    "finest": 0.05,
    "reach": 4.0,
    "width": 24,
    "warm": (64, 1200, 60),
    "stages": (Stage(0, 8), Stage(8, 3), Stage(8)),  # the corrector first: what the warm start gives is near the target
    "training": {"fresh": 128, "first": 384, "buffer": 1536, "batch": 128, "updates": 15, "steps": 50, "rate": 4e-3},
    "chains": (128, 8000, 0.03),
    "draws": 256,
    "polish": 500,
}


def clusters(quick: bool = False) -> dict[str, Any]:
    """Both systems."""
    found = {}
    for name, energy, setting in (("DW-4", PairwiseDoubleWell(), DW4), ("LJ-13", LennardJones(13), LJ13)):
        found[name] = _one(energy, setting, quick)
        print(name, found[name], flush=True)
    return found


def _one(energy: Energy, setting: dict[str, Any], quick: bool) -> dict[str, Any]:
    walkers, length, step = setting["chains"]
    length = length // 8 if quick else length
    target = Target(energy, mean_free=True, precision=torch.float32)
    truth = _chains(target, walkers, length, step, setting["source"], 7)
    truth_calls, energy.calls = energy.calls, 0
    began = time.perf_counter()
    trainer = _trainer(target, setting, quick)
    half, n = len(truth) // 2, setting["draws"]
    one, other = truth[:half], truth[half : half + n]
    energies = _energies(energy, one)
    curve = []
    for epoch in trainer.run():
        if epoch.kind == "adjoint" and epoch.number % 10 == 0:
            u = trainer.buffer.content["u"][-trainer.training.fresh :]
            point = {"energies": energy.calls, "seconds": round(time.perf_counter() - began, 1)}
            curve.append(point | {"energy_w2": energy_w2(u, energies)})
    calls, seconds = energy.calls, time.perf_counter() - began
    x = trainer.sample(n)
    polish = setting["polish"]
    polished = advance(
        target, None, begin(target, x, step, generator(0, 2)), polish, generator(0, 3), adapt=True
    ).found.x
    found: dict[str, Any] = {
        "energies": calls,
        "seconds": round(seconds, 1),
        "gradient_steps": len(trainer.plan) * trainer.training.updates,
        "energies_refined": energy.calls,
        "seconds_refined": round(time.perf_counter() - began, 1),
        "draws": n,
    }
    found["shape_samples"] = few = 30 if quick else (200 if target.shape[0] <= 4 else 60)
    for word, y in (("", x), ("_refined", polished), ("_floor", other)):
        found["energy_w2" + word] = energy_w2(_energies(energy, y), energies)
        found["shape_w2" + word] = shape_w2(y[:few], one[:few])
        found["distance_w1" + word] = _w1(pair_distances(y), pair_distances(one))
        found["median_energy" + word] = float(_energies(energy, y).median())
    return found | {"truth": {"chains": walkers, "steps": length, "energies": truth_calls}, "curve": curve}


def _trainer(target: Target, setting: dict[str, Any], quick: bool) -> Trainer:
    """The sampler, with data for a warm start where the setting asks for them; their energies are counted."""
    particles, dim = target.shape
    torch.manual_seed(0)
    schedule = Geometric(*setting["noise"])
    nets = [
        EquivariantField([0] * particles, dim, setting["width"], 16, 2, setting["reach"], chiral=False)
        for _ in range(2)
    ]
    control, corrector = Paced(nets[0], schedule, setting["finest"]), Paced(nets[1], schedule, schedule.total**0.5)
    walkers, steps, epochs = setting.get("warm", (0, 0, 0))
    data = _chains(target, walkers, steps, setting["chains"][2], setting["source"], 3, 10) if epochs else None
    stages = (Stage(8, 2), Stage(4)) if quick else setting["stages"]
    options = {"stages": stages, "warm": min(epochs, 5) if quick else epochs, "rate_end": 2e-4, **setting["training"]}
    source = GaussianSource(target.shape, setting["source"], mean_free=True)
    return Trainer(target, source, schedule, control, corrector, Training(**options), generator(0, 1), data=data)


def _chains(
    target: Target, walkers: int, steps: int, step: float, spread: float, seed: int, every: int = 200
) -> Tensor:
    """MALA chains from random starts that slid downhill first; a quarter is left out, the rest in random order."""
    rng = generator(seed)
    x = GaussianSource(target.shape, spread, mean_free=True).draw(walkers, rng).double()
    for _ in range(300):
        x = x - 2e-3 * clip(target.evaluate(x).gradient, 20.0, True)
    now = advance(target, None, begin(target, x, step / 2, rng), steps // 4, rng, adapt=True)
    kept = [record.x for _, record in walk(target, None, now, steps - steps // 4, rng, every=every)]
    whole = torch.cat(kept).float()
    return whole[torch.randperm(len(whole), generator=rng)]


def energy_w2(a: Tensor, b: Tensor) -> float:
    """2-Wasserstein distance of two samples of numbers, by 1000 quantiles."""
    levels = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    return float((a.double().quantile(levels) - b.double().quantile(levels)).square().mean().sqrt())


def shape_w2(a: Tensor, b: Tensor) -> float:
    """2-Wasserstein distance of two samples of clusters up to rotation, reflection, translation and exchange.

    Up to 4 particles: all exchanges with the best rotation each. More: exchange and rotation improve in turn.
    """
    a, b = (z.double() - z.double().mean(1, keepdim=True) for z in (a, b))
    cost = torch.stack([_distance2(x, b) for x in a])
    rows, columns = linear_sum_assignment(cost.numpy())
    return float(cost[rows, columns].mean().sqrt())


def _distance2(x: Tensor, others: Tensor) -> Tensor:
    particles = x.shape[0]
    if particles <= 4:
        orders = torch.tensor(list(itertools.permutations(range(particles))))
        best = torch.stack([_aligned(x[order].expand_as(others), others) for order in orders])
        return best.amin(0)
    return torch.stack([_alternate(x, y) for y in others])


def _alternate(x: Tensor, y: Tensor) -> Tensor:
    order = torch.cdist(x, x).sort(1).values  # a fingerprint of each particle's surroundings starts the match
    match = linear_sum_assignment(torch.cdist(order, torch.cdist(y, y).sort(1).values).numpy())[1]
    best = torch.tensor(float("inf"), dtype=x.dtype)
    for _ in range(5):
        u, _, vh = torch.linalg.svd(x.T @ y[match])
        turned = x @ (u @ vh)
        match = linear_sum_assignment(torch.cdist(turned, y).square().numpy())[1]
        best = torch.minimum(best, (turned - y[match]).square().sum())
    return best


def _aligned(x: Tensor, y: Tensor) -> Tensor:
    """``min over rotations and reflections |x Q - y|^2`` of pairs ``(N, particles, dim)``."""
    nuclear = torch.linalg.svdvals(x.transpose(1, 2) @ y).sum(1)
    return (x.square().sum((1, 2)) + y.square().sum((1, 2)) - 2 * nuclear).clamp_min(0)


def _energies(energy: Energy, x: Tensor) -> Tensor:
    calls = energy.calls
    u = energy(x.double())[0]
    energy.calls = calls  # what judges is not counted
    return u


def _w1(a: Tensor, b: Tensor) -> float:
    levels = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    pick = [z.double().flatten()[:200_000].quantile(levels) for z in (a, b)]
    return float((pick[0] - pick[1]).abs().mean())
