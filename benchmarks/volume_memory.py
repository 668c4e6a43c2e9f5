"""Does a volume stay within its memory budget? Peak resident memory of whole runs, each in a process of its own.

    python benchmarks/volume_memory.py --json benchmarks/results/volume_memory.json
    python benchmarks/volume_memory.py --only 256 --half bfloat16

A procedural head of N^3 voxels under 8 views goes through `dds3d` with the shipped prior for one step, five conjugate
gradients in it: memory does not depend on how many there are. `--views` and `--steps` ask for more. ``runs[]``: size,
memory_mib (the budget), steps, peak_memory_mib, within, seconds, slices_at_once, half. ``reconstructions[]``: whole
runs of `reconstruct` with draws and maps, of k-space and with the network's gradient, each with 5 % more than the least
budget that is accepted (least_mib). ``half[]``: for each shipped prior, half precision and sigma, how far the denoised
image moves and what the network's own error is (root mean square, in units of sigma), what that costs in dB, and
milliseconds per image on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from record import best, write

# kind, size, coils, draws, method
WHOLE = (("mri", 96, 8, 2, "dds3d"), ("mri", 64, 2, 8, "dds3d"), ("ct", 96, 0, 2, "mmps"))
# size, budget, steps, views, beam
RUNS = ((128, "2GiB", 1, 8, "cone"), (256, "4GiB", 1, 8, "parallel"))


def run(size: int, memory: str, steps: int, views: int, beam: str, half: str) -> dict[str, Any]:
    """One run in this process."""
    import torch

    import invdiff
    from invdiff.cli.memory import peak_memory_mib
    from invdiff.cli.options import memory_size
    from invdiff.datasets.phantoms.volumes import head_volume
    from invdiff.measurement import Measurement
    from invdiff.noise import Gaussian
    from invdiff.operators.ct import ConeCT, ParallelCT
    from invdiff.priors.loading import load_prior
    from invdiff.priors.slices import SlicePrior
    from invdiff.samplers.guided import Guided
    from invdiff.samplers.volume.dds3d import DDS3D
    from invdiff.solvers import DDIM
    from invdiff.units import in_memory

    budget, n = memory_size(memory), size
    channels = math.ceil(1.5 * n)
    if beam == "cone":
        angles = torch.arange(views, dtype=torch.float64) * (2 * math.pi / views)
        operator: Any = ConeCT(
            (n, n, n), angles, (channels, 2 * channels), source_axis=4.0 * n, source_detector=6.0 * n, unit="pixel",
            truncated=True,
        )  # fmt: skip
    else:
        angles = torch.arange(views, dtype=torch.float64) * (math.pi / views)
        operator = ParallelCT((n, n, n), angles, (n, channels), unit="pixel")
    truth = head_volume(torch.Generator().manual_seed(0), (n, n, n))
    y = operator.forward(truth[None, None])[0]
    sigma = 3e-3 * float(y.max())
    del truth
    measurement = Measurement(y, operator, Gaussian(sigma))
    prior = SlicePrior(load_prior("generic", half=half)).fitted(operator.domain_shape, budget)
    before = peak_memory_mib()
    began = time.perf_counter()
    sampler = Guided(lambda p, m: DDS3D(p, m, iterations=5), DDIM(0.85), steps, name="dds3d", uses_vjp=False)
    invdiff.sample(measurement, prior, sampler, 1, memory=budget, progress=False)
    peak = peak_memory_mib()
    assert peak is not None
    return {
        "size": n, "memory_mib": budget / 2**20, "steps": steps, "views": views, "beam": beam, "half": half,
        "streamed": in_memory(measurement, budget) is not measurement, "slices_at_once": prior.chunk,
        "peak_before_mib": before, "peak_memory_mib": peak, "within": peak <= budget / 2**20,
        "seconds": time.perf_counter() - began,
    }  # fmt: skip


def whole(kind: str, size: int, coils: int, draws: int, method: str, half: str) -> dict[str, Any]:
    """A run of `reconstruct` under hardly more than the least budget it accepts, in this process."""
    import torch

    from invdiff.cli.memory import peak_memory_mib
    from invdiff.errors import InputError
    from invdiff.measurement import Measurement
    from invdiff.noise import Gaussian
    from invdiff.operators.ct import ParallelCT
    from invdiff.operators.mri.volumes import MRI3D
    from invdiff.priors.loading import load_prior
    from invdiff.priors.slices import on_slices
    from invdiff.reconstruction import Settings, reconstruct
    from invdiff.units import held_beside

    n, rng = size, torch.Generator().manual_seed(0)
    if kind == "mri":
        maps = torch.randn(coils, n, n, n, dtype=torch.complex64, generator=rng) / math.sqrt(coils)
        operator: Any = MRI3D(maps, torch.rand(n, n, 1, generator=rng) < 0.25)
        x = torch.randn(1, 1, n, n, n, dtype=torch.complex64, generator=rng)
    else:
        operator = ParallelCT((n, n, n), torch.arange(8) * (math.pi / 8), (n, math.ceil(1.5 * n)), unit="pixel")
        x = torch.rand(1, 1, n, n, n, generator=rng)
    y = operator.forward(x)[0]
    measurement = Measurement(y, operator, Gaussian(0.01 * float(y.abs().max())))
    del x, y
    prior, shape = load_prior("mri" if kind == "mri" else "generic", half=half), tuple(operator.domain_shape)
    least, beside = 1 << 28, held_beside(measurement, draws)
    while True:
        try:
            on_slices(prior, shape, operator.domain, least, gradient=method == "mmps", beside=beside)
            break
        except InputError:
            least = math.ceil(1.01 * least)
    budget = math.ceil(1.05 * least)
    settings = Settings(method=method, prior=prior, draws=draws, nfe=1, memory=budget, alone=True, progress=False)
    began = time.perf_counter()
    reconstruct(measurement, settings)
    peak = peak_memory_mib()
    assert peak is not None
    return {
        "kind": kind, "size": n, "coils": coils, "draws": draws, "method": method, "half": half,
        "least_mib": least / 2**20, "memory_mib": budget / 2**20, "beside_mib": beside / 2**20, "peak_memory_mib": peak,
        "within": peak <= budget / 2**20, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def precision() -> list[dict[str, Any]]:
    """What half precision does to the shipped priors, and what it saves: 128 x 128 heads that no training saw."""
    import torch

    from invdiff.datasets.phantoms.volumes import head_volume
    from invdiff.priors.loading import load_prior

    found = []
    truth = head_volume(torch.Generator().manual_seed(0), (8, 128, 128))[2:6, None]
    for name, kind in itertools.product(("generic", "mri"), (torch.bfloat16, torch.float16)):
        half = str(kind).removeprefix("torch.")
        prior, halved = load_prior(name, half="none"), load_prior(name, half=half)
        x = truth.to(torch.complex64) if prior.domain == "complex" else truth
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
        for sigma in (0.003, 0.01, 0.02, 0.05, 0.1, 0.3, 3.0):
            z, level = x + sigma * noise, torch.tensor([sigma])
            with torch.inference_mode():
                whole, fast = prior.denoise(z, level), halved.denoise(z, level)
            rms, off, lost = (float(d.abs().square().mean().sqrt()) for d in (whole - x, fast - whole, fast - x))
            row = {"prior": name, "sigma": sigma, "half": half, "error_rms": rms / sigma, "rms": off / sigma}
            found.append(row | {"lost_db": 20 * math.log10(lost / rms)})
            print(found[-1], flush=True)
        if kind is torch.bfloat16:  # float16 has no fast path on processors
            with torch.inference_mode():
                jobs = [partial(each.denoise, x, torch.tensor([1.0])) for each in (prior, halved)]
                slow, quick = (250 * wall for wall, _ in best(jobs, 6.0))
            found.append({"prior": name, "half": half, "ms_per_image": quick, "ms_per_image_whole": slow})
            print(found[-1], flush=True)
    return found


def main() -> None:
    """Run all, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, default=None, help="runs of this size alone")
    parser.add_argument("--half", default="auto")
    parser.add_argument("--views", type=int, default=None)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--no-precision", action="store_true", help="leave out the study of half precision")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        options = json.loads(args.one)
        to = Path(options.pop("to"))
        to.write_text(json.dumps((whole if "kind" in options else run)(**options)), encoding="utf-8")
        return
    content: dict[str, Any] = {"half": precision() if args.only is None and not args.no_precision else []}
    content |= {"runs": [], "reconstructions": []}
    write(args.json, content)
    for size, memory, steps, views, beam in RUNS:
        if args.only not in (None, size):
            continue
        options = {"size": size, "memory": memory, "beam": beam, "half": args.half}
        content["runs"].append(_apart(options | {"steps": args.steps or steps, "views": args.views or views}))
        write(args.json, content)
    for kind, size, coils, draws, method in WHOLE:
        if args.only not in (None, size):
            continue
        options = {"kind": kind, "size": size, "coils": coils, "draws": draws, "method": method}
        options["half"] = args.half
        content["reconstructions"].append(_apart(options))
        write(args.json, content)
    if not all(r["within"] for r in content["runs"] + content["reconstructions"]):
        raise SystemExit("a run went beyond its budget")


def _apart(options: dict[str, Any]) -> dict[str, Any]:
    """One run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.json"
        subprocess.run([sys.executable, __file__, "--one", json.dumps(options | {"to": str(file)})], check=True)
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    print(found, flush=True)
    return found


if __name__ == "__main__":
    main()
