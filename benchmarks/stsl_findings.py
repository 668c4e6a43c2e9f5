"""Second-order Tweedie with exact scores: what of it helps the posterior, and what does not.

    python benchmarks/stsl_findings.py [--json benchmarks/results/stsl_findings.json] [--draws 400] [--problems 3]

Two mixtures with exact denoisers and exact posteriors: `toy`, 12 Gaussians of deviation 0.3 about random means in 8
dimensions with 3 data; `lattice`, the 25 modes of arXiv 2308.07983 in 8 dimensions with 4 data. `sw2` is the sliced
distance to exact draws, `floor` that of exact draws among each other, `mean_error` the error of the draws' mean in root
mean square posterior deviations, `chi2_ratio` the draws' chi2 over that of exact draws; all are means over problems.

The parts, each with what it is to show:

- `gaussian`: largest change of a draw by the second-order term under a Gaussian prior (its gradient is 0).
- `eta`: the published weight 0.02 against less and none. It claims that the term helps.
- `K`: five inner steps against one at the same lambda, and each at the best lambda of the sweep.
- `start`: DDIM inversion of ``A^+ y`` against noise, few levels.
- `full`: the covariance in full with its slope (stsl-full) against moment matching (MMPS) at equal evaluations.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import write

from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.random import Streams, generator
from invdiff.samplers.base import Sampler
from invdiff.samplers.named import sampler as named
from invdiff.samplers.stsl import STSL
from invdiff.validation.mixture import lattice_problem, posterior
from invdiff.validation.sampler_problem import problem
from invdiff.validation.sliced import project, slices, wasserstein

Make = Callable[[], Sampler]
Problem = tuple[GaussianMixturePrior, Measurement]


def toy(seed: int) -> Problem:
    """12 Gaussians in 8 dimensions, 3 data with noise 0.1."""
    rng = generator(seed)
    prior = GaussianMixturePrior(torch.ones(12), torch.randn(12, 8, generator=rng), 0.09 * torch.eye(8))
    operator, noise = Matrix(torch.randn(3, 8, generator=rng) / 8**0.5), Gaussian(0.1)
    return prior, Measurement(noise.sample(operator.forward(prior.sample(1, rng)), rng)[0], operator, noise)


def lattice(seed: int) -> Problem:
    """The 25-mode lattice, 4 data with noise 0.3."""
    return lattice_problem(8, 4, generator(seed), 0.3)


def score(make: Make, family: Callable[[int], Problem], draws: int, problems: int) -> dict[str, float]:
    """The measures of one sampler, and what a draw costs."""
    total: dict[str, float] = {}
    for seed in range(problems):
        prior, measurement = family(1000 + seed)
        law, rng = posterior(prior, measurement), generator(seed, 1)
        exact, other = law.sample(draws, rng), law.sample(draws, rng)
        lines = slices(8, 200, rng)
        method = make()
        *_, last = method.steps(prior, measurement, torch.empty(draws, 8), Streams(seed, range(draws)))
        x = last.x.double()
        truth, spread = (law.weights[:, None] * law.means).sum(0), exact.var(0).sum()
        found = {
            "sw2": wasserstein(project(x, lines), project(exact, lines))[1],
            "floor": wasserstein(project(other, lines), project(exact, lines))[1],
            "mean_error": float(((x.mean(0) - truth).square().sum() / spread).sqrt()),
            "chi2_ratio": float(measurement.chi2(last.x).mean() / measurement.chi2(exact.float()).mean()),
            "nfe": method.counts.nfe,
            "vjp": method.counts.vjp,
        }
        total = {k: total.get(k, 0.0) + v / problems for k, v in found.items()}
    return total


def no_effect_under_a_gaussian() -> float:
    """Largest difference of draws with and without the second-order term, in prior deviations."""
    case = problem("real", generator(0))
    like, runs = torch.empty(16, 8), []
    for sampler in (STSL(eta=0.02, nfe=120), STSL(eta=0.0, nfe=70)):  # ten levels each
        *_, last = sampler.steps(case.prior, case.measurement, like, Streams(0, range(16)))
        runs.append(last.x)
    return float((runs[0] - runs[1]).abs().max()) / case.prior.scale


def study(draws: int, problems: int) -> list[dict[str, Any]]:
    """All rows but the Gaussian one."""
    rows: list[dict[str, Any]] = []

    def add(part: str, family: Callable[[int], Problem], make: Make, **setting: Any) -> None:
        row = {"part": part, "problem": family.__name__, **setting, **score(make, family, draws, problems)}
        rows.append(row)
        print(", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)

    for family in (toy, lattice):
        for eta in (0.0, 0.002, 0.005, 0.01, 0.02):
            nfe = 600 if eta else 350  # fifty levels of five inner steps either way
            add("eta", family, lambda eta=eta, nfe=nfe: STSL(eta=eta, nfe=nfe), eta=eta)  # type: ignore[misc]
    for k, nfe in ((1, 150), (5, 350)):
        for strength in (0.05, 0.15, 0.4, 1.0):
            make = lambda k=k, s=strength, n=nfe: STSL(strength=s, eta=0.0, inner_steps=k, nfe=n)  # noqa: E731
            add("K", toy, make, K=k, strength=strength)
    for inverted in (True, False):
        for levels in (5, 10, 20):
            nfe = levels * (7 if inverted else 6)
            make = lambda i=inverted, n=nfe: STSL(eta=0.0, inverted=i, nfe=n)  # noqa: E731
            add("start", toy, make, inverted=inverted, levels=levels)
    for family in (toy, lattice):
        for name in ("mmps", "stsl-full"):
            add("full", family, lambda name=name: named(name, 150), sampler=name)  # type: ignore[misc]
    return rows


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--problems", type=int, default=3)
    options = parser.parse_args()
    effect = no_effect_under_a_gaussian()
    print(f"under a Gaussian prior the second-order term changes a draw by {effect:.1e} prior deviations")
    rows = study(options.draws, options.problems)
    setting = {"draws": options.draws, "problems": options.problems}
    write(options.json, {**setting, "gaussian_effect": effect, "rows": rows})


if __name__ == "__main__":
    main()
