"""What each solver needs: order of convergence, and evaluations to come within 5 % of the converged sliced W2.

    python benchmarks/solvers.py [--json benchmarks/results/solvers.json] [--draws 1000] [--repeats 4]

Two priors with exact denoisers, eight entries each: `gaussian`, variances from 0.05 to 5; `mixture`, the 25 unit modes
on a lattice (arXiv 2308.07983), standard deviation 11. Unguided: what is measured is the solver alone. All run from
pure noise on the Karras grid (rho 7) over the prior's own range of noise; 64 directions.

- `order`: log2 of the ratio of the errors at 80 and 160 steps, geometric from 10 to 0.05, on the Gaussian prior; the
  error is that of the variance of x at the end, worst direction, without sampling error (the solver is run on one-hot
  noise, to which it is linear). About 0: an error stays however many steps are taken, or none is left.
- `nfe`: the least number of evaluations tried from which on sliced W2 of `draws` draws to as many exact ones is within
  5 % of the converged value, that of 400 steps of UniPC. None ("-") if not by 400.
  On the Gaussian prior the law of the draws is known, so that ``W2^2 = W2^2 of the laws + (exact against exact)^2``
  has no noise. On the mixture draws are compared; deterministic solvers start from the same noise as the converged
  run, and their ratio to it is sure to a percent, but a stochastic solver's is to the draws' own chance only, `chance`
  (standard error of exact against exact), so that its number says little more than the order of magnitude.
- what is fitted (DPM-Solver-v3, DC-Solver, time shift, the searched schedule) is fitted anew for each number of steps
  on 32 pilot draws, whose evaluations are not in `nfe`; the search goes up to 20 steps.

The plot is written beside the JSON file, with the suffix .png.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

from invdiff.priors.gaussian import GaussianPrior
from invdiff.random import Streams, generator
from invdiff.schedules import geometric, karras
from invdiff.solvers import (
    DDIM,
    DEIS,
    DPMpp2M,
    DPMv3,
    DualFast,
    LangevinPC,
    UniPC,
    fit_ratios,
    fit_time_shift,
    model_statistics,
    named_solver,
    search,
    solver_names,
)
from invdiff.solvers.base import Denoise, steps_within
from invdiff.validation.mixture import lattice_prior
from invdiff.validation.sliced import project, slices, wasserstein

NFE = [4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 130, 160, 200, 260, 320, 400]
MOST_SAMPLED = 130  # evaluations where draws are made: beyond, they cost minutes
SEARCHED = 20  # steps up to which the schedule is searched
PILOTS = 32
VARIANCES = torch.tensor([0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0], dtype=torch.float64)

Fit = Callable[[Denoise, Tensor, list[float], Streams], Any]

PLAIN: dict[str, Callable[[], Any]] = {
    **{name: partial(named_solver, name) for name in solver_names()},
    "rho-ab3": lambda: DEIS(3, 1.0),
    "unipc2": lambda: UniPC(2),
    "dualfast euler": lambda: DualFast(DDIM(0.0)),
    "langevin dpmpp2m-sde": lambda: LangevinPC(DPMpp2M(1.0)),
}
# Fitted on pilot noise at the first level of a grid, all of one evaluation a step.
FITTED: dict[str, Fit] = {
    "dpmv3 pooled": lambda d, x, grid, rng: DPMv3(model_statistics(d, x, grid, rng)),
    "dpmv3 each entry": lambda d, x, grid, rng: DPMv3(model_statistics(d, x, grid, rng, pooled=False)),
    "dc-unipc": fit_ratios,
    "time shift euler": partial(fit_time_shift, DDIM(0.0)),
    "time shift dpmpp2m": partial(fit_time_shift, DPMpp2M()),
    "searched": search,
}


def ready(name: str, denoise: Denoise, grid: list[float], dtype: torch.dtype) -> Any:
    """The solver of that name, fitted for the grid where it has to be."""
    if name in PLAIN:
        return PLAIN[name]()
    pilots = grid[0] * torch.randn(PILOTS, 8, dtype=dtype, generator=generator(1))
    return FITTED[name](denoise, pilots, grid, Streams(1, range(PILOTS)))


class _Noise(Streams):
    """One generator for the whole batch: thousands of draws, none of which is looked at alone."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, [0])

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generators[0], dtype=like.dtype)


class _OneHot(Streams):
    """The k-th draw of noise is 1 in row k + 1, so that the end's rows are the response to each source of noise."""

    def __init__(self) -> None:
        super().__init__(0, [0])
        self.calls = 0

    def normal(self, like: Tensor) -> Tensor:
        self.calls += 1
        out = torch.zeros_like(like)
        out[self.calls] = 1
        return out


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """Denoiser of independent entries of variances VARIANCES."""
    return x * (VARIANCES / (VARIANCES + sigma**2)).to(x.dtype)


def law(solver: Any, grid: list[float], start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of x after so many steps on the Gaussian prior, from deviations `start`."""
    x = torch.zeros(4 * steps + 4, 8, dtype=torch.float64)
    x[0] = start
    last = next(s.x for s in solver.steps(gaussian, x, grid, _OneHot()) if s.step == steps)
    mean = last[-1]  # the response to nothing
    return mean, ((last - mean) ** 2).sum(0)


def order(name: str) -> float | None:
    """Order in which the variance of the end converges on the Gaussian prior."""

    def error(steps: int) -> float:
        grid = geometric(0.05, 10.0, steps + 1)
        solver = ready(name, gaussian, grid, torch.float64)
        _, variance = law(solver, grid, (VARIANCES + 100).sqrt(), steps)  # without the step to 0
        return float((variance / (VARIANCES + 0.05**2) - 1).abs().max())

    if name == "searched":  # a plan is searched for few steps
        return None
    return round(math.log2(error(80) / error(160)), 2)


def floor(sample: Callable[[int, torch.Generator], Tensor], draws: int, repeats: int) -> tuple[float, float]:
    """Root mean square of sliced W2 of exact draws to others, and its standard error."""
    directions = slices(8, 64, generator(9))
    found = torch.tensor(
        [
            wasserstein(*(project(sample(draws, generator(seed, r)).double(), directions) for seed in (3, 5)))[1] ** 2
            for r in range(repeats)
        ]
    )
    mean = float(found.mean()) ** 0.5
    return mean, float(found.std()) / (2 * mean * repeats**0.5)


def study_gaussian(draws: int) -> dict[str, Any]:
    """The Gaussian prior, by laws."""
    prior = GaussianPrior(torch.zeros(8), torch.diag(VARIANCES))
    noise, chance = floor(prior.sample, draws, 64)
    directions = slices(8, 64, generator(9))

    def measure(solver: Any, grid: list[float]) -> float:
        mean, variance = law(solver, grid, torch.full((8,), grid[0], dtype=torch.float64), len(grid) - 1)
        wide, exact = ((v @ directions**2).sqrt() for v in (variance, VARIANCES))
        return math.sqrt(noise**2 + float(((mean @ directions) ** 2 + (wide - exact) ** 2).mean()))

    return curves(gaussian, torch.float64, prior, measure, NFE) | {"floor": noise, "chance": chance}


def study_mixture(draws: int, repeats: int) -> dict[str, Any]:
    """The mixture, by draws."""
    prior = lattice_prior(8, generator(0))
    noise, chance = floor(prior.sample, draws, 16)
    directions = slices(8, 64, generator(9))
    truths = [project(prior.sample(draws, generator(3, r)).double(), directions) for r in range(repeats)]

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return prior.denoise(x, torch.full((1,), sigma, dtype=x.dtype))

    def measure(solver: Any, grid: list[float]) -> float:
        total = 0.0
        for r, truth in enumerate(truths):
            x = grid[0] * torch.randn(draws, 8, generator=generator(4, r))
            *_, last = solver.steps(denoise, x, grid, _Noise(r))
            total += wasserstein(project(last.x.double(), directions), truth)[1] ** 2
        return math.sqrt(total / repeats)

    most = [n for n in NFE if n <= MOST_SAMPLED]
    return curves(denoise, torch.float32, prior, measure, most) | {"floor": noise, "chance": chance}


def curves(
    denoise: Denoise, dtype: torch.dtype, prior: Any, measure: Callable[[Any, list[float]], float], tries: list[int]
) -> dict[str, Any]:
    """What every solver measures at rising numbers of evaluations, until two in a row are within 5 % of converged."""
    converged = measure(UniPC(), karras(prior.sigma_min, prior.sigma_max, 400))
    print(f"converged {converged:.4f}")
    rows = []
    for name in (*PLAIN, *FITTED):
        solver = PLAIN[name]() if name in PLAIN else DDIM(0.0)  # what is fitted takes one evaluation a step, as this
        near, curve = 0, []
        for nfe in tries:
            if nfe < solver.extra_evaluations + solver.evaluations_per_step:
                continue
            steps = steps_within(solver, nfe)
            if near == 2 or (name == "searched" and steps > SEARCHED):
                break
            grid = karras(prior.sigma_min, prior.sigma_max, steps)
            value = measure(ready(name, denoise, grid, dtype), grid)
            curve.append({"nfe": nfe, "sw2": value})
            near = near + 1 if value <= 1.05 * converged else 0
        need = curve[-near]["nfe"] if near else None
        rows.append({"solver": name, "nfe": need, "curve": curve})
        print(f"  {name:22s} {need or '-':>4}   last {curve[-1]['sw2'] / converged:.3f} of converged", flush=True)
    return {"converged": converged, "rows": rows}


def plot(result: dict[str, Any], path: Path) -> None:
    """Sliced W2 over converged against evaluations, one panel a prior."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 6.5), sharey=True, layout="constrained")
    colours = [plt.get_cmap("tab20")(i) for i in range(20)]
    for axis, (prior, found) in zip(axes, result["priors"].items(), strict=True):
        for i, row in enumerate(found["rows"]):
            line = [(c["nfe"], c["sw2"] / found["converged"]) for c in row["curve"]]
            style = ("-", "--")[i // len(colours)]
            axis.plot(*zip(*line, strict=True), style, marker=".", color=colours[i % len(colours)], label=row["solver"])
        axis.axhline(1.05, color="k", lw=0.8, ls=":")
        axis.set(xscale="log", yscale="log", title=prior, xlabel="network evaluations a draw", ylim=(0.9, 20))
    axes[0].set_ylabel("sliced W2 to exact draws, over its converged value")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    with torch.inference_mode():
        orders = {name: order(name) for name in (*PLAIN, *FITTED)}
        studies = {"gaussian": study_gaussian(options.draws), "mixture": study_mixture(options.draws, options.repeats)}
    needs = {key: {row["solver"]: row["nfe"] for row in found["rows"]} for key, found in studies.items()}
    print(f"\n{'solver':22s} {'order':>6} {'gaussian':>9} {'mixture':>8}")
    for name, value in orders.items():
        cells = [found[name] or "-" for found in needs.values()]
        print(f"{name:22s} {'-' if value is None else f'{value:.2f}':>6} {cells[0]:>9} {cells[1]:>8}")
    result = {
        "draws": options.draws,
        "repeats": options.repeats,
        "seconds": round(time.perf_counter() - began),
        "order": orders,
        "priors": studies,
    }
    if options.json:
        write(options.json, result)
        plot(result, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
