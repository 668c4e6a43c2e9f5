"""What a step costs beyond the network and the operator, for guidance without inner solves.

    OMP_NUM_THREADS=1 python benchmarks/guidance_overhead.py [--json benchmarks/results/guidance_overhead.json]

Inpainting of half the pixels with a denoiser of one multiplication, so that next to nothing is network or operator.
`step_ms` is a whole step of the sampler, noise included; `network_ms` and `operator_ms` are what its denoiser
evaluation (with its gradient where the method takes one) and its operator applications (or the user's penalty) cost
alone, `overhead_ms` the rest. All are the least of many repeats on one thread; the cases take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from record import best, write
from torch import Tensor

from invdiff.guidance import DDNM, TMPD, DiffPIR, PiGDM, Steered, WeightedH
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.priors.base import Prior
from invdiff.random import Streams, generator
from invdiff.samplers.base import Sampler
from invdiff.samplers.ddnm_plus import DDNMPlus
from invdiff.samplers.ddrm import DDRM
from invdiff.samplers.dps import DPS
from invdiff.samplers.guided import Guided
from invdiff.solvers import DDIM, Renoise

STEPS = 25
LIMIT_MS = {64: 0.1, 256: 0.4}


class Shrink(Prior):
    """x ~ N(0, 1)."""

    sigma_min, sigma_max = 0.01, 20.0

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return ``x / (1 + sigma^2)``."""
        return x / (1 + sigma**2)


# name: sampler, gradients of the network, forward and adjoint applications of the operator a step
CASES: dict[str, tuple[Callable[[], Sampler], int, int]] = {
    "dps": (lambda: DPS(nfe=STEPS), 1, 2),
    "ddnm": (lambda: Guided(DDNM, DDIM(0.85), STEPS, uses_vjp=False), 0, 2),
    "diffpir": (lambda: Guided(DiffPIR, Renoise(0.3), STEPS, uses_vjp=False), 0, 2),
    "pigdm": (lambda: Guided(PiGDM, DDIM(1.0), STEPS), 1, 5),
    "tmpd": (lambda: Guided(TMPD, DDIM(1.0), STEPS), 2, 4),
    "ddrm": (lambda: DDRM(nfe=STEPS), 0, 0),
    "ddnm-plus": (lambda: DDNMPlus(nfe=STEPS), 0, 0),
    "weighted-h": (
        lambda: Guided(partial(WeightedH, reference=lambda m: m.operator.adjoint(m.data)), DDIM(1.0), STEPS), 0, 0,
    ),
    "steered": (lambda: Guided(partial(Steered, penalty=_energy, network_gradient=False), DDIM(1.0), STEPS), 0, 0),
    "steered-network": (lambda: Guided(partial(Steered, penalty=_energy), DDIM(1.0), STEPS), 1, 0),
}  # fmt: skip


def _energy(x: Tensor) -> Tensor:
    return 0.01 * x.square().flatten(1).sum(1)


def measure(side: int, seconds: float) -> list[dict[str, object]]:
    """The rows of one image size."""
    op = Inpainting(torch.rand(side, side, generator=generator(0)) < 0.5, (1, side, side))
    y = torch.randn(op.range_shape, generator=generator(1))
    measurement = Measurement(op.forward(op.adjoint(y[None]))[0], op, Gaussian(0.1))
    prior, like, level = Shrink(), torch.empty(1, 1, side, side), torch.full((1,), 0.7)
    x = torch.randn(like.shape, generator=generator(2))
    leaf = x.clone().requires_grad_(True)

    def run(name: str) -> None:
        sampler = CASES[name][0]()
        with torch.no_grad() if sampler.uses_vjp else torch.inference_mode():
            for _ in sampler.steps(prior, measurement, like, rng):
                pass

    def evaluate() -> Tensor:
        with torch.inference_mode():
            return prior.denoise(x, level)

    def differentiate() -> Tensor:
        with torch.enable_grad():
            return torch.autograd.grad(prior.denoise(leaf, level), leaf, x)[0]

    def apply() -> Tensor:
        with torch.inference_mode():
            return op.adjoint(op.forward(x))

    def penalise() -> Tensor:
        with torch.enable_grad():
            return torch.autograd.grad(_energy(leaf).sum(), leaf)[0]

    def often(job: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: [job() for _ in range(STEPS)]

    rng = Streams(0, [0])
    jobs: dict[str, Callable[[], object]] = {name: partial(run, name) for name in CASES}
    parts = {
        "evaluation": evaluate, "gradient": differentiate, "operator": apply, "penalty": penalise,
        "noise": lambda: rng.normal(x),
    }  # fmt: skip
    jobs |= {name: often(job) for name, job in parts.items()}
    times = {n: 1e3 * wall / STEPS for n, (wall, _) in zip(jobs, best(list(jobs.values()), seconds), strict=True)}
    rows: list[dict[str, object]] = []
    for name, (_, gradients, applications) in CASES.items():
        network = times["gradient" if gradients else "evaluation"] * max(1, gradients)
        operator = applications / 2 * times["operator"]
        step, penalty = times[name], times["penalty"] if name.startswith("steered") else 0.0
        overhead = step - network - operator - penalty
        rows.append(
            {
                "method": name, "side": side, "step_ms": step, "network_ms": network, "operator_ms": operator + penalty,
                "overhead_ms": overhead, "noise_ms": times["noise"], "limit_ms": LIMIT_MS[side],
                "within": overhead <= LIMIT_MS[side],
            }
        )  # fmt: skip
    return rows


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each image size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for side in LIMIT_MS for row in measure(side, options.seconds)]
    for row in rows:
        cells = [f"{k[:-3]} {row[k]:.3f}" for k in row if k.endswith("_ms")]
        print(f"{row['method']:16} 1x{row['side']}^2, ms: " + ", ".join(cells))
    write(options.json, {"rows": rows})


if __name__ == "__main__":
    main()
