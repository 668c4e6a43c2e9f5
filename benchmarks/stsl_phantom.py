"""STSL at 50 levels beside DPS at 1000 steps on a phantom, with the prior that ships: PSNR and what it cost.

    python benchmarks/stsl_phantom.py [--json benchmarks/results/stsl_phantom.json] [--size 64] [--draws 1] [--images 3]

Heads with a smooth phase, never seen in training; blur (Gaussian, 1.5 pixels), 70 % of the pixels missing, and
super-resolution by 4, each with noise 0.02. `psnr` is the mean over draws, `psnr_mean` that of the draws' mean, both of
the complex image; `chi2_ratio` tells draws that fit the noise (far below 1) from those that leave data unexplained.
DPS is run as published, zeta = 1, with 0.3, with 0.15, which is what the authors' code does, and with zeta = 1 on the
levels of Karras et al. `means` has the mean over images and the standard error of STSL's
advantage over each, image by image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import write

import invdiff
from invdiff.datasets.phantoms import ground_truth
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.imaging.blur import Blur
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.operators.imaging.psf import gaussian_psf
from invdiff.operators.imaging.resample import Resample
from invdiff.random import generator
from invdiff.samplers.base import Sampler
from invdiff.samplers.dps import DPS
from invdiff.samplers.stsl import STSL
from invdiff.schedules import karras

METHODS: dict[str, Callable[[], Sampler]] = {
    "stsl": STSL,
    "dps": DPS,
    "dps, zeta 0.3": lambda: DPS(zeta=0.3),
    "dps, zeta 0.15": lambda: DPS(zeta=0.15),
    "dps, Karras levels": lambda: DPS(grid=karras),
}


def tasks(size: int) -> dict[str, LinearOperator]:
    """The operators by name."""
    shape, kernel = (1, size, size), gaussian_psf(1.5)
    seen = torch.rand(size, size, generator=generator(0)) < 0.3
    return {
        "blur": Blur(kernel / kernel.sum(), shape, domain="complex"),
        "inpainting": Inpainting(seen, shape, domain="complex"),
        "super-resolution": Resample(shape, (size // 4, size // 4), "area", domain="complex"),
    }


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    prior, noise = invdiff.load_prior("mri"), Gaussian(0.02)
    rows: list[dict[str, Any]] = []
    cases = [(i, *case) for i in range(options.images) for case in tasks(options.size).items()]
    for image, task, op in cases:
        truth = ground_truth(generator(3 + image), options.size)[None]
        peak = float(truth.abs().max())
        y = noise.sample(op.forward(truth), generator(1))[0]
        measurement = Measurement(y if op.range_mask is None else y * op.range_mask, op, noise)
        for name in options.methods:
            result = invdiff.sample(
                measurement, prior, METHODS[name](), draws=options.draws, device="cpu", progress=False
            )
            draws = torch.from_numpy(result.draws.values)
            error, mean = (
                (draws - truth).abs().square().mean((1, 2, 3)),
                (draws.mean(0) - truth[0]).abs().square().mean(),
            )
            row: dict[str, Any] = {
                "image": image, "task": task, "method": name,
                "psnr": float((10 * torch.log10(peak**2 / error)).mean()),
                "psnr_mean": float(10 * torch.log10(peak**2 / mean)),
                **{k: result.diagnostics[k] for k in ("chi2_ratio", "nfe", "vjp", "seconds")},
            }  # fmt: skip
            rows.append(row)
            print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        write(options.json, {"size": options.size, "draws": options.draws, "rows": rows, "means": means(rows)})


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean PSNR of each task and method, and by how much STSL is above it, with the standard error over images."""
    found = []
    for task, method in dict.fromkeys((row["task"], row["method"]) for row in rows):
        psnr, stsl = (
            torch.tensor([r["psnr"] for r in rows if r["task"] == task and r["method"] == m]) for m in (method, "stsl")
        )
        gain = stsl[: len(psnr)] - psnr
        error = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else None
        found.append(
            {"task": task, "method": method, "psnr": float(psnr.mean()), "stsl_above": float(gain.mean()), "se": error}
        )
    return found


if __name__ == "__main__":
    main()
