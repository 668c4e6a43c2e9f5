"""The demonstration: simulate an acquisition, write it as a file, read it, reconstruct it, and judge the result.

The ground truth is a procedural head (`invdiff.datasets.phantoms`) from a stream of random numbers of its own,
``invdiff.random.generator(seed, TRUTH)``: the pools that priors are trained on come from the streams (seed, number of
the image) of `phantoms.pool`, so training has seen images of this kind, but never this one. What is read back is the
file alone: coil maps and noise level are estimated from it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.baselines.cg_sense import cg_sense
from invdiff.baselines.tune import tune
from invdiff.baselines.tv import tv
from invdiff.baselines.zero_filled import zero_filled
from invdiff.measurement import Measurement
from invdiff.metrics.image import nmse, psnr, ssim
from invdiff.operators.mri.sense import MRI
from invdiff.posterior import Posterior
from invdiff.priors.base import Prior, as_prior
from invdiff.random import generator
from invdiff.sampling import sample
from invdiff.units import with_texture

__all__ = ["Demo", "coverage", "demo", "simulate", "table"]

COILS, ACCELERATION, CENTRE = 8, 4, 0.125
SIGMA = 0.02  # noise per real component of a coil's datum; bright tissue is about 1
FIELD_OF_VIEW = 220.0  # mm
TRUTH, MAPS, NOISE = 2**32, 2**32 + 1, 2**32 + 2  # streams far from those of the draws, which count from 0
TEXTURE = 1.0  # fine detail that no prior has learned, over the noise: at 0 the 90 % intervals hold 0.8 of the truth
OBJECT = 0.05  # of the largest magnitude: darker pixels are background

NAMES = {
    "zero_filled": "zero-filled",
    "cg_sense": "CG-SENSE (tuned)",
    "tv_sense": "TV-SENSE (tuned)",
    "posterior_mean": "posterior mean",
}


@dataclass
class Demo:
    """The truth, what was read, the reconstructions by name ``(1, H, W)``, the draws, and the figures of it all."""

    truth: Tensor
    measurement: Measurement
    images: dict[str, Tensor]
    posterior: Posterior
    figures: dict[str, Any]


def demo(
    folder: Path,
    prior: Prior | str | Path = "mri",
    *,
    sampler: str = "auto",
    draws: int = 8,
    nfe: int | None = 20,
    seed: int = 0,
    size: int = 128,
    device: str = "auto",
    progress: bool = True,
) -> Demo:
    """Run it all; `folder` (made if absent) then holds ``kspace.h5``, ``posterior.nc`` and ``panel.png``.

    The strengths of CG- and TV-SENSE are those of the highest PSNR against the truth: no real case could choose better.

    Raises:
        InvdiffError: the prior is not there, a name is unknown, or the folder cannot be written.
    """
    from invdiff.datasets.reading import read
    from invdiff.errors import FileError
    from invdiff.priors.loading import load_prior

    began = time.monotonic()
    if isinstance(prior, (str, Path)):
        prior = load_prior(prior)  # first: without it nothing need be made
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error}") from error
    truth = simulate(folder / "kspace.h5", seed, size)
    measurement = read(folder / "kspace.h5", slice=0)
    images = _baselines(measurement, truth)
    broader = with_texture(as_prior(prior), measurement, TEXTURE)
    posterior = sample(measurement, broader, sampler, draws, seed=seed, nfe=nfe, device=device, progress=progress)
    images["posterior_mean"] = torch.from_numpy(posterior.mean().values)
    figures: dict[str, Any] = {
        name: {key: score(truth, x) for key, x in images.items()}
        for name, score in (("psnr", psnr), ("ssim", ssim), ("nmse", nmse))
    }
    figures["coverage90"] = coverage(truth, posterior, 0.9)
    figures |= {key: posterior.diagnostics[key] for key in ("chi2_ratio", "nfe")}
    figures |= {"draws": draws, "sampler": sampler, "seed": seed, "size": size}
    figures |= {"acceleration": measurement.meta["acceleration"], "sigma": measurement.meta["sigma"]}
    figures |= {"sigma_true": SIGMA, "seconds_sampling": posterior.diagnostics["seconds"]}
    done = Demo(truth, measurement, images, posterior, figures)
    _picture(done, folder / "panel.png")
    figures["seconds"] = round(time.monotonic() - began, 2)
    posterior.diagnostics |= {"psnr": figures["psnr"], "coverage90": figures["coverage90"]}
    posterior.save(folder / "posterior.nc")
    return done


def simulate(path: Path, seed: int = 0, size: int = 128) -> Tensor:
    """Write a simulated acquisition as a fastMRI HDF5 file and return the truth, complex64 ``(1, size, size)``.

    Eight coils, about a quarter of the phase encodes (equispaced, and a fully sampled centre of an eighth), white
    noise. The file holds what a scanner's would: k-space, mask and header, and not the truth.
    """
    from invdiff.datasets.phantoms import ground_truth
    from invdiff.datasets.phantoms.coils import coil_maps
    from invdiff.datasets.raw import fastmri
    from invdiff.noise import Gaussian
    from invdiff.operators.mri.masks import equispaced_fraction_mask

    truth = ground_truth(generator(seed, TRUTH), size)
    maps = coil_maps(generator(seed, MAPS), COILS, (size, size))
    centre = max(CENTRE, 8 / size)  # coil maps need eight columns at the least
    mask = equispaced_fraction_mask(size, ACCELERATION, centre, seed=seed % 2**32)
    clean = MRI(maps, torch.ones(size, dtype=torch.bool)).forward(truth[None])
    kspace = Gaussian(SIGMA).sample(clean, generator(seed, NOISE)) * mask
    fov = [FIELD_OF_VIEW, FIELD_OF_VIEW, 5.0]
    header = {"encoded_fov_mm": fov, "recon_fov_mm": fov}
    fastmri.write(path, kspace, mask, header, attrs={"acquisition": "simulated"})
    return truth


def coverage(truth: Tensor, posterior: Posterior, level: float) -> float:
    """Share of the object's pixels whose true magnitude lies within the central interval of that level."""
    low, high = np.asarray(posterior.interval(level).values)
    magnitude = truth.abs().numpy()
    inside = magnitude > OBJECT * magnitude.max()
    return float(((magnitude >= low) & (magnitude <= high))[inside].mean())


def table(figures: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"{'':<20}{'PSNR (dB)':>10}{'SSIM':>8}{'NMSE':>9}"]
    for key, name in NAMES.items():
        scores = [figures[score][key] for score in ("psnr", "ssim", "nmse")]
        lines.append("{:<20}{:>10.2f}{:>8.3f}{:>9.4f}".format(name, *scores))
    lines += [
        "",
        f"chi2 / expected              {figures['chi2_ratio']:.3f}   (1: the draws explain the data to the noise)",
        f"coverage of 90 % intervals   {figures['coverage90']:.3f}   (0.9: they say how sure one may be)",
        f"NFE per draw                 {figures['nfe']}",
        f"seconds                      {figures['seconds']:.1f}",
    ]
    return "\n".join(lines)


def _baselines(measurement: Measurement, truth: Tensor) -> dict[str, Tensor]:
    def loss(x: Tensor) -> float:
        return -psnr(truth, x[0])

    return {
        "zero_filled": zero_filled(measurement)[0],
        "cg_sense": tune(cg_sense, measurement, loss).x[0],
        "tv_sense": tune(tv, measurement, loss).x[0],
    }


def _picture(done: Demo, path: Path) -> None:
    from invdiff.report.panel import panel

    images = {"truth": done.truth} | {NAMES[key]: x for key, x in done.images.items()}
    error = (done.truth.abs() - done.images["posterior_mean"].abs()).abs()
    figures = done.figures
    panel(
        {name: x[0].numpy() for name, x in images.items()},
        path,
        spread={"posterior std": done.posterior.std().values[0], "|error| of the mean": error[0].numpy()},
        scores={NAMES[key]: value for key, value in figures["psnr"].items()},
        coords=done.measurement.coords,
        heading=f"{COILS} coils, {figures['acceleration']:.2f}x undersampled, {figures['draws']} posterior draws",
    )
