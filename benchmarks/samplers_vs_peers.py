"""Our samplers beside azula's and deepinv's on the 25-mode mixture, or a Gaussian: one prior, set of data and budget.

    python benchmarks/samplers_vs_peers.py --dim 8 --observed 1 --nfe 200 --json p.json

Every method gets the exact denoiser and `--nfe` evaluations of it a draw; what it took (`nfe`, `vjp`) is counted from
outside, in the denoiser. Rows are those of `invdiff validate` with `library`. A library that is not installed is left
out, and said so; it may stand in a folder of its own: ``pip install --no-deps --target FOLDER azula`` and
``PYTHONPATH=FOLDER``. Peers are called with their defaults unless the name says otherwise.

`sw1_se` is the standard error over problems, which all methods share; two methods differ where their `sw1` differ by
more than their `sw1_run_se`, the standard error over `--runs` repetitions of the same problems.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

from invdiff.cli.validate import table
from invdiff.guidance import DiffPIR
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.samplers.base import Sampler
from invdiff.samplers.ddrm import DDRM
from invdiff.samplers.dps import DPS
from invdiff.samplers.guided import Guided
from invdiff.samplers.named import sampler as named_sampler
from invdiff.samplers.named import sampler_names
from invdiff.sampling import sample
from invdiff.schedules import Grid, ddpm, karras
from invdiff.solvers import Renoise
from invdiff.validation.judge import Judge
from invdiff.validation.sampler_problem import Counting
from invdiff.validation.study import average, make_cases, pool, stream, whole_units
from invdiff.validation.suites import families
from invdiff.validation.weighted import equal_weights

sys.path.insert(0, str(Path(__file__).resolve().parent))
from peers import Method, azula_methods, deepinv_methods  # noqa: E402

from invdiff.random import generator  # noqa: E402

# Options that peers take by default (even levels, zeta 0.3), or the authors' code does (DPS).
VARIANTS: dict[str, Callable[[int, Prior], Sampler]] = {
    "ddrm even levels": lambda nfe, _: DDRM(nfe=nfe, levels="even"),
    "diffpir even levels": lambda nfe, prior: _diffpir(nfe, 1.0, partial(karras, rho=1.0), 3 * prior.scale),
    "diffpir zeta=0.3": lambda nfe, _: _diffpir(nfe, 0.3, partial(ddpm, power=0.5)),
    "dps zeta=0.15": lambda nfe, _: DPS(zeta=0.15, nfe=nfe),
}


def _diffpir(nfe: int, zeta: float, grid: Grid, sigma_max: float | None = None) -> Sampler:
    return Guided(DiffPIR, Renoise(zeta), nfe, grid=grid, sigma_max=sigma_max, name="diffpir", uses_vjp=False)


def main() -> None:
    """Run the study and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("mixture", "gaussian"), default="mixture")
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--observed", type=int, default=1)
    parser.add_argument("--sigma", type=float, default=None, help="noise level; drawn with each problem if not given")
    parser.add_argument("--nfe", type=int, default=200, help="network evaluations per draw")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--runs", type=int, default=2, help="repetitions of each problem")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampler", action="append", help="only these of every library; may be repeated")
    parser.add_argument("--json", type=Path, default=None, help="file for the table")
    args = parser.parse_args()

    made = families(args.suite, args.dim, args.observed, args.sigma)
    cases = make_cases(made[0], args.repeats, args.seed)
    judges = [Judge(case, args.draws, generator(args.seed, stream(0, r, 2))) for r, case in enumerate(cases)]
    wanted = args.sampler or sampler_names()
    ours = {name: _ours(lambda nfe, _, name=name: named_sampler(name, nfe)) for name in wanted}
    ours |= {name: _ours(make) for name, make in VARIANTS.items()}
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for library, made_methods in {"invdiff": lambda: ours, "azula": azula_methods, "deepinv": deepinv_methods}.items():
        try:
            methods = made_methods()
        except Exception as error:  # noqa: BLE001 - deepinv fails to import beside another build's torchvision
            methods = {}
            skipped.append({"library": library, "reason": f"{type(error).__name__}: {error}"})
        if not methods:
            print(f"{library} is not there: left out", file=sys.stderr)
            skipped.append({"library": library, "reason": "not installed"})
        for name, method in methods.items():
            if name.split()[0] not in wanted:
                continue
            print(f"{library}, {name}", file=sys.stderr)
            try:
                rows.append({"library": library, **_row(name, method, cases, judges, args)})
            except Exception as error:  # noqa: BLE001 - another library may raise anything; the rest still runs
                skipped.append({"library": library, "sampler": name, "reason": f"{type(error).__name__}: {error}"})
            _write(args, rows, skipped)
    print(table(rows))
    for entry in skipped:
        print("not run:", ", ".join(f"{k} {v}" for k, v in entry.items()))


def _ours(make: Callable[[int, Prior], Sampler]) -> Method:
    """Our sampler as the peers are called, seeded from the global generator as they are."""

    def method(prior: Prior, measurement: Measurement, n: int, nfe: int) -> Tensor:
        seed, built = torch.initial_seed(), make(nfe, prior)
        count = whole_units(n, built.unit)
        posterior = sample(measurement, prior, built, count, seed=seed, device="cpu", progress=False)
        return equal_weights(posterior, generator(seed, -1))[:n]

    return method


def _row(name: str, method: Method, cases: list[Any], judges: list[Judge], args: argparse.Namespace) -> dict[str, Any]:
    found, costs, scatter = [], [], []
    for r, (case, judge) in enumerate(zip(cases, judges, strict=True)):
        runs = []
        for run in range(args.runs):
            torch.manual_seed(args.seed + r + 1000 * run)  # both libraries draw from the global generator
            prior, began = Counting(case.prior), time.perf_counter()
            draws: Tensor = method(prior, case.measurement, args.draws, args.nfe)
            seconds = time.perf_counter() - began
            runs.append(judge(draws))
            costs.append((prior.evaluations / args.draws, prior.gradients / args.draws, seconds))
        found.append({key: sum(one[key] for one in runs) / len(runs) for key in runs[0]})
        scatter.append(average([one["sw1"] for one in runs])[1] ** 2)
    kind, _, options = name.partition(" ")
    return {
        "case": cases[0].name,
        "sampler": kind,
        "options": options or None,
        "solver": None,
        "draws": args.draws,
        "unit": 1,
        "repeats": len(cases),
        **pool(found),
        "runs": args.runs,
        "sw1_run_se": math.sqrt(sum(scatter)) / len(scatter),
        **{key: average([c[i] for c in costs])[0] for i, key in enumerate(("nfe", "vjp", "seconds"))},
    }


def _write(args: argparse.Namespace, rows: list[dict[str, Any]], skipped: list[dict[str, Any]]) -> None:
    keys = ("suite", "dim", "observed", "sigma", "nfe", "draws", "repeats", "runs", "seed")
    write(args.json, {k: getattr(args, k) for k in keys} | {"rows": rows, "skipped": skipped})


if __name__ == "__main__":
    main()
