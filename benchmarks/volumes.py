"""Volumes from priors of slices, beside FDK, CGLS and total variation, in three planes.

    python benchmarks/volumes.py --part field --size 64 --json benchmarks/results/volumes_field.json
    python benchmarks/volumes.py --part head --slices 30:62 --draws 2 --json benchmarks/results/volumes_head.json
    python benchmarks/volumes.py --part mri --bin 4 --draws 2 --json benchmarks/results/volumes_mri.json
    python benchmarks/volumes.py --part phantom --size 256 --device cuda --nfe 49 --json volumes_256.json

Parts: ``field``, stationary Gaussian fields whose posterior is known (its mean and exact draws are rows of their own),
under priors that know the law of a slice and nothing else; ``head``, the CT of $INVDIFF_DATA/ct/head.mha; ``mri``, the
DICOM series $INVDIFF_DATA/mri/t1w_dicom; ``phantom``, a procedural head of any size. The last three use the shipped
priors. Classical methods take the strength that comes nearest to the truth. ``rows[]``: case, method, plane, psnr,
ssim; ``runs[]``: case, method, rmse, rmse_of_many (an estimate
for the mean of many draws: less what the spread of these few explains), spread (root mean variance of the draws),
spread_mean_z (the same of means over z), coverage90, chi2_ratio, z_roughness (of the error, high frequencies along z
over those in the plane), nfe, seconds, network (share of them), peak_memory_mib.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

import invdiff
from invdiff.baselines.cg_sense import cg_sense
from invdiff.baselines.cgls import cgls
from invdiff.baselines.fbp import filtered_backprojection
from invdiff.baselines.tune import tune
from invdiff.baselines.tv import tv
from invdiff.baselines.zero_filled import zero_filled
from invdiff.cli.memory import peak_memory_mib
from invdiff.cli.options import memory_size
from invdiff.datasets.phantoms.volumes import head_volume
from invdiff.datasets.reading import read_volume
from invdiff.datasets.volume import Volume
from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.metrics.image import psnr
from invdiff.metrics.planes import plane_scores, roughness
from invdiff.noise import Gaussian
from invdiff.operators.ct import ParallelCT
from invdiff.operators.ct.tomography import Tomography
from invdiff.operators.mri.masks import poisson_disc_mask
from invdiff.posterior import Posterior
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.priors.loading import load_prior
from invdiff.priors.slices import SlicePrior
from invdiff.reconstruction.scores import rows as slice_rows
from invdiff.simulation import CTScan, MRIScan, simulate
from invdiff.units import with_texture
from invdiff.validation.field import FourierFilter, posterior

METHODS = ("slicewise", "dds3d", "tpdm", "blend", "dds-slerp", "dds-shared")
CT = {"8 views": (8, 180.0), "30 views": (30, 180.0), "90 degrees": (60, 90.0)}
Case = tuple[str, Measurement, Tensor, Any]  # name, data, truth (z, y, x), prior


class Clocked(SlicePrior):
    """Slices, and the seconds that their denoising takes."""

    seconds = 0.0

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        began = self._now(x)
        out = super().denoise(x, sigma)
        Clocked.seconds += self._now(x) - began
        return out

    @staticmethod
    def _now(x: Tensor) -> float:
        if x.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def fields(size: int) -> Iterator[Case]:
    """Smooth fields in a box, and their slices' prior; 3D MRI by points, CT by few views."""
    shape = (size,) * 3
    for name, acceleration in (("3D MRI 4x", 4), ("3D MRI 8x", 8)):
        rng = torch.Generator().manual_seed(acceleration)
        whole = GaussianFieldPrior(matern(shape, 1.0, size / 8), domain="complex")
        mask = poisson_disc_mask((size, size), acceleration, (size // 12, size // 12), seed=0)
        operator = FourierFilter(mask[..., None].expand(shape).double(), "complex")
        yield field_case(name, whole, operator, 0.3, rng)
    for name, (views, arc) in CT.items():
        rng = torch.Generator().manual_seed(views)
        whole = GaussianFieldPrior(matern(shape, 1.0, size / 8))
        yield field_case(name, whole, tomograph(shape, views, arc), 0.3 * size / 8, rng)


def field_case(name: str, whole: GaussianFieldPrior, operator: Any, sigma: float, rng: torch.Generator) -> Case:
    """A draw of the field and noisy data; the prior comes with the whole field, which the exact answers need."""
    truth = whole.sample(1, rng)
    y = Gaussian(sigma).sample(operator.forward(truth), rng)[0]
    plane = GaussianFieldPrior(whole.spectrum.mean(0), domain=whole.domain)  # the law of a slice
    return name, Measurement(y, operator, Gaussian(sigma)), truth[0, 0], (plane, whole)


def exact(case: Case, draws: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The posterior's mean, and exact draws: closed form, or conjugate gradients on ``x = C^(1/2) w``."""
    _, measurement, _, (_, whole) = case
    if isinstance(measurement.operator, FourierFilter):
        law = posterior(whole, measurement)
        return law.mean[0], law.sample(draws, rng)[:, 0]
    op, s = measurement.operator, measurement.noise.sigma
    root = whole._plain.sqrt().float()

    def colour(w: Tensor) -> Tensor:
        return torch.fft.ifftn(torch.fft.fftn(w, dim=(-3, -2, -1)) * root, dim=(-3, -2, -1)).real

    def apply(w: Tensor) -> Tensor:
        return w + colour(op.normal(colour(w))) / s**2

    def solve(rhs: Tensor) -> Tensor:
        return colour(cg(apply, rhs, iterations=400, tolerance=1e-6))[0, 0]

    # Deviations on their own: beside the mean's right-hand side theirs would be within the tolerance.
    mean, zero = solve(colour(op.adjoint(measurement.data)) / s**2), torch.zeros(1, *op.domain_shape)
    found = []
    for _ in range(draws):
        noise = s * torch.randn(measurement.data.shape, generator=rng)
        found.append(mean + solve(colour(op.adjoint(noise)) / s**2 + torch.randn(zero.shape, generator=rng)))
    return mean, torch.stack(found)


def tomograph(shape: tuple[int, ...], views: int, arc: float) -> ParallelCT:
    """Parallel beams that see all of the volume, in pixels."""
    angles = torch.arange(views, dtype=torch.float64) * (math.radians(arc) / views)
    channels = math.ceil(math.hypot(*shape[1:])) + 2
    return ParallelCT(shape, angles, (shape[0], channels), unit="pixel")


def heads(slices: str | None) -> Iterator[Case]:
    """The real head CT under few views and over a limited arc, with 1e5 photons a channel."""
    volume = read_volume(Path(os.environ["INVDIFF_DATA"]) / "ct/head.mha")
    for name, (views, arc) in CT.items():
        found = simulate(volume, CTScan(views=views, arc=arc, volume=True), chosen(slices), 0)
        assert found.truth is not None
        yield name, found.measurement, found.truth[0, 0], load_prior("generic")


def series(binned: int, slices: str | None) -> Iterator[Case]:
    """The real T1w series, averaged over `binned` voxels along each axis, seen by 8 coils with points in (z, y)."""
    volume = read_volume(Path(os.environ["INVDIFF_DATA"]) / "mri/t1w_dicom")
    values = torch.from_numpy(volume.values.copy())[None, None]
    values = torch.nn.functional.avg_pool3d(values, binned)[0, 0]
    small = Volume(values.numpy(), volume.affine @ torch.diag(torch.tensor([binned] * 3 + [1.0])).double().numpy())
    for name, acceleration in (("3D MRI 4x", 4.0), ("3D MRI 8x", 8.0)):
        scan = MRIScan(acceleration=acceleration, mask="poisson", volume=True)
        found = simulate(small, scan, chosen(slices), 0)
        assert found.truth is not None
        yield name, found.measurement, found.truth[0, 0], load_prior("mri")


def phantoms(size: int) -> Iterator[Case]:
    """A procedural head of any size under few views, with noise of 0.3 % of the largest line integral."""
    truth = head_volume(torch.Generator().manual_seed(0), (size,) * 3)
    for name, (views, arc) in CT.items():
        operator = tomograph((size,) * 3, views, arc)
        clean = operator.forward(truth[None, None])
        sigma = 3e-3 * float(clean.max())
        y = Gaussian(sigma).sample(clean, torch.Generator().manual_seed(1))[0]
        yield name, Measurement(y, operator, Gaussian(sigma)), truth, load_prior("generic")


def chosen(text: str | None) -> list[int] | None:
    """Numbers of slices from "30:62"."""
    return None if text is None else list(range(*(int(n) for n in text.split(":"))))


def classical(case: Case, quick: bool) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Name and reconstruction ``(z, y, x)`` of each classical method, at the strength nearest to the truth."""
    _, measurement, truth, _ = case

    def best(method: Any, strengths: Any) -> Callable[[], Tensor]:
        return lambda: tune(method, measurement, lambda x: -psnr(truth, x[0, 0].cpu()), strengths).x[0, 0]

    if isinstance(measurement.operator, Tomography):
        yield "fdk", best(filtered_backprojection, (1.0, 0.7, 0.4, 0.25))
        yield "cgls", best(cgls, (5, 10, 20, 40))
    else:
        yield "zero_filled", lambda: zero_filled(measurement)[0, 0]
        yield "cg", best(cg_sense, (1.0, 10.0, 100.0))
    if not quick:
        yield "tv", best(tv, (1.0, 4.0, 16.0, 64.0))


def scored(name: str, method: str, truth: Tensor, mean: Tensor, more: dict[str, Any]) -> tuple[list[Any], Any]:
    """Rows of the three planes, and the run."""
    mean = mean.cpu()
    error = (mean - truth).abs().square().mean().sqrt()
    planes = plane_scores(truth, mean)
    if more.get("spread"):
        more = {"rmse_of_many": math.sqrt(max(0.0, float(error) ** 2 - more["spread"] ** 2 / more["draws"])), **more}
    rows = [{"case": name, "method": method, "plane": p, "psnr": r, "ssim": s} for p, (r, s) in planes.items()]
    run = {"case": name, "method": method, "rmse": float(error), "z_roughness": roughness(truth, mean), **more}
    shown = "  ".join(f"{p[:3]} {r:.2f}/{s or 0:.3f}" for p, (r, s) in planes.items())
    extra = "  ".join(f"{k} {v:.3g}" for k, v in run.items() if isinstance(v, float) and k != "rmse")
    print(f"{name:<12}{method:<12}{shown}  rmse {error:.4g}  {extra}", flush=True)
    return rows, run


def covered(truth: Tensor, draws: Tensor) -> dict[str, float | None]:
    """Spread, that of means over z, and the share of voxels in the central 90 % interval."""
    if len(draws) < 2:
        return {"spread": None, "spread_mean_z": None, "coverage90": None}
    row = slice_rows(truth[None, None], {}, list(range(len(truth))), Posterior.from_draws(draws[:, None]), "x")
    share = next(r["coverage90"] for r in row if r["slice"] == "mean")
    return {"spread": deviation(draws), "spread_mean_z": deviation(draws.mean(1)), "coverage90": share}


def deviation(draws: Tensor) -> float:
    """Root mean variance over the draws, real and imaginary part together."""
    off = (draws - draws.mean(0)).abs().square().sum(0) / (len(draws) - 1)
    return float(off.mean().sqrt())


def main() -> None:
    """Reconstruct by all methods and score them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("field", "head", "mri", "phantom"), required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", default=None, help="of the head or the series, as 30:62")
    parser.add_argument("--bin", type=int, default=4)
    parser.add_argument("--cases", default=None, help="comma-separated, as '8 views,30 views'")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--nfe", type=int, default=20)
    parser.add_argument("--mbir-nfe", type=int, default=None, help="run mbir, with this many evaluations")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", default="4GiB")
    parser.add_argument("--no-tv", action="store_true")
    parser.add_argument("--no-classical", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    sources = {
        "field": lambda: fields(args.size), "head": lambda: heads(args.slices),
        "mri": lambda: series(args.bin, args.slices), "phantom": lambda: phantoms(args.size),
    }  # fmt: skip
    content: dict[str, Any] = {"command": vars(args) | {"json": str(args.json)}, "rows": [], "runs": []}

    def keep(found: tuple[list[Any], Any]) -> None:
        content["rows"] += found[0]
        content["runs"].append(found[1])
        write(args.json, content, args.device)

    for case in sources[args.part]():
        name, measurement, truth, prior = case
        if args.cases and name not in args.cases.split(","):
            continue
        print(f"{name}: volume {tuple(truth.shape)}, z_roughness of the truth {roughness(truth, 0 * truth):.3f}")
        if args.part == "field":
            mean, draws = exact(case, args.draws, torch.Generator().manual_seed(9))
            keep(scored(name, "posterior", truth, mean, {}))
            keep(scored(name, "exact draws", truth, draws.mean(0), {**covered(truth, draws), "draws": args.draws}))
            prior = prior[0]
        measurement = measurement.to(args.device)
        for method, make in () if args.no_classical else classical((name, measurement, truth, prior), args.no_tv):
            began = time.perf_counter()
            x = make()
            keep(scored(name, method, truth, x, {"seconds": time.perf_counter() - began}))
        if measurement.operator.domain == "complex":
            prior = with_texture(prior, measurement, 2.0)
        methods = [m for m in args.methods.split(",") if m] + (["mbir"] if args.mbir_nfe else [])
        for method in methods:
            Clocked.seconds = 0.0
            found = invdiff.sample(
                measurement, Clocked(prior), method, args.draws, device=args.device,
                nfe=args.mbir_nfe if method == "mbir" else args.nfe, memory=memory_size(args.memory),
                progress=sys.stderr.isatty(),
            )  # fmt: skip
            draws = torch.from_numpy(found.draws.values)[:, 0]
            seconds = float(found.diagnostics["seconds"])
            more = {
                **covered(truth, draws), "chi2_ratio": found.diagnostics["chi2_ratio"],
                "nfe": found.diagnostics["nfe"], "draws": args.draws, "seconds": seconds / args.draws,
                "network": Clocked.seconds / seconds, "peak_memory_mib": peak_memory_mib(),
            }  # fmt: skip
            keep(scored(name, method, truth, draws.mean(0), more))


if __name__ == "__main__":
    main()
