"""How well reconstructions of a real acquisition predict data that were left out: classical ones, peers, samplers.

    python benchmarks/holdout.py $INVDIFF_DATA/mri/brain_8coil_kspace.npy --json benchmarks/results/holdout.json
    python benchmarks/holdout.py FILE --sampler dds --sampler mmps --prior mri --draws 8

A tenth of the measured positions outside the calibration region is left out, all coils together (`--holdout`), with
split seeds 0, 1, ... (`--splits`). Each classical method, and sigpy's of the same kind where it is installed, has its
regularisation tuned on the very data it is judged by, separately for each split. `nrmse` is the relative error of
predicting them; that of noise-free truth would be `noise_alone`. Samplers are not tuned; `calibration` is 1 where the
draws' spread and the noise explain their error. `seconds` is the mean for one strength, or for all draws.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

import invdiff
from invdiff.baselines.cg_sense import cg_sense
from invdiff.baselines.tune import tune
from invdiff.baselines.tv import tv
from invdiff.baselines.wavelet import wavelet
from invdiff.baselines.zero_filled import zero_filled
from invdiff.reconstruction import Settings
from invdiff.reconstruction.texture import broadened
from invdiff.samplers.named import sampler as named_sampler
from invdiff.validation.holdout import held_out, nrmse, predict, score, split

Method = Callable[[invdiff.Measurement, float], Tensor]


def peers() -> dict[str, Method]:
    """Sigpy's reconstructions, ``(measurement, strength) -> x``; none where it is not installed."""
    try:
        from sigpy.mri import app
    except ImportError:
        return {}

    def run(recon: Any, unit: float, **options: Any) -> Method:
        def method(measurement: invdiff.Measurement, strength: float) -> Tensor:
            op = measurement.operator
            maps, y = op.coil_maps[0, 0].numpy(), measurement.y.numpy()  # type: ignore[attr-defined]
            weights = op.mask[0].expand(y.shape[-2:]).float().numpy()  # type: ignore[attr-defined]
            x = recon(y, maps, lamda=unit * strength, weights=weights, show_pbar=False, **options).run()
            return torch.from_numpy(x.copy()).to(measurement.y.dtype)[None, None]

        return method

    # Its strengths have the data's unit; these factors bring the optimum near 10 on this acquisition.
    return {
        "sigpy_cg_sense": run(app.SenseRecon, 1e-3, max_iter=50),
        "sigpy_tv": run(app.TotalVariationRecon, 1e-4, max_iter=300),
        "sigpy_wavelet": run(app.L1WaveletRecon, 1e-4, max_iter=100),
    }


def study(measurement: invdiff.Measurement, args: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """All methods on one split."""
    op, sigma = measurement.operator, measurement.noise.sigma  # type: ignore[attr-defined]
    train, held = split(measurement, args.holdout, seed)
    y = held_out(measurement.data, held)[0]
    rows: list[dict[str, Any]] = []

    def error(x: Tensor) -> float:
        return nrmse(y, predict(op, x, held)[0])  # type: ignore[arg-type]

    def add(method: str, seconds: float, **figures: Any) -> None:
        rows.append({"split": seed, "method": method, "seconds": round(seconds, 2), **figures})
        told = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
        print(f"split {seed}  {method:<16} {told}  ({seconds:.1f} s)", flush=True)

    noise = float((2 * torch.as_tensor(sigma).square().mean()).sqrt() / y.abs().square().mean().sqrt())
    add("noise_alone", 0.0, nrmse=noise, positions=int(held.sum()), data=y.numel())
    add("zero_filled", 0.0, nrmse=error(zero_filled(train)))
    ours: dict[str, Method] = {"cg_sense": cg_sense, "tv": tv, "wavelet": wavelet}
    for name, method in {**ours, **(peers() if args.peers else {})}.items():
        began = time.perf_counter()
        best = tune(method, train, error)
        each = (time.perf_counter() - began) / len(best.tried)
        add(name, each, nrmse=best.score, strength=best.strength, interior=best.interior)
    for name in args.sampler:
        began = time.perf_counter()
        sampler, settings = named_sampler(name, args.nfe), Settings(texture=args.texture, report=print)
        prior, texture = broadened(train, invdiff.load_prior(args.prior), sampler, settings)
        posterior = invdiff.sample(train, prior, sampler, args.draws, seed=0, device=args.device, progress=False)
        seconds = time.perf_counter() - began
        draws = torch.as_tensor(posterior.draws.values).reshape(args.draws, *op.domain_shape)
        found = score(y, predict(op, draws, held), sigma)  # type: ignore[arg-type]
        mean = torch.as_tensor(posterior.mean().values).reshape(1, *op.domain_shape)
        figures = {key.removeprefix("holdout_"): value for key, value in found.items()} | {"nrmse": error(mean)}
        add(name, seconds, **figures, texture=texture, draws=args.draws, nfe=posterior.diagnostics.get("nfe"))
    return rows


def main() -> None:
    """Run the study and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="multi-coil k-space of one slice, in a format that invdiff reads")
    parser.add_argument("--holdout", type=float, default=0.1, help="fraction of the positions left out")
    parser.add_argument("--splits", type=int, default=1, help="number of splits")
    parser.add_argument("--first", type=int, default=0, help="number of the first split")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave sigpy out")
    parser.add_argument("--sampler", action="append", default=[], help="posterior sampler to judge; may be repeated")
    parser.add_argument("--prior", default="mri", help="prior of the samplers")
    parser.add_argument("--texture", type=float, default=None, help="as of invdiff reconstruct")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--nfe", type=int, default=None)
    parser.add_argument("--device", default="auto", help="where the samplers run")
    parser.add_argument("--json", type=Path, default=None, help="file for the table")
    args = parser.parse_args()

    measurement = invdiff.read(args.file)
    rows = [row for seed in range(args.first, args.first + args.splits) for row in study(measurement, args, seed)]
    table = {
        "file": args.file.name,
        "sha256": measurement.meta.get("sha256"),
        "sigma": float(measurement.noise.sigma),  # type: ignore[attr-defined]
        "holdout": args.holdout,
        "rows": rows,
    }
    write(args.json, table)


if __name__ == "__main__":
    main()
