"""Speed of the tomographs beside ASTRA, deepinv and scikit-image (those that are installed).

    python benchmarks/ct.py [--json benchmarks/results/ct.json]

Milliseconds of a whole batch, the least of many repeats: of the wall (`ms`) and of the processor (`cpu_ms`, all
threads). All variants of a table take turns. `ratio` is to our matrix where there is one. `peak_mib` is the memory
kept by the operator (matrix and transpose), `adjoint_error` is |<Ax,y> - <x,A'y>| / (|Ax| |y|) in single precision.
The row "reading the matrix once" sums as many numbers as one of the two holds: no product can be faster.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from record import best, write

from invdiff.operators.ct import ConeCT, ParallelCT, fbp
from invdiff.operators.ct.tomography import Tomography

Job = tuple[dict[str, Any], Callable[[], object]]


def timed(jobs: list[Job], seconds: float, device: str) -> list[dict[str, Any]]:
    """Rows with the least times of each job, and their ratios to ours."""
    with torch.inference_mode():
        times = best([run for _, run in jobs], seconds, device)
    rows = [{**row, "ms": 1e3 * wall, "cpu_ms": 1e3 * cpu} for (row, _), (wall, cpu) in zip(jobs, times, strict=True)]
    for row in rows:
        ours = [r for r in rows if (r["op"], r["batch"]) == (row["op"], row["batch"]) and r["library"] == "invdiff"]
        row["ratio"] = row["ms"] / ours[0]["ms"] if ours else None
    return rows


def jobs_of(op: Tomography, library: str, name: str, batches: list[int], device: str) -> list[Job]:
    """Forward and adjoint of one operator."""
    out: list[Job] = []
    rng = torch.Generator().manual_seed(0)
    for batch in batches:
        x = torch.randn(batch, *op.domain_shape, generator=rng).to(device)
        y = torch.randn(batch, *op.range_shape, generator=rng).to(device)
        ax, back = op.forward(x), op.adjoint(y)
        gap = (ax.double() * y).sum() - (x.double() * back).sum()
        common = {
            "operator": name, "library": library, "size": "x".join(map(str, op.domain_shape[1:])),
            "views": op.geometry.views, "batch": batch, "device": device, "threads": torch.get_num_threads(),
            "peak_mib": _kept(op), "adjoint_error": float(gap.abs() / (ax.norm() * y.norm())),
        }  # fmt: skip
        out.append(({**common, "op": "forward"}, lambda x=x: op.forward(x)))  # type: ignore[misc]
        out.append(({**common, "op": "adjoint"}, lambda y=y: op.adjoint(y)))  # type: ignore[misc]
    return out


def _kept(op: Tomography) -> float:
    return sum(t.numel() * t.element_size() for t in op._all_tensors() + _indices(op)) / 2**20


def _indices(op: Tomography) -> list[torch.Tensor]:
    return [t for t in op._buffers().values() if isinstance(t, torch.Tensor) and not t.is_floating_point()]


def planar(size: int, views: int, batches: list[int], device: str, seconds: float) -> list[dict[str, Any]]:
    """Parallel beams, as in the literature's comparisons: size x size, channels on the diagonal."""
    angles = torch.arange(views, dtype=torch.float64) * (math.pi / views)
    channels = math.ceil(size * math.sqrt(2))
    name, jobs = "parallel beam", []
    matrix = ParallelCT((size, size), angles, channels, backend="matrix").to(device)
    jobs += jobs_of(matrix, "invdiff", name, batches, device)  # type: ignore[arg-type]
    kernels = ["numba"] if device == "cpu" and find_spec("numba") else []
    kernels += ["triton"] if device == "cuda" and find_spec("triton") else []
    for kernel in kernels:
        op = ParallelCT((size, size), angles, channels, backend=kernel).to(device)
        jobs += jobs_of(op, f"invdiff, {kernel}", name, batches, device)  # type: ignore[arg-type]
    row = {k: v for k, v in jobs[0][0].items() if k not in ("adjoint_error", "peak_mib")}
    y = torch.rand(1, *matrix.range_shape, device=device)
    jobs.append(({**row, "op": "fbp", "batch": 1}, lambda: fbp(matrix, y)))  # type: ignore[arg-type]
    values = torch.rand(int(_kept(matrix) / 2 * 2**20 / 4), device=device)  # type: ignore[arg-type]
    jobs.append(({**row, "library": "torch", "op": "reading the matrix once", "batch": 1}, lambda: values.sum()))
    if device == "cpu":
        jobs += _astra(size, angles, channels, row) + _deepinv(size, angles, channels, row, batches)
        jobs += _skimage(size, angles, row)
    return timed(jobs, seconds, device)


def _astra(size: int, angles: torch.Tensor, channels: int, row: dict[str, Any]) -> list[Job]:
    if not find_spec("astra"):
        return []
    import astra

    beam = astra.create_proj_geom("parallel", 1.0, channels, angles.numpy())
    op = astra.OpTomo(astra.create_projector("linear", beam, astra.create_vol_geom(size, size)))
    x, y = torch.rand(size * size).numpy(), torch.rand(len(angles) * channels).numpy()
    row = {**row, "library": "astra linear", "batch": 1}
    return [({**row, "op": "forward"}, lambda: op @ x), ({**row, "op": "adjoint"}, lambda: op.T @ y)]


def _deepinv(size: int, angles: torch.Tensor, channels: int, row: dict[str, Any], batches: list[int]) -> list[Job]:
    if not find_spec("deepinv"):
        return []
    import deepinv

    op = deepinv.physics.Tomography(angles=torch.rad2deg(angles), img_width=size, circle=False, normalize=False)
    jobs: list[Job] = []
    for batch in batches:
        x = torch.rand(batch, 1, size, size)
        y = op.A(x)
        jobs.append(({**row, "library": "deepinv", "op": "forward", "batch": batch}, lambda x=x: op.A(x)))  # type: ignore[misc]
        jobs.append(({**row, "library": "deepinv", "op": "adjoint", "batch": batch}, lambda y=y: op.A_adjoint(y)))  # type: ignore[misc]
    return jobs


def _skimage(size: int, angles: torch.Tensor, row: dict[str, Any]) -> list[Job]:
    from skimage.transform import iradon, radon

    image, degrees = torch.rand(size, size).numpy(), torch.rad2deg(angles).numpy()
    sinogram = radon(image, degrees, circle=False)
    row = {**row, "library": "scikit-image", "batch": 1}
    return [
        ({**row, "op": "forward"}, lambda: radon(image, degrees, circle=False)),
        ({**row, "op": "fbp"}, lambda: iradon(sinogram, degrees, circle=False)),
    ]


def cone(size: int, views: int, device: str, seconds: float) -> list[dict[str, Any]]:
    """A cone beam without a matrix: size^3 voxels, a detector of 1.5 size squared."""
    angles = torch.arange(views, dtype=torch.float64) * (2 * math.pi / views)
    kernel = "auto" if device == "cuda" else "numba" if find_spec("numba") else "torch"
    pixels = math.ceil(1.5 * size)
    op = ConeCT(
        (size,) * 3, angles, (pixels, pixels), source_axis=4.0 * size, source_detector=6.0 * size, detector_spacing=1.2,
        backend="triton" if device == "cuda" and find_spec("triton") else kernel,
    ).to(device)  # fmt: skip
    jobs = jobs_of(op, "invdiff", "cone beam", [1], device)  # type: ignore[arg-type]
    y = torch.rand(1, *op.range_shape, device=device)
    jobs.append(({**jobs[0][0], "op": "fdk"}, lambda: fbp(op, y)))  # type: ignore[arg-type]
    return timed(jobs, seconds, device)


def main() -> None:
    """Print the table, and write it where --json says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures, with machine and date, to this file")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=180)
    parser.add_argument("--cone", type=int, default=64, help="voxels along each axis of the cone-beam volume; 0: none")
    parser.add_argument("--cone-views", type=int, default=90)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=20, help="time spent on each table")
    args = parser.parse_args()
    rows = planar(args.size, args.views, args.batches, args.device, args.seconds)
    if args.cone:
        rows += cone(args.cone, args.cone_views, args.device, args.seconds / 2)
    for row in rows:
        head = f"{row['operator']:14s} {row['library']:16s} {row['op']:24s} {row['size']:>11s} x {row['views']:<4d}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:7.2f} x"
        print(f"{head} batch {row['batch']:<3d}{row['ms']:10.2f} ms  processor {row['cpu_ms']:10.2f} ms {ratio}")
    write(args.json, {"rows": rows}, args.device)


if __name__ == "__main__":
    main()
