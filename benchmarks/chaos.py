"""Score-based assimilation of chaotic systems against a large particle filter, which knows the transition.

    python benchmarks/chaos.py [--json chaos.json]

A denoiser of windows, trained on trajectories, is composed into long ones (`invdiff.priors.windows`) and told a few
noisy components: by moment matching (mmps), and by populations of particles that correct it (smc). The filter has the
exact transition and a hundred thousand particles. Two windows tell apart what is lost: the longer is the whole
trajectory, where nothing is composed; and smc makes up for what moment matching leaves.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import write
from torch import Tensor, nn

import invdiff
from invdiff.datasets.phantoms.dynamics import Step, lorenz63, lorenz96, trajectory
from invdiff.measurement import Measurement
from invdiff.metrics.ensemble import crps
from invdiff.networks.internal import TimeFeatures
from invdiff.networks.precondition import Preconditioned
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.priors.base import Prior
from invdiff.priors.windows import ComposedWindows
from invdiff.samplers.base import Sampler
from invdiff.samplers.named import sampler as named
from invdiff.samplers.smc import SMC
from invdiff.validation.particle_filter import Filtered, particle_filter
from invdiff.validation.sliced import project, slices, wasserstein


class System(NamedTuple):
    """A system in standardised units: its step, size, noise a step, the observed components and their error."""

    name: str
    step: Step
    size: int
    noise: float
    seen: tuple[int, ...]
    every: int
    error: float
    length: int


SYSTEMS = (
    System("lorenz63", lorenz63(0.05), 3, 0.05, (0,), 4, 0.1, 17),
    System("lorenz96", lorenz96(0.05), 6, 0.05, (0, 2, 4), 4, 0.2, 17),
)

WINDOWS = (9,)  # states that the network sees at once; and the whole trajectory


class Windows(nn.Module):
    """A residual perceptron on flattened windows, told log sigma."""

    def __init__(self, size: int, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.time = TimeFeatures(4)
        self.enter = nn.Linear(size + self.time.size, width)
        self.inner = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(depth))
        self.leave = nn.Linear(width, size)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        h = self.enter(torch.cat([x.flatten(1), self.time(c_noise / 2)], 1))
        for layer in self.inner:
            h = h + nn.functional.silu(layer(h))
        return self.leave(h).reshape(x.shape)


class WindowPrior(Prior):
    """The trained denoiser of windows ``(2k + 1, size)``."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        self.network, self.sample_shape = network.eval().requires_grad_(False), shape
        self.sigma_min, self.sigma_max, self.scale = 0.005, 20.0, 1.0

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        out: Tensor = self.network(x, sigma.expand(len(x)))
        return out


def standardised(system: System, rng: torch.Generator) -> tuple[Step, Tensor]:
    """The step in units of the climate's deviation, and states of the climate ``(N, size)``."""
    raw = trajectory(system.step, 3 * torch.randn(512, system.size, generator=rng) + 2.0, 200)[100:]
    mean, std = raw.mean((0, 1)), raw.std((0, 1))

    def step(x: Tensor) -> Tensor:
        return (system.step(x * std + mean) - mean) / std

    return step, ((raw[-1] - mean) / std)


def trained(
    system: System, step: Step, climate: Tensor, size: int, seconds: float, rng: torch.Generator
) -> WindowPrior:
    """A denoiser of windows of `size` states, after `seconds` of training on trajectories that go on meanwhile."""
    x_of, last = climate[:, None], climate
    torch.manual_seed(0)
    net = Preconditioned(Windows(size * system.size), 1.0)
    average = [p.detach().clone() for p in net.parameters()]
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, betas=(0.9, 0.99))
    began, count = time.process_time(), 0
    while (spent := (time.process_time() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * max(0.01, min(1.0, 2 * (1 - spent)))
        if count % 400 == 0:
            data = trajectory(step, last, 100, system.noise, rng)
            x_of, last = data.transpose(0, 1), data[-1]  # (N, time, size)
        count += 1
        rows = torch.randint(x_of.shape[0], (512,), generator=rng)
        start = torch.randint(x_of.shape[1] - size, (512, 1), generator=rng)
        x = x_of[rows[:, None], start + torch.arange(size)]
        sigma = (torch.randn(512, generator=rng) * 1.6 - 1.2).exp().clamp(0.003, 30)
        noisy = x + sigma[:, None, None] * torch.randn(x.shape, generator=rng)
        loss = (net.weight(sigma) * (net(noisy, sigma) - x).square().mean((1, 2))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        torch._foreach_lerp_(average, [p.detach() for p in net.parameters()], 0.002)
    with torch.no_grad():
        for p, a in zip(net.parameters(), average, strict=True):
            p.copy_(a)
    return WindowPrior(net, (size, system.size))


class Case(NamedTuple):
    """A truth ``(length, size)``, what is seen of it, and trajectories of the filter."""

    truth: Tensor
    measurement: Measurement
    judge: Filtered


def cases_of(
    system: System, step: Step, climate: Tensor, count: int, particles: int, draws: int, rng: torch.Generator
) -> list[Case]:
    """Truths, data and the filter's posteriors, two lots of draws each."""
    times = list(range(0, system.length, system.every))
    mask = torch.zeros(system.length, system.size, dtype=torch.bool)
    mask[:: system.every, list(system.seen)] = True
    operator = Identity((system.length, system.size))[mask]

    def move(x: Tensor, rng: torch.Generator) -> Tensor:
        return step(x) + system.noise * torch.randn(x.shape, generator=rng)

    found = []
    for _ in range(count):
        begin = climate[torch.randint(len(climate), (1,), generator=rng)]
        truth = trajectory(step, begin, system.length - 1, system.noise, rng)[:, 0]
        y = mask * (truth + system.error * torch.randn(truth.shape, generator=rng))
        seen = y[mask].reshape(len(times), -1)
        likelihood = {
            t: lambda x, o=seen[i]: -0.5 * ((x[:, list(system.seen)] - o) / system.error).square().sum(1)
            for i, t in enumerate(times)
        }
        # the initial distribution is the climate: many more states of it
        first = climate[torch.randint(len(climate), (particles,), generator=rng)]
        first = trajectory(step, first + 0.3 * torch.randn(first.shape, generator=rng), 40, system.noise, rng)[-1]
        judge = particle_filter(first, move, likelihood, system.length - 1, 2 * draws, rng)
        found.append(Case(truth, Measurement(y, operator, Gaussian(system.error)), judge))
    return found


def denoising_error(system: System, step: Step, climate: Tensor, prior: Prior, sigma: float) -> float:
    """Root mean square error of whole trajectories denoised at one noise level, the same ones for every prior."""
    rng = torch.Generator().manual_seed(6)
    x = trajectory(step, climate, 20 + system.length, system.noise, rng)[-system.length :].transpose(0, 1)
    noisy = x + sigma * torch.randn(x.shape, generator=rng)
    return float((prior.denoise(noisy, torch.tensor([sigma])) - x).square().mean().sqrt())


def scored(cases: list[Case], prior: Prior, sampler: Sampler, draws: int) -> dict[str, float]:
    """Figures of a sampler, means over the cases."""
    totals: dict[str, float] = {}
    directions = slices(math.prod(cases[0].truth.shape), 256, torch.Generator().manual_seed(5))
    for seed, (truth, measurement, judge) in enumerate(cases):
        done = invdiff.sample(measurement, prior, sampler, draws, seed=seed, progress=False, device="cpu")
        ours = torch.from_numpy(done.draws.values)
        exact, other = judge.paths[:draws], judge.paths[draws:]
        a, b, c = (project(v.flatten(1).double(), directions) for v in (ours, exact, other))
        spread = judge.paths.var(0).mean().sqrt()
        figures = {
            "mean_error_in_std": float((ours.mean(0) - judge.paths.mean(0)).square().mean().sqrt() / spread),
            "std_ratio": float((ours.var(0).mean() / judge.paths.var(0).mean()).sqrt()),
            "sliced_w2": wasserstein(a, b)[1],
            "sliced_w2_floor": wasserstein(c, b)[1],
            "crps": float(crps(ours, truth).mean()),
            "crps_particle_filter": float(crps(exact, truth).mean()),
            "rmse": float((ours.mean(0) - truth).square().mean().sqrt()),
            "rmse_particle_filter": float((judge.paths.mean(0) - truth).square().mean().sqrt()),
            "filter_ess": judge.ess,
            "filter_roots": float(judge.roots),
        }
        totals = {k: totals.get(k, 0.0) + v / len(cases) for k, v in figures.items()}
    return {k: round(v, 4) for k, v in totals.items()}


def rows_of(
    system: System,
    sizes: Sequence[int],
    seconds: float,
    particles: int,
    draws: int,
    count: int,
    kept: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of one system: each length of windows with each sampler. `kept`: a folder of trained networks."""
    rng = torch.Generator().manual_seed(4)
    step, climate = standardised(system, rng)
    cases = cases_of(system, step, climate, count, particles, draws, rng)
    for size in sizes:
        path = kept / f"{system.name}_{size}_{seconds:g}.pt" if kept else None
        window = WindowPrior(Preconditioned(Windows(size * system.size), 1.0), (size, system.size))
        if path and path.is_file():
            window.network.load_state_dict(torch.load(path, weights_only=True))
        else:
            window = trained(system, step, climate, size, seconds, rng)
            if path:
                torch.save(window.network.state_dict(), path)
        prior = ComposedWindows(window, system.length)
        error = {
            f"denoising_error_{s}": round(denoising_error(system, step, climate, prior, s), 4) for s in (0.1, 0.4, 1.0)
        }
        for name, nfe, sampler in (
            ("mmps", 64, named("mmps", 64)),
            ("smc", 256, SMC(256, unit=draws, particles=4)),  # one population: its draws weigh the same
        ):
            yield {
                "system": system.name, "states": system.size, "steps": system.length, "window": size, "sampler": name,
                "nfe": nfe, "observed": list(system.seen), "every": system.every, "error": system.error,
                "model_noise": system.noise, "particles": particles, "draws": draws, "cases": count,
                "training_seconds": seconds, "climate_crps": round(1 / math.sqrt(math.pi), 4),
                **error, **scored(cases, prior, sampler, draws),
            }  # fmt: skip


def particle_filter_rows(
    seconds: float = 120.0, particles: int = 100_000, draws: int = 64, cases: int = 3, kept: Path | None = None
) -> Iterator[dict[str, Any]]:
    """One row a system, window and sampler, as they come."""
    for composed in (False, True):
        for system in SYSTEMS:
            sizes = WINDOWS if composed else (system.length,)
            yield from rows_of(system, sizes, seconds, particles, draws, cases, kept)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0, help="of processor time to train each prior")
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--particles", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="a folder for the trained networks")
    args = parser.parse_args()
    rows = []
    for row in particle_filter_rows(args.seconds, args.particles, args.draws, args.cases, args.keep):
        rows.append(row)
        print(" ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        write(args.json, {"particle_filter": rows})


if __name__ == "__main__":
    main()
