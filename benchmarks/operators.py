"""Time, memory and adjoint error of every operator that comes with the package, beside other libraries.

    python benchmarks/operators.py [--json benchmarks/results/operators.json] [--quick] [--only mri --only ct-parallel]

- `ms`: least wall time of a whole batch over many repeats; all libraries of an operator take turns. `cpu_ms`: the
  least processor time, all threads, which a busy machine disturbs less. `ratio`: `ms` over that of ours.
- `peak_mib`: what the process grew by while the operator was built and the call ran, at its highest (GPU: peak of the
  allocator during the call). null where the system does not tell.
- `adjoint_error`: the larger of |<Ax,y> - <x,A'y>| / (|Ax| |y|) for a random y and for y = A x, in the library's own
  precision; "vjp" of a nonlinear operator stands for its adjoint and has none.
- `norm_ratio`: |A x| over that of ours for the same x, white noise: 1 where the two are the same operator. torchkbnufft
  divides by its doubled grid. Tomographs differ in how they interpolate: ASTRA's fan takes the lengths in each pixel,
  which gives white noise 1.12 times our norm and smooth images the same one to 0.1 %.
- `example`: true where an operator is timed at the small size that its conformance is checked at.

With --json F the bar chart goes to F with the suffix .png.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from operator_cases import built_in, make  # noqa: E402
from operator_peers import ON_GPU, PEERS, Maps, why_missing  # noqa: E402
from record import best, write  # noqa: E402

from invdiff.operators.base import LinearOperator, Operator  # noqa: E402
from invdiff.priors.gaussian import normal  # noqa: E402

Job = tuple[dict[str, Any], Callable[[], object]]


# ---- measuring ---------------------------------------------------------------------------------------------------
class Memory:
    """MiB that the process (or the GPU's allocator) has grown by, at most, since this object was made."""

    def __init__(self, device: str) -> None:
        self.gpu, self.base = device == "cuda", 0.0
        self.base = self._now() or 0.0

    def peak(self, run: Callable[[], object]) -> float | None:
        """The highest level during one call."""
        before = self._now()
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        elif before is not None:
            Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident size so far
        run()
        if self.gpu:
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() / 2**20 - self.base
        highest = _status("VmHWM")
        return None if before is None or highest is None else max(highest - self.base, 0.0)

    def _now(self) -> float | None:
        gc.collect()
        if self.gpu:
            return torch.cuda.memory_allocated() / 2**20
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # hand back what is free, or it would hide the next growth
        return _status("VmRSS") if os.access("/proc/self/clear_refs", os.W_OK) else None


def _status(field: str) -> float | None:
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else None


def adjoint_error(maps: Maps, x: Any, y: Any) -> float:
    """See the top of this file."""
    assert maps.adjoint is not None
    ax, worst = maps.forward(x), 0.0
    for data in (y, ax):
        gap = abs(_inner(ax, data) - _inner(x, maps.adjoint(data)))
        worst = max(worst, gap / (_size(ax) * _size(data)))
    return worst


def _inner(a: Any, b: Any) -> complex:
    # The real part: real x and complex data (or complex numbers kept as two channels) know no more.
    return complex(np.vdot(_array(a), _array(b)).real)


def _size(a: Any) -> float:
    return float(np.linalg.norm(_array(a)))


def _array(a: Any) -> Any:
    a = a.detach().cpu().resolve_conj().numpy() if isinstance(a, torch.Tensor) else np.asarray(a)
    return a.ravel().astype(np.complex128 if np.iscomplexobj(a) else np.float64)


# ---- one operator -------------------------------------------------------------------------------------------------
def ours(op: Operator, x: torch.Tensor) -> Maps:
    """Our operator in the shape of the others."""
    if isinstance(op, LinearOperator):
        return Maps(op.forward, op.adjoint, op.normal)
    return Maps(op.forward, lambda y: op.vjp(x, y))


def study(name: str, batch: int, device: str, seconds: float, quick: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of one operator in all libraries, and a line for each that is missing."""
    builders: dict[str, Callable[[], Maps]] = {"invdiff": lambda: ours(op, x)}
    missing = []
    for library, build in PEERS.get(name, {}).items():
        reason = why_missing(library) or ("computes on the CPU" if device == "cuda" and library not in ON_GPU else "")
        if reason:
            missing.append(f"{name}: {library} {reason}")
        else:
            builders[library] = lambda build=build: build(host, device)  # type: ignore[misc]
    memory = Memory(device)  # after the imports, before anything is built
    host, sized = make(name, quick)
    op = host.to(device)
    rng = torch.Generator().manual_seed(1)
    batch = batch if op.n_problems == 1 else op.n_problems
    kinds = {"real": torch.float32, "complex": torch.complex64}
    x = normal((batch, *op.domain_shape), kinds[op.domain], rng).to(device)
    y = normal((batch, *op.range_shape), kinds[op.range], rng).to(device)
    if op.range_mask is not None:
        y = y * op.range_mask
    jobs: list[Job] = []
    length = _size(op.forward(x))
    for library, build in builders.items():
        try:
            jobs += _jobs(name, library, build(), memory, op, x, y, length, sized, device)
        except Exception as error:  # noqa: BLE001 - another library's failure is a line of the report
            if library == "invdiff":
                raise
            missing.append(f"{name}: {library} failed, {type(error).__name__}: {' '.join(str(error).split())[:160]}")
        memory = Memory(device)
    times = best([run for _, run in jobs], seconds, device)
    rows = [{**row, "ms": 1e3 * wall, "cpu_ms": 1e3 * cpu} for (row, _), (wall, cpu) in zip(jobs, times, strict=True)]
    for row in rows:
        row["ratio"] = row["ms"] / next(r["ms"] for r in rows if (r["library"], r["op"]) == ("invdiff", row["op"]))
    return rows, missing


def _jobs(
    name: str, library: str, maps: Maps, memory: Memory, op: Operator, x: torch.Tensor, y: torch.Tensor,
    length: float, sized: bool, device: str,
) -> Iterator[Job]:  # fmt: skip
    theirs, data = maps.x(x), maps.y(y)
    linear = op.is_linear
    common = {
        "operator": name, "library": library, "size": "x".join(map(str, op.domain_shape)),
        "data": "x".join(map(str, op.range_shape)), "batch": len(x), "device": device,
        "threads": torch.get_num_threads(), "example": not sized,
        "adjoint_error": adjoint_error(maps, theirs, data) if linear and maps.adjoint else None,
        "norm_ratio": _size(maps.forward(theirs)) / length,
    }  # fmt: skip
    runs: dict[str, Callable[[], object]] = {"forward": lambda: maps.forward(theirs)}
    if maps.adjoint is not None:
        adjoint = maps.adjoint
        runs["adjoint" if linear else "vjp"] = lambda: adjoint(data)
        if linear:
            runs["normal"] = lambda: (maps.normal or (lambda v: adjoint(maps.forward(v))))(theirs)
    for kind, run in runs.items():
        yield {**common, "op": kind, "peak_mib": memory.peak(run)}, run


# ---- the report --------------------------------------------------------------------------------------------------
def line(row: dict[str, Any]) -> str:
    """One row as text."""
    gap = "-" if row["adjoint_error"] is None else f"{row['adjoint_error']:.1e}"
    peak = "-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
    head = f"{row['operator']:19s} {row['library']:13s} {row['op']:8s} {row['size']:>12s} {row['batch']:5d}"
    tail = f"{row['ratio']:7.2f} {peak:>8s} {gap:>9s} {row['norm_ratio']:6.3f}"
    return f"{head} {row['ms']:10.3f} {row['cpu_ms']:10.3f} {tail}{' (example)' if row['example'] else ''}"


def chart(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Bars of milliseconds, one panel a kind of call, one group an operator of a size of use."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [r for r in rows if not r["example"]] or rows
    groups = list(dict.fromkeys((r["operator"], r["batch"]) for r in rows))
    libraries = list(dict.fromkeys(r["library"] for r in rows))
    kinds = [k for k in ("forward", "adjoint", "normal") if any(r["op"] == k for r in rows)]
    height = 0.3 * len(rows) / len(kinds) + 1.5
    fig, axes = plt.subplots(1, len(kinds), figsize=(4.5 * len(kinds), height), sharey=True, layout="constrained")
    for ax, kind in zip(np.atleast_1d(axes), kinds, strict=True):
        for i, group in enumerate(groups):
            found = [r for r in rows if (r["operator"], r["batch"], r["op"]) == (*group, kind)]
            for j, row in enumerate(found):
                color = f"C{libraries.index(row['library'])}"
                ax.barh(i + 0.8 * (j + 0.5) / len(found) - 0.4, row["ms"], 0.75 / len(found), color=color)
        ax.set(title=kind, xscale="log", xlabel="ms a batch")
        ax.set_yticks(range(len(groups)), [f"{name}, batch {batch}" for name, batch in groups])
        ax.grid(axis="x", alpha=0.3)
    np.atleast_1d(axes)[0].invert_yaxis()
    handles = [plt.Rectangle((0, 0), 1, 1, color=f"C{i}") for i in range(len(libraries))]
    fig.legend(handles, libraries, loc="outside lower center", ncols=len(libraries))
    fig.suptitle(title, fontsize=9)
    part = path.with_name(f".{path.name}.part")
    fig.savefig(part, dpi=120, format="png")
    part.replace(path)


def main() -> None:
    """Print the table, and write it, with a chart beside it, where --json says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures, with machine and date, to this file")
    parser.add_argument("--only", action="append", help="an operator's name; may be given several times")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="of torch; as it is by default")
    parser.add_argument("--seconds", type=float, default=4, help="time spent on each operator and batch")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it runs")
    args = parser.parse_args()
    unknown = set(args.only or ()) - set(built_in())
    if unknown:
        parser.error(f"no operator {', '.join(sorted(unknown))}; there are {', '.join(built_in())}")
    if args.threads:
        torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    columns = f"{'operator':19s} {'library':13s} {'op':8s} {'size':>12s} {'batch':>5s} {'ms':>10s} {'cpu ms':>10s}"
    print(f"{columns} {'ratio':>7s} {'peak MiB':>8s} {'adjoint':>9s} {'|Ax|':>6s}")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # other libraries' remarks on themselves
        for name in args.only or built_in():
            for batch in args.batches:
                found, absent = study(name, batch, args.device, args.seconds, args.quick)
                rows, missing = rows + found, missing + [m for m in absent if m not in missing]
                print("\n".join(line(row) for row in found), flush=True)
                write(args.json, {"quick": args.quick, "missing": missing, "rows": rows}, args.device)
    print("\n".join(missing))
    if args.json:
        about = json.loads(args.json.read_text(encoding="utf-8"))
        chart(rows, args.json.with_suffix(".png"), f"{about['machine']['processor']}, {about['date']}")


if __name__ == "__main__":
    main()
