"""Speed of the Cartesian MRI operator and of ESPIRiT, beside textbook torch and sigpy.

    python benchmarks/mri_speed.py [--json benchmarks/results/mri_speed.json]

Milliseconds per image, the least of many repeats, of the wall (`ms`) and of the processor (`cpu_ms`: all threads,
which a busy machine disturbs less if that is one); all variants take turns. `ratio` and `cpu_ratio` are to one fft2
and one ifft2 of all coil images of the same batch, made with torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import best, write
from torch import Tensor

from invdiff.operators.fourier import fft2c, ifft2c
from invdiff.operators.mri.coils import espirit
from invdiff.operators.mri.sense import MRI

Job = tuple[str, str, str, Callable[[], object]]  # operator, library, op, what to time


def rows_of(jobs: list[Job], times: list[tuple[float, float]], common: dict[str, Any]) -> list[dict[str, Any]]:
    """Table rows; ratios to the first job."""
    return [
        {
            "operator": name,
            "library": library,
            "op": op,
            **common,
            "ms": 1e3 * wall / common["batch"],
            "cpu_ms": 1e3 * processor / common["batch"],
            "ratio": wall / times[0][0],
            "cpu_ratio": processor / times[0][1],
        }
        for (name, library, op, _), (wall, processor) in zip(jobs, times, strict=True)
    ]


def textbook(maps: Tensor, mask: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """The operator as one would write it down: shifted FFTs of all coil images at once."""

    def forward(x: Tensor) -> Tensor:
        return mask * fft2c(maps * x)

    def adjoint(y: Tensor) -> Tensor:
        return (maps.conj() * ifft2c(mask * y)).sum(1, keepdim=True)

    return {"forward": forward, "adjoint": adjoint, "normal": lambda x: adjoint(forward(x))}


def sigpy_jobs(maps: Tensor, mask: Tensor, x: Tensor, y: Tensor, name: str) -> list[Job]:
    """The same with sigpy, one image at a time (it has no batch axis); none where it is not installed."""
    try:
        import sigpy.mri.linop
    except ImportError:
        return []
    sense = sigpy.mri.linop.Sense(maps.numpy(), weights=mask.expand(maps.shape[-2:]).float().numpy())
    runs = {"forward": (sense, x[:, 0].numpy()), "adjoint": (sense.H, y.numpy()), "normal": (sense.N, x[:, 0].numpy())}

    def each(a: Callable[[Any], Any], data: Any) -> None:
        for item in data:
            a(item)

    return [(name, "sigpy", op, partial(each, a, data)) for op, (a, data) in runs.items()]


def operators(coils: int, size: int, batch: int, device: str, seconds: float) -> list[dict[str, Any]]:
    """Forward, adjoint and normal for three kinds of masks."""
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(coils, size, size, generator=rng, dtype=torch.complex64).to(device)
    x = torch.randn(batch, 1, size, size, generator=rng, dtype=torch.complex64).to(device)
    y = torch.randn(batch, coils, size, size, generator=rng, dtype=torch.complex64).to(device)
    columns = torch.rand(size, generator=rng) < 0.25
    masks = {"columns": columns[None], "rows": columns[:, None], "any": torch.rand(size, size, generator=rng) < 0.25}
    jobs: list[Job] = [("fft2 + ifft2", "torch", "pair", lambda: torch.fft.ifft2(torch.fft.fft2(y)))]
    for kind, mask in masks.items():
        mri, plain, name = MRI(maps, mask), textbook(maps, mask.to(device)), f"MRI, mask: {kind}"
        for op, data in (("forward", x), ("adjoint", y), ("normal", x)):
            jobs.append((name, "invdiff", op, partial(getattr(mri, op), data)))
            if kind != "rows":
                jobs.append((name, "textbook torch", op, partial(plain[op], data)))
        if kind == "any" and device == "cpu":
            jobs += sigpy_jobs(maps, mask, x, y, name)
    with torch.inference_mode():
        times = best([run for *_, run in jobs], seconds, device)
    common = {"size": f"{coils}x{size}x{size}", "batch": batch, "device": device, "threads": torch.get_num_threads()}
    return rows_of(jobs, times, common)


def coil_maps(coils: int, size: int, device: str, seconds: float) -> list[dict[str, Any]]:
    """ESPIRiT with 24 x 24 calibration samples; sigpy twice (it takes seconds), ours repeatedly. Ratios are to ours."""
    yy, xx = torch.meshgrid(*(torch.linspace(-1, 1, size) for _ in "yx"), indexing="ij")
    turn = 2 * torch.pi * torch.arange(coils)[:, None, None] / coils
    away = (yy - 1.3 * turn.sin()) ** 2 + (xx - 1.3 * turn.cos()) ** 2
    maps = torch.polar(torch.exp(-away / 1.6), turn + xx * turn.cos())
    rng = torch.Generator().manual_seed(0)
    image = ((yy / 0.85) ** 2 + (xx / 0.7) ** 2 < 1) * (1 + 0.3 * torch.rand(size, size, generator=rng))
    kspace = fft2c(maps * image) + 0.005 * torch.randn(coils, size, size, generator=rng, dtype=torch.complex64)
    jobs: list[Job] = [("ESPIRiT", "invdiff", "maps", partial(espirit, kspace.to(device)))]
    with torch.inference_mode():
        times = best([run for *_, run in jobs], seconds, device)
    try:
        from sigpy.mri.app import EspiritCalib

        jobs.append(("ESPIRiT", "sigpy", "maps", lambda: EspiritCalib(kspace.numpy(), show_pbar=False).run()))
        times += best([jobs[1][-1]], 0)
    except ImportError:
        pass
    common = {"size": f"{coils}x{size}x{size}", "batch": 1, "device": device, "threads": torch.get_num_threads()}
    return rows_of(jobs, times, common)


def main() -> None:
    """Print the table, and write it where --json says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures, with machine and date, to this file")
    parser.add_argument("--coils", type=int, default=15)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=20, help="time spent on each table")
    args = parser.parse_args()
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for batch in args.batches:
            rows += operators(args.coils, args.size, batch, args.device, args.seconds)
        rows += coil_maps(args.coils, args.size, args.device, args.seconds / 4)
    for row in rows:
        ratios = f"{row['ratio']:6.2f} x   processor {row['cpu_ms']:10.2f} ms {row['cpu_ratio']:6.2f} x"
        head = f"{row['operator']:20s} {row['library']:15s} {row['op']:8s} {row['size']:12s} batch {row['batch']:<3d}"
        print(f"{head} threads {row['threads']}{row['ms']:10.2f} ms {ratios}")
    write(args.json, {"rows": rows}, args.device)


if __name__ == "__main__":
    main()
