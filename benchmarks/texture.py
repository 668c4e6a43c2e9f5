"""Fine texture that the prior does not know: what choosing it by the fit costs and gains, beside held-out data.

    python benchmarks/texture.py [--draws 2] [--json benchmarks/results/texture.json]

For a real acquisition and for scans simulated from real slices (needs INVDIFF_DATA) and each texture of 0, 1 and 2
noise levels: `chi2_ratio` of draws from all but a tenth of the data (`invdiff reconstruct` takes the least that has at
most 1.1), and how those held out are predicted: `nrmse`, `calibration`, and `log_score`, the mean Gaussian log-density
with the draws' mean squared spread and the noise as its variance (higher is better). Where the truth is known, PSNR and
SSIM of the draws' mean.
"""

from __future__ import annotations

import argparse
import math
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from record import write

import invdiff
from invdiff.datasets.reading import read_volume
from invdiff.metrics.image import psnr, ssim
from invdiff.reconstruction.texture import TRIED
from invdiff.simulation.mri import MRIScan, bright, simulate_mri
from invdiff.units import with_texture
from invdiff.validation.holdout import held_out, predict, score, split

SCANS = {  # slice, acceleration and noise over bright tissue
    "t1w slice 50, 4x, noise 0.02": (50, 4.0, 0.02),
    "t1w slice 50, 4x, noise 0.005": (50, 4.0, 0.005),
    "t1w slice 40, 4x, noise 0.05": (40, 4.0, 0.05),
    "t1w slice 60, 8x, noise 0.02": (60, 8.0, 0.02),
}


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--draws", type=int, default=2)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, measurement, truth in acquisitions(Path(os.environ["INVDIFF_DATA"]) / "mri"):
        for texture in TRIED:
            row = {"acquisition": name, "texture": texture, **one(measurement, truth, texture, options.draws)}
            rows.append(row)
            print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
            write(options.json, {"draws": options.draws, "rows": rows})


def acquisitions(folder: Path) -> list[tuple[str, invdiff.Measurement, torch.Tensor | None]]:
    """Name, data, and the true magnitude where there is one."""
    found: list[tuple[str, invdiff.Measurement, torch.Tensor | None]] = [
        ("brain, raw", invdiff.read(folder / "brain_8coil_kspace.npy"), None)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = read_volume(folder / "t1w_dicom")
    for name, (number, acceleration, noise) in SCANS.items():
        scan = MRIScan(acceleration=acceleration, noise=noise)
        case = simulate_mri(volume.take([number]), scan, [number], False, 0, bright(volume))
        assert case.truth is not None
        found.append((name, case.measurement, case.truth[0].abs()))
    return found


def one(measurement: invdiff.Measurement, truth: torch.Tensor | None, texture: float, draws: int) -> dict[str, Any]:
    """Draws under that texture, and their scores."""
    train, held = split(measurement, 0.1, 0)
    y, sigma = held_out(measurement.data, held)[0], measurement.noise.sigma  # type: ignore[attr-defined]
    prior = with_texture(invdiff.load_prior("mri"), train, texture)
    posterior = invdiff.sample(train, prior, "mmps", draws, seed=0, device="cpu", progress=False)
    x = torch.from_numpy(posterior.draws.values).reshape(draws, *measurement.operator.domain_shape)
    predictions = predict(measurement.operator, x, held)  # type: ignore[arg-type]
    found = {k.removeprefix("holdout_"): v for k, v in score(y, predictions, sigma).items()}
    error = float((y - predictions.mean(0)).abs().square().mean())
    variance = error / found["calibration"]
    found["log_score"] = -math.log(math.pi * variance) - error / variance
    if truth is not None:
        mean = x.mean(0).abs()
        found |= {"psnr": psnr(truth, mean), "ssim": ssim(truth, mean)}
    return {"chi2_ratio": posterior.diagnostics["chi2_ratio"], **found, "seconds": posterior.diagnostics["seconds"]}


if __name__ == "__main__":
    main()
