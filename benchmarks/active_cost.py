"""What a decision takes beside a network evaluation: belief and policy, timed in turns with the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from record import best

import invdiff
from invdiff.noise import Gaussian
from invdiff.operators.transforms import Fourier
from invdiff.policies import Belief, Candidates, Entropy, InformationGain, LogDet, Policy, Variance

PARTICLES = 16


def cost(report: Callable[[str], None], device: str = "cpu") -> dict[str, Any]:
    """Milliseconds at 64, 128 and 320 pixels a side, 16 particles, columns; the least of repeats that take turns."""
    out: dict[str, Any] = {"particles": PARTICLES, "device": device}
    prior = invdiff.load_prior("mri").to(device)
    policies: dict[str, Policy] = {
        "entropy": Entropy(), "variance": Variance(), "logdet": LogDet(), "infogain": InformationGain(),
    }  # fmt: skip
    for size in (64, 128, 320):
        op, noise = Fourier((1, size, size)), Gaussian(0.01)
        candidates = Candidates.along(op, -1)
        x = torch.randn(PARTICLES, 1, size, size, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        x = x.to(device)
        plan, rng = Belief.plan(candidates, (size // 2,), size // 8), torch.Generator().manual_seed(0)

        def decide(policy: Policy) -> Callable[[], object]:
            return lambda: policy(plan.of_particles(x, op, noise), 1, rng)  # noqa: B023 - called in this round

        def network() -> object:
            with torch.inference_mode():
                return prior.denoise(x, torch.ones(1, device=device))  # noqa: B023

        jobs = [network, *(decide(p) for p in policies.values())]
        times = best(jobs, 2.0 if size < 320 else 0.0, device)
        row = {"network_ms": 1e3 * times[0][0]}
        for name, (wall, processor) in zip(policies, times[1:], strict=True):
            row |= {f"{name}_ms": 1e3 * wall, f"{name}_share_of_a_step": processor / times[0][1]}
        out[f"{size}x{size}"] = row
        report(f"cost {size}: " + ", ".join(f"{k} {v:.3g}" for k, v in row.items()))
    return out
