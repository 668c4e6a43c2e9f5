"""Our samplers beside azula's and deepinv's on the 25-mode mixture: one prior, one set of data, one budget.

    python benchmarks/samplers_vs_peers.py --dim 8 --observed 1 --nfe 200 --json p.json

Every method gets the exact denoiser and `--nfe` evaluations of it a draw; what it took (`nfe`, `vjp`) is counted from
outside, in the denoiser. Rows are those of `invdiff validate` with `library`. A library that is not installed is left
out, and said so; it may stand in a folder of its own: ``pip install --no-deps --target FOLDER azula`` and
``PYTHONPATH=FOLDER``. Peers are called with their defaults unless the name says otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

from invdiff.cli.validate import table
from invdiff.samplers.named import sampler_names
from invdiff.validation.judge import Judge
from invdiff.validation.sampler_problem import Counting
from invdiff.validation.study import average, make_cases, pool, run_study, stream
from invdiff.validation.suites import families

sys.path.insert(0, str(Path(__file__).resolve().parent))
from peers import Method, azula_methods, deepinv_methods  # noqa: E402

from invdiff.random import generator  # noqa: E402


def main() -> None:
    """Run the study and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--observed", type=int, default=1)
    parser.add_argument("--sigma", type=float, default=None, help="noise level; drawn with each problem if not given")
    parser.add_argument("--nfe", type=int, default=200, help="network evaluations per draw")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampler", action="append", help="only these of ours; may be repeated")
    parser.add_argument("--json", type=Path, default=None, help="file for the table")
    args = parser.parse_args()

    made = families("mixture", args.dim, args.observed, args.sigma)
    names = args.sampler or list(sampler_names())
    ours = run_study(
        made, names, nfe=args.nfe, draws=args.draws, repeats=args.repeats, seed=args.seed,
        tell=lambda line, done: print(f"invdiff, {line}", file=sys.stderr),
    )  # fmt: skip
    rows = [{"library": "invdiff", **row} for row in ours.rows]
    skipped = [{"library": "invdiff", **entry} for entry in ours.skipped]
    cases = make_cases(made[0], args.repeats, args.seed)
    judges = [Judge(case, args.draws, generator(args.seed, stream(0, r, 2))) for r, case in enumerate(cases)]
    for library, methods in {"azula": azula_methods(), "deepinv": deepinv_methods()}.items():
        if not methods:
            print(f"{library} is not installed: left out", file=sys.stderr)
            skipped.append({"library": library, "reason": "not installed"})
        for name, method in methods.items():
            print(f"{library}, {name}", file=sys.stderr)
            try:
                rows.append({"library": library, **_row(name, method, cases, judges, args)})
            except Exception as error:  # noqa: BLE001 - another library may raise anything; the rest still runs
                skipped.append({"library": library, "sampler": name, "reason": f"{type(error).__name__}: {error}"})
    print(table(rows))
    for entry in skipped:
        print("not run:", ", ".join(f"{k} {v}" for k, v in entry.items()))
    _write(args, rows, skipped)


def _row(name: str, method: Method, cases: list[Any], judges: list[Judge], args: argparse.Namespace) -> dict[str, Any]:
    found, costs = [], []
    for r, (case, judge) in enumerate(zip(cases, judges, strict=True)):
        torch.manual_seed(args.seed + r)  # both libraries draw from the global generator
        prior, began = Counting(case.prior), time.perf_counter()
        draws: Tensor = method(prior, case.measurement, args.draws, args.nfe)
        seconds = time.perf_counter() - began
        found.append(judge(draws))
        costs.append((prior.evaluations / args.draws, prior.gradients / args.draws, seconds))
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
        **{key: average([c[i] for c in costs])[0] for i, key in enumerate(("nfe", "vjp", "seconds"))},
    }


def _write(args: argparse.Namespace, rows: list[dict[str, Any]], skipped: list[dict[str, Any]]) -> None:
    setting = {k: getattr(args, k) for k in ("dim", "observed", "sigma", "nfe", "draws", "repeats", "seed")}
    write(args.json, {**setting, "rows": rows, "skipped": skipped})


if __name__ == "__main__":
    main()
