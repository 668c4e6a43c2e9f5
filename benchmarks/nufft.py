"""Speed of non-Cartesian MRI: forward, adjoint, and `normal` as a convolution beside the pair that it replaces.

    python benchmarks/nufft.py [--json benchmarks/results/nufft.json]

Milliseconds of the wall (`ms`) and of the processor (`cpu_ms`, which a busy machine disturbs less), the least of
several repeats, all variants taking turns; `ratio` and `cpu_ratio` are forward and adjoint over normal. `error` is
that of the data against accuracy 1e-13 (forward), |<Ax,y> - <x,A^H y>| / (|Ax| |y|) (adjoint), and against adjoint of
forward in double precision (normal). Needs the extra `mri`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import best, write
from torch import Tensor

from invdiff.operators.mri.nufft import NonCartesianMRI


def radial(samples: int, size: int) -> Tensor:
    """Spokes of twice the matrix size at the golden angle, ``(samples, 2)`` in cycles per pixel."""
    spokes = samples // (2 * size)
    angle = torch.arange(spokes, dtype=torch.float64) * math.pi * (math.sqrt(5) - 1) / 2
    radius = (torch.arange(2 * size, dtype=torch.float64) - size) / (2 * size)
    return torch.stack([torch.outer(angle.sin(), radius), torch.outer(angle.cos(), radius)], -1).reshape(-1, 2)


def measure(name: str, op: NonCartesianMRI, batch: int, seconds: float) -> list[dict[str, Any]]:
    """The three operations of one operator."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *op.domain_shape, generator=rng, dtype=torch.complex64)
    y = torch.randn(batch, *op.range_shape, generator=rng, dtype=torch.complex64)
    jobs: dict[str, Callable[[], Tensor]] = {
        "forward": lambda: op.forward(x),
        "adjoint": lambda: op.adjoint(y),
        "normal": lambda: op.normal(x),
    }
    with torch.inference_mode():
        start = time.perf_counter()
        op.normal(x)
        setup = time.perf_counter() - start
        times = dict(zip(jobs, best(list(jobs.values()), seconds), strict=True))
        error = errors(op, x, y)
    size = "x".join(map(str, (op.range_shape[0], *op.domain_shape[1:])))
    common = {"operator": name, "library": "invdiff", "size": size, "samples": op.range_shape[1], "batch": batch}
    common |= {"device": "cpu", "threads": torch.get_num_threads()}
    pair = {
        name: (times["forward"][i] + times["adjoint"][i]) / times["normal"][i]
        for i, name in enumerate(("ratio", "cpu_ratio"))
    }
    extra = {"forward": {}, "adjoint": {}, "normal": {**pair, "first_ms": 1e3 * setup}}
    return [
        {**common, "op": job, "ms": 1e3 * wall, "cpu_ms": 1e3 * cpu, "error": error[job], **extra[job]}
        for job, (wall, cpu) in times.items()
    ]


def errors(op: NonCartesianMRI, x: Tensor, y: Tensor) -> dict[str, float]:
    """Relative errors of the three, in the first event."""
    x, y = x[:1], y[:1]
    exact = NonCartesianMRI(
        op.coil_maps.to(torch.complex128), op.trajectory, op.field_map, op.times, op.segments, 1e-13
    )
    ax, back = op.forward(x), op.adjoint(y)
    truth = exact.forward(x.to(torch.complex128))
    gap = torch.vdot(ax.flatten(), y.flatten()) - torch.vdot(x.flatten(), back.flatten())
    return {
        "forward": float((ax - truth).norm() / truth.norm()),
        "adjoint": float(gap.abs() / (ax.norm() * y.norm())),
        "normal": float((op.normal(x) - exact.adjoint(truth)).norm() / exact.adjoint(truth).norm()),
    }


def main() -> None:
    """Print the table, and write it where --json says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures, with machine and date, to this file")
    parser.add_argument("--coils", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--samples", type=int, default=1 << 16)
    parser.add_argument("--seconds", type=float, default=10, help="time spent on each operator")
    args = parser.parse_args()
    rng = torch.Generator().manual_seed(1)
    maps = torch.randn(args.coils, args.size, args.size, generator=rng, dtype=torch.complex64)
    k = radial(args.samples, args.size)
    fast = {"accuracy 1e-7": None, "accuracy 1e-4": 1e-4}
    rows = []
    for name, accuracy in fast.items():
        for batch in (1, 4):
            op = NonCartesianMRI(maps, k, accuracy=accuracy)
            rows += measure(f"radial 2D, {name}", op, batch, args.seconds)
    field = 50 * torch.randn(args.size, args.size, generator=rng).clamp(-2, 2)
    times = torch.linspace(0, 0.005, 2 * args.size).repeat(len(k) // (2 * args.size))
    rows += measure("radial 2D, off-resonance", NonCartesianMRI(maps, k, field, times), 1, args.seconds / 2)
    side = args.size // 4
    ball = torch.rand(args.samples, 3, generator=rng, dtype=torch.float64) - 0.5
    volume = torch.randn(args.coils, side, side, side, generator=rng, dtype=torch.complex64)
    rows += measure("random 3D, accuracy 1e-7", NonCartesianMRI(volume, ball), 1, args.seconds / 2)
    for row in rows:
        tail = f"  pair / normal {row['ratio']:.1f}, processor {row['cpu_ratio']:.1f}" if "ratio" in row else ""
        print(
            f"{row['operator']:26s} {row['size']:14s} batch {row['batch']:<2d} {row['op']:8s} {row['ms']:9.1f} ms"
            f" (processor {row['cpu_ms']:.1f})"
            f"  error {row['error']:.1e}{tail}"
        )
    write(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
