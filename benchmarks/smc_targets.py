"""Twisted sequential Monte Carlo against its targets, on problems drawn afresh.

    python benchmarks/smc_targets.py --json benchmarks/results/smc_targets.json

Mixture: the 25-mode lattice at 8, 80 and 800 components with 1, 2 and 4 data, noise level drawn anew each time; mean
sliced W1 of the draws, weighted by their population, over that of exact draws, as many (the floor: mean of all pairs
of four exact sets). Targets: 1.5, 2 and 3 times the floor at no more than 400 network evaluations and 800
vector-Jacobian products a draw. Gaussian: bias (in posterior deviations), deviation ratio and coverage of the 90 %
interval along the posterior's principal directions at no more than 100 evaluations, beside exact draws, as many.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

import invdiff
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.priors.base import Prior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.random import generator
from invdiff.samplers.named import sampler
from invdiff.samplers.smc import SMC
from invdiff.validation.linear_gaussian import GaussianPosterior
from invdiff.validation.linear_gaussian import posterior as gaussian_posterior
from invdiff.validation.mixture import lattice_problem, posterior
from invdiff.validation.sampler_problem import agreement, exact_posterior, problem

TARGETS = {8: 1.5, 80: 2.0, 800: 3.0}
SHARE = {8: 4, 80: 2, 800: 1}  # problems, which scatter by as much as their ratio
SLICES = 200


def sw1(a: Tensor, wa: Tensor, b: Tensor, directions: Tensor) -> float:
    """Mean over directions of W1 between weighted points a and equally weighted points b."""
    from scipy.stats import wasserstein_distance

    pa, pb = (a @ directions).numpy(), (b @ directions).numpy()
    found = [float(wasserstein_distance(p, q, wa.numpy())) for p, q in zip(pa.T, pb.T, strict=True)]
    return sum(found) / len(found)


def mixture(size: int, data: int, seed: int, draws: int, nfe: int) -> dict[str, Any]:
    """One problem: floor, distance of the weighted draws and of the draws without weights, cost."""
    prior, measurement = lattice_problem(size, data, generator(seed))
    exact, rng = posterior(prior, measurement), generator(seed, 1)
    sets = [exact.sample(draws, rng) for _ in range(4)]
    directions = torch.randn(size, SLICES, generator=rng, dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    equal = torch.full((draws,), 1 / draws)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    floor = sum(sw1(sets[i], equal, sets[j], directions) for i, j in pairs) / len(pairs)
    began = time.monotonic()
    found = invdiff.sample(measurement, prior, SMC(nfe), draws, seed=seed, device="cpu", progress=False)
    seconds = time.monotonic() - began
    x, w = torch.from_numpy(found.draws.values).double(), torch.from_numpy(found.weights.values)
    return {
        "size": size,
        "data": data,
        "seed": seed,
        "sigma": measurement.noise.sigma,
        "floor": floor,
        "sw1": sum(sw1(x, w, e, directions) for e in sets) / 4,
        "sw1_unweighted": sum(sw1(x, equal, e, directions) for e in sets) / 4,
        "ess": found.ess(),
        "log_evidence_error": found.diagnostics["log_evidence"] - exact.log_evidence,
        "nfe": found.diagnostics["nfe"],
        "vjp": found.diagnostics["vjp"],
        "seconds": seconds,
    }


def field(side: int, share: float, sigma: float, seed: int) -> tuple[Prior, Measurement, GaussianPosterior, Tensor]:
    """A Matern field of which some pixels are measured, its posterior and the prior's covariance."""
    rng = generator(seed)
    prior = GaussianFieldPrior(matern((side, side), 1.0, side / 4))
    operator = Inpainting(torch.rand(side, side, generator=rng) < share, (1, side, side))
    y = Gaussian(sigma).sample(operator.forward(prior.sample(1, rng)), rng)[0] * operator.range_mask
    pixels = torch.eye(side**2, dtype=torch.float64).reshape(side**2, 1, side, side)
    spread = prior.covariance(pixels, torch.full((1,), 1e6))(pixels).reshape(side**2, -1)
    spread = (spread + spread.mT) / 2 + 1e-9 * torch.eye(side**2)
    measurement = Measurement(y, operator, Gaussian(sigma))
    return prior, measurement, gaussian_posterior(GaussianPrior(prior.mean, spread), measurement), spread


def gaussian(name: str, case: Any, method: Any, seed: int, draws: int) -> dict[str, Any]:
    """One linear-Gaussian problem: errors along independent directions, and those of exact draws."""
    prior, measurement, exact, spread = case
    found = invdiff.sample(measurement, prior, method, draws, seed=seed, device="cpu", progress=False)
    # Resampled to equal weights where they differ: the comparison is of plain draws.
    x, log_w = torch.from_numpy(found.draws.values), found.dataset.get("log_weight")
    if log_w is not None:
        index = torch.multinomial(torch.from_numpy(found.weights.values), draws, True, generator=generator(seed, 9))
        x = x if float(found.ess()) > 0.999 * draws else x[index]
    row = {"case": name, "method": method.name, "seed": seed, "draws": draws, "ess": found.ess()}
    for who, points in (("", x), ("exact_", exact.sample(draws, generator(seed, 2)))):
        close = agreement(points, exact, spread)
        row |= {
            f"{who}bias_rms": math.sqrt(float((close.bias**2).mean())),
            f"{who}bias_worst": float(close.bias.abs().max()),
            f"{who}std_ratio": float((close.ratio**2).mean().sqrt()),
            f"{who}coverage90": float(close.coverage.mean()),
        }
    evidence = found.diagnostics.get("log_evidence")
    row["log_evidence_error"] = None if evidence is None else evidence - exact.log_evidence
    return row | {key: found.diagnostics[key] for key in ("nfe", "vjp", "seconds")}


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument(
        "--problems", type=int, default=4, help="for each number of data at 800; twice as many at 80, four times at 8"
    )
    parser.add_argument("--draws", type=int, default=512)
    parser.add_argument("--nfe", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, seed = time.monotonic(), options.seed
    rows: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    exact_rows: list[dict[str, Any]] = []

    def save() -> None:
        content = {
            "seed": options.seed, "draws": options.draws, "table": table,
            "gaussian": exact_rows, "rows": rows, "seconds": time.monotonic() - began,
        }  # fmt: skip
        write(options.json, content)

    for size in TARGETS:
        for data in (1, 2, 4):
            part = []
            for _ in range(options.problems * SHARE[size]):
                part.append(mixture(size, data, seed, options.draws, options.nfe))
                seed += 1
            floor, found, plain = (sum(r[k] for r in part) / len(part) for k in ("floor", "sw1", "sw1_unweighted"))
            ratios = torch.tensor([r["sw1"] / r["floor"] for r in part])
            row = {
                "size": size, "data": data, "problems": len(part), "floor": floor, "sw1": found, "ratio": found / floor,
                "ratio_se": float(ratios.std()) / len(part) ** 0.5, "ratio_worst": float(ratios.max()),
                "ratio_unweighted": plain / floor, "target": TARGETS[size], "nfe": part[0]["nfe"],
                "vjp": part[0]["vjp"], "seconds": sum(r["seconds"] for r in part) / len(part),
            }  # fmt: skip
            table.append(row)
            rows += part
            save()
            print({k: round(v, 3) for k, v in row.items()}, flush=True)
    for domain in ("real", "complex"):
        case = problem(domain, generator(seed))
        full = (case.prior, case.measurement, *exact_posterior(case))
        for method in (SMC(100), sampler("mmps", 100)):
            exact_rows.append(gaussian(f"linear-Gaussian, {domain}", full, method, seed, 2000))
        seed += 1
    picture = field(8, 0.25, 0.2, seed)
    # 64 directions: the whole covariance of the 64 pixels, with which a few steps are as good as many. The second forms
    # none of it, and its weights are those of what is not Gaussian.
    for method in (SMC(8, twist="moments", directions=64), sampler("smc", 100), sampler("mmps", 100)):
        exact_rows.append(gaussian("field, 8 x 8", picture, method, seed, 800))
    for row in exact_rows:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    save()


if __name__ == "__main__":
    main()
