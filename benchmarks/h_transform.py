"""The weighted h-transform on fields whose posterior is known: its frontier, and what a wrong operator does to others.

    python benchmarks/h_transform.py [--json benchmarks/results/h_transform.json]

A stationary Gaussian field (32 x 32, Matern, deviation 1, length 4) is blurred and measured with noise 0.05; the exact
denoiser is the prior. Two questions, the plot beside the JSON file answers both:

- `frontier`: mean squared error of a draw against how far its spectrum is from the prior's (root mean square of the
  difference of log power, 12 radial bins), for the exponent alpha from 0 (the reference itself) to infinity (the
  prior), beside SDEdit (noise added to the reference up to a level, then denoised), which no claim may leave out.
- `mismatch`: mean squared error of the draws where the blur that a method is told is wider than the true one. The
  weighted h-transform is told nothing: its reference is the data, and its error is flat.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

from invdiff.guidance import MMPS, PiGDM, WeightedH
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.imaging.blur import Blur
from invdiff.operators.imaging.psf import gaussian_psf
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.random import Streams, generator
from invdiff.samplers.base import Sampler
from invdiff.samplers.dps import DPS
from invdiff.samplers.guided import Guided
from invdiff.schedules import karras
from invdiff.solvers import DDIM

SIDE, WIDTH, SIGMA = 32, 1.5, 0.05
ALPHAS = [0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, math.inf]
LEVELS = [0.1, 0.2, 0.4, 0.7, 1.2, 2.5, 10.0]
FACTORS = [1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0]


def blur(factor: float) -> Blur:
    """A Gaussian blur `factor` times as wide as the true one."""
    kernel = gaussian_psf(WIDTH * factor)
    return Blur(kernel / kernel.sum(), (1, SIDE, SIDE))


def spectrum_error(x: Tensor, prior: GaussianFieldPrior) -> float:
    """Root mean square difference of the log power of draws and prior, 12 radial bins."""
    power = torch.fft.fftshift(torch.fft.fft2(x[:, 0], norm="ortho").abs() ** 2, (-2, -1)).mean(0)
    centre = torch.arange(float(SIDE)) - SIDE // 2
    radius = torch.hypot(*torch.meshgrid(centre, centre, indexing="ij"))
    gaps = []
    for k in range(12):
        ring = (radius >= k * SIDE / 24) & (radius < (k + 1) * SIDE / 24)
        gaps.append(float((power[ring].mean() / prior.spectrum[ring].mean()).log()))
    return math.sqrt(sum(g**2 for g in gaps) / len(gaps))


def draw(sampler: Sampler, prior: GaussianFieldPrior, measurement: Measurement, n: int) -> Tensor:
    """One draw for each of n problems."""
    *_, last = sampler.steps(prior, measurement, torch.empty(n, 1, SIDE, SIDE), Streams(1, range(n)))
    return last.x


def sdedit(prior: GaussianFieldPrior, reference: Tensor, level: float) -> Tensor:
    """Noise to `level`, then the prior's ancestral steps down."""
    rng = Streams(2, range(len(reference)))
    x = reference + level * rng.normal(reference)
    denoise: Callable[[Tensor, float], Tensor] = lambda x, s: prior.denoise(x, torch.full((1,), s))  # noqa: E731
    *_, last = DDIM(1.0).steps(denoise, x, karras(prior.sigma_min, level, 50), rng)
    return last.x


def study(n: int) -> list[dict[str, Any]]:
    """All rows."""
    prior = GaussianFieldPrior(matern((SIDE, SIDE), 1.0, 4.0))
    truth = prior.sample(n, generator(0))
    noise = Gaussian(SIGMA)
    y = noise.sample(blur(1.0).forward(truth), generator(1))
    rows: list[dict[str, Any]] = []

    def add(part: str, x: Tensor, **setting: Any) -> None:
        mse = float((x - truth).square().mean())
        rows.append({"part": part, **setting, "mse": mse, "spectrum_error": spectrum_error(x, prior)})
        print(
            ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()), flush=True
        )

    told = Measurement(y, blur(1.0), noise, batched=True)
    for alpha in ALPHAS:
        sampler = Guided(partial(WeightedH, alpha=alpha), DDIM(1.0), 100)
        add("frontier", draw(sampler, prior, told, n), method="weighted-h", setting=str(alpha))
    for level in LEVELS:
        add("frontier", sdedit(prior, y, level), method="sdedit", setting=str(level))
    for factor in FACTORS:
        measurement = Measurement(y, blur(factor), noise, batched=True)
        methods: dict[str, Sampler] = {
            "mmps": Guided(partial(MMPS, iterations=10), DDIM(1.0), 50),
            "pigdm": Guided(PiGDM, DDIM(1.0), 100),
            "dps": DPS(nfe=300),
            "weighted-h, alpha 2": Guided(partial(WeightedH, alpha=2.0), DDIM(1.0), 100),
            "weighted-h, alpha 5": Guided(partial(WeightedH, alpha=5.0), DDIM(1.0), 100),
        }
        for name, sampler in methods.items():
            add("mismatch", draw(sampler, prior, measurement, n), method=name, factor=factor)
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Frontier on the left, mismatch on the right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for method, mark in (("weighted-h", "o-"), ("sdedit", "s--")):
        part = [r for r in rows if r["part"] == "frontier" and r["method"] == method]
        left.plot([r["spectrum_error"] for r in part], [r["mse"] for r in part], mark, label=method)
    left.set(xlabel="error of the spectrum (log power)", ylabel="mean squared error", title="fidelity and realism")
    part = [r for r in rows if r["part"] == "mismatch"]
    for method in dict.fromkeys(r["method"] for r in part):
        own = [r for r in part if r["method"] == method]
        right.semilogy([r["factor"] for r in own], [r["mse"] for r in own], "o-", label=method)
    right.set(xlabel="assumed / true width of the blur", ylabel="mean squared error", title="a wrong operator")
    for axes in (left, right):
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run, print, save and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--problems", type=int, default=16)
    options = parser.parse_args()
    rows = study(options.problems)
    if options.json:
        write(options.json, {"problems": options.problems, "rows": rows})
        plot(rows, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
