"""Well-tempered ASBS in one call: from an energy and collective variables to weighted draws (arXiv 2510.11923).

The diffusion is trained on ``exp(-U/kT - V(s))`` while V grows where its own samples fall (`invdiff.bridges.bias`);
in the last stage V is frozen. Chains from its draws, in that V, give the answer with weights ``exp(+V(s))``. Without a
bias it is the plain sampler (Liu et al. 2025, arXiv 2506.22565), with a point source Adjoint Sampling (Havens et al.
2025, arXiv 2504.11713).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.bridges.asbs import Stage, Trainer, Training
from invdiff.bridges.bias import Bias
from invdiff.bridges.refine import advance, begin, walk
from invdiff.bridges.sde import Edm, Schedule
from invdiff.bridges.source import GaussianSource
from invdiff.bridges.target import Target
from invdiff.networks.equivariant import EquivariantField
from invdiff.networks.internal import InternalMLP
from invdiff.posterior import Posterior
from invdiff.random import generator

__all__ = ["as_posterior", "wt_asbs"]

STAGES = (Stage(40, 10), Stage(40, 10), Stage(30, 10), Stage(30, 10, height=0.5), Stage(20, deposit=False))


def wt_asbs(
    target: Target,
    bias: Bias | None = None,
    *,
    schedule: Schedule | None = None,
    source: float = 1.0,
    training: Training | None = None,
    networks: tuple[nn.Module, nn.Module | None] | None = None,
    data: Tensor | None = None,
    draws: int = 512,
    burn: int = 300,
    steps: int = 1000,
    every: int = 100,
    step: float = 0.3,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Posterior:
    """Sample a target, biased along its collective variables, and refine the draws by MALA in the final bias.

    Args:
        target: energy, kT, variables, restraints; `device` is where its energy works too.
        bias: empty or grown before (it goes on from there, and is changed); None for the plain sampler.
        schedule: noise of the base process, in the unit of x.
        source: standard deviation of the starting points; 0 for a point.
        training: stages and sizes; None for a small default.
        networks: control and corrector; None for small ones that fit the shape.
        data: samples to start from, where `training.warm` asks for them.
        draws: chains; each gives ``steps / every`` draws.
        burn, steps, every, step: of the chains, the last their first MALA step in the unit of x.
        seed: of all that is random.
        device: of networks and samples.

    Returns:
        Draws with ``log_weight`` (0 without bias), ``cv`` and ``energy`` (kT); `diagnostics` has energies, acceptance.
    """
    training = training or Training(STAGES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        control, corrector = networks or (_network(target), None if source == 0 else _network(target))
    rng = generator(seed, 1, device)
    start = GaussianSource(target.shape, source, target.mean_free)
    moved = None if corrector is None else corrector.to(device)
    trainer = Trainer(target, start, schedule or Edm(0.01, 3.0), control.to(device), moved, training, rng, bias, data)
    for _ in trainer.run():
        pass
    now = advance(target, bias, begin(target, trainer.sample(draws), step, rng), burn, rng, adapt=True)
    records = [(w.accepted, record) for w, record in walk(target, bias, now, steps, rng, every)]
    parts = [r for _, r in records]
    notes = {
        "energies": target.calls,
        "failed": target.failed,
        "accepted": sum(a for a, _ in records) / len(records),
    }
    return as_posterior(
        torch.cat([r.x for r in parts]),
        torch.cat([r.v for r in parts]),
        torch.cat([r.s for r in parts]),
        torch.cat([r.u for r in parts]),
        {"sampler": "wt-asbs" if bias is not None else "asbs", "seed": seed},
        notes,
    )


def as_posterior(
    x: Tensor,
    log_weight: Tensor,
    s: Tensor,
    u: Tensor,
    attrs: Mapping[str, Any] | None = None,
    diagnostics: Mapping[str, Any] | None = None,
) -> Posterior:
    """Wrap weighted samples: dimensions ``draw``, then ``component``, or ``atom`` and ``xyz``; u in kT."""
    import xarray as xr

    dims = ("draw", "component") if x.ndim == 2 else ("draw", "atom", "xyz")
    content = {
        "draws": xr.DataArray(x.detach().cpu().numpy(), dims=dims),
        "log_weight": xr.DataArray(log_weight.detach().cpu().numpy(), dims=("draw",)),
        "cv": xr.DataArray(s.detach().cpu().numpy(), dims=("draw", "variable")),
        "energy": xr.DataArray(u.detach().cpu().numpy(), dims=("draw",), attrs={"units": "kT"}),
    }
    return Posterior(xr.Dataset(content, attrs=dict(attrs or {})), diagnostics)


def _network(target: Target) -> nn.Module:
    if len(target.shape) == 1:
        return InternalMLP(target.shape[0])
    particles, dim = target.shape
    return EquivariantField(range(particles), dim)
