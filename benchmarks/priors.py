"""Priors side by side: how well they denoise, how near their posterior is to the exact one, and what a prior loses that
was trained on measurements alone.

``python benchmarks/priors.py --json benchmarks/results/priors.json`` writes

- ``denoising``: PSNR by sigma on held-out 32 x 32 patches of complex phantoms (peak 1, per real component) of priors
  fitted to the same images: Gaussian field, mixture of Gaussian patches, the network with EDM and with flow matching;
- ``measurements_only``: the same network trained on undersampled, noisy k-space of those images (each with a random
  mask of its own) and nothing else, and its distance to clean training;
- ``posterior``: sliced Wasserstein distance to exact posterior draws for images of a known mixture of Gaussians, of
  priors that only saw samples of it, beside the exact prior under the same sampler and exact draws (the floor).

``--quick`` takes small numbers, to see that it runs. Everything takes about half an hour of one core; with ``--folder``
an interrupted run goes on from what it has.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

import invdiff
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators import MRI
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.priors.adapters import NetworkPrior
from invdiff.priors.affine import Affine
from invdiff.priors.base import Prior
from invdiff.priors.gaussian import normal
from invdiff.priors.gaussian_field import GaussianFieldPrior
from invdiff.priors.loading import load_prior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.priors.patches import PatchMixturePrior
from invdiff.training.config import TrainConfig
from invdiff.training.data import PhantomSource
from invdiff.training.data_config import DataConfig, MeasurementsConfig
from invdiff.training.from_measurements import DrawnImages, train_from_measurements, unit_of
from invdiff.training.run import train
from invdiff.training.validate import psnr_by_sigma
from invdiff.validation.mixture import posterior as exact_posterior
from invdiff.validation.sliced import project, slices, wasserstein

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
NETWORK = {"channels": [24, 32, 48], "blocks": 1, "embedding": 64, "fold": 1}


def settings(name: str, steps: int, **options: Any) -> TrainConfig:
    """One recipe for every network here."""
    return TrainConfig.model_validate(
        {
            "name": name,
            "network": NETWORK,
            "steps": steps,
            "batch": 16,
            "learning_rate": 1e-3,
            "warmup": 50,
            "ema": 0.99,
            "decay_from": 0.4,
            "sigma_max": 5.0,
            **options,
        }
    )


def network(config: TrainConfig, images: Tensor, folder: Path) -> NetworkPrior:
    """Train on given images and load the result, in their own unit."""
    weights = train(config, folder / config.name, print, False, DrawnImages(images, None, 0))
    return own_unit(weights)


def own_unit(weights: Path) -> NetworkPrior:
    """Weights as a prior to which nothing is rescaled."""
    prior = load_prior(weights)
    assert isinstance(prior, NetworkPrior)
    prior.units = None
    return prior


def acquisitions(images: Tensor, sigma: float, seed: int, least: float = 0.25) -> tuple[Measurement, float]:
    """Undersampled single-coil k-space, for each image a random mask; and the fraction of k-space that is sampled.

    The centre is sampled always, the corners with a chance of `least`.
    """
    rng = torch.Generator().manual_seed(seed)
    n, _, height, width = images.shape
    ky, kx = (torch.arange(m) - m // 2 for m in (height, width))
    radius = ((ky[:, None] / height) ** 2 + (kx / width) ** 2).sqrt() * 2
    chance = torch.where(radius < 0.2, 1.0, least + (1 - least) * (1 - radius).clamp_min(0) ** 2)
    mask = torch.rand(n, height, width, generator=rng) < chance
    op = MRI(torch.ones(1, 1, height, width, dtype=torch.complex64), mask)
    clean = op.forward(images)
    noise = sigma * normal(tuple(clean.shape), clean.dtype, rng) * mask[:, None]
    return Measurement(clean + noise, op, Gaussian(sigma), batched=True), float(mask.float().mean())


def denoising(
    n: int, steps: int, total: int, rounds: int, folder: Path, record: Any, options_json: Path | None
) -> None:
    """The first two tables."""
    data = DataConfig(kinds=["head", "leaves", "body"], pool=max(60, n // 8), sizes=[128], patch=32, texture=0.06)
    source = PhantomSource(data, "complex", 0, folder)
    images, held_out = (_complex(b.x) for b in (source.batch(0, n), source.held_out(0, 256)))
    kept = folder / "denoising.json"  # what an interrupted run has measured
    result: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    record["denoising"] = {"images": n, "held_out": len(held_out), "size": 32, "steps": steps, "psnr_db": result}

    def measure(name: str, make: Callable[[], Prior]) -> None:
        if name not in result:
            result[name] = psnr_by_sigma(make().denoise, held_out, SIGMAS)
            kept.write_text(json.dumps(result))
        print(name, result[name], flush=True)

    measure("gaussian field", lambda: GaussianFieldPrior.fit(images))
    measure("gaussian patches", lambda: PatchMixturePrior.fit(images, 6, 20, 12000, iterations=15))
    measure("network, edm", lambda: network(settings("edm", steps), images, folder))
    measure("network, flow matching", lambda: network(settings("flow", steps, objective="flow"), images, folder))
    record["measurements_only"] = {}
    fair = f"network, edm, {total} steps"  # as many as all rounds together
    measure(fair, lambda: network(settings("edm_long", total), images, folder))
    for least in (0.55, 0.25):
        measurement, fraction = acquisitions(images, 0.02, 1, least)
        name = f"network, {100 * fraction:.0f} % of k-space only"
        measure(name, partial(from_measurements, measurement, settings_alone(total, rounds), folder / f"alone_{least}"))
        gap = {s: round(result[fair][s] - result[name][s], 3) for s in result[name]}
        found = {
            "sampled": round(fraction, 3),
            "sigma": 0.02,
            "rounds": rounds,
            "steps": total,
            "largest_gap_db": max(gap.values()),
        }
        record["measurements_only"][name] = {**found, "clean_minus_measurements_only_db": gap}
        print(record["measurements_only"][name], flush=True)
        write(options_json, record)


def settings_alone(total: int, rounds: int) -> TrainConfig:
    """Rounds that make `total` steps together; the last is about three times as long as the others."""
    each = total // (rounds + 2)
    data = MeasurementsConfig(kind="measurements", rounds=rounds, last_steps=total - (rounds - 1) * each)
    return settings("alone", each, data=data.model_dump())


def from_measurements(measurement: Measurement, config: TrainConfig, folder: Path) -> Prior:
    """Train on one set of measurements; the prior in the unit of the images."""
    weights = train_from_measurements(config, folder, print, False, [measurement])
    return Affine(own_unit(weights), 1 / unit_of([measurement]))


def _complex(pairs: Tensor) -> Tensor:
    return torch.complex(pairs[:, 0], pairs[:, 1])[:, None]


def known_law(side: int) -> GaussianMixturePrior:
    """Images of three kinds: smooth, rough, and smooth with a bright square; d = side^2."""
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).reshape(-1, 2)
    distance = (grid[:, None] - grid).double().square().sum(-1).sqrt()
    smooth, rough = 0.3**2 * torch.exp(-distance / 5), 0.3**2 * torch.exp(-distance / 1.5)
    means = torch.zeros(3, 1, side, side)
    means[2, 0, side // 4 : side // 2, side // 4 : 3 * side // 4] = 1.0
    return GaussianMixturePrior(torch.tensor([0.4, 0.3, 0.3]), means, torch.stack([smooth, rough, smooth]))


def posterior_distance(n: int, steps: int, draws: int, cases: int, folder: Path, record: Any) -> None:
    """Distance to the exact posterior: half of the pixels seen with noise 0.1, priors fitted to n samples."""
    side = 12
    law = known_law(side)
    rng = torch.Generator().manual_seed(0)
    samples = law.sample(n, rng)
    config = settings("law", steps, domain="real", log_sigma_mean=-1.0)
    priors: dict[str, Prior] = {
        "exact prior": law,
        "gaussian field": GaussianFieldPrior.fit(samples),
        "gaussian patches": PatchMixturePrior.fit(samples, 5, 12, 12000, iterations=15),
        "network, edm": network(config, samples, folder),
    }
    directions = slices(side * side, 64, rng).float()
    sums: dict[str, list[float]] = {name: [] for name in ("floor", *priors)}
    for case in range(cases):
        truth = law.sample(1, rng)
        op = Inpainting(torch.rand(side, side, generator=rng) < 0.5, (1, side, side))
        y = op.forward(truth)[0]
        y = y + 0.1 * torch.randn(y.shape, generator=rng) * (op.range_mask if op.range_mask is not None else 1)
        measurement = Measurement(y, op, Gaussian(0.1))
        exact = exact_posterior(law, measurement)
        ours, again = (project(exact.sample(draws, rng).float().flatten(1), directions) for _ in range(2))
        sums["floor"].append(wasserstein(ours, again)[1])
        for name, prior in priors.items():
            found = invdiff.sample(measurement, prior, "mmps", draws, nfe=20, seed=case, progress=False)
            values = project(torch.from_numpy(found.draws.values).flatten(1), directions)
            sums[name].append(wasserstein(ours, values)[1])
    table = {}
    for name, values in sums.items():
        t = torch.tensor(values)
        table[name] = {"sliced_w2": round(float(t.mean()), 4), "error": round(float(t.std() / len(t) ** 0.5), 4)}
        print(name, table[name], flush=True)
    record["posterior"] = {"samples": n, "draws": draws, "cases": cases, "sampler": "mmps, 20 evaluations", **table}


def main() -> None:
    """Parse the command line, run the parts, print and save as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["denoising", "posterior"])
    parser.add_argument("--folder", type=Path, help="keep the runs here and go on from what is there")
    options = parser.parse_args()
    n, steps, total, rounds = (64, 12, 16, 2) if options.quick else (512, 1500, 4000, 12)
    draws, cases = (16, 1) if options.quick else (100, 4)
    record: dict[str, Any] = {"quick": options.quick}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.only != "posterior":
            denoising(n, steps, total, rounds, folder, record, options.json)
            write(options.json, record)
        if options.only != "denoising":
            posterior_distance(4 * n, steps, draws, cases, folder, record)
    write(options.json, record)


if __name__ == "__main__":
    main()
