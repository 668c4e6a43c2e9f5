"""Active acquisition: exact toys, and a study on real slices and phantoms at equal budgets, paired over slices.

    python benchmarks/active.py [--json benchmarks/results/active.json] [--only toys study gaussian cost weather]

Parts (results are written as they come; a part or a slice that is in the file already is not run again):

- `gaussian`, `templates`, `lines`: selection alone with exact posteriors (`active_toys.py`).
- `study`: k-space lines of 64 x 64 slices, single coil, prior "mri", noise 0.01 of bright tissue's 0.8; a quarter of
  the budget in the centre to begin with; the same final chain and the same noise for every mask (`active_study.py`).
  Real slices need INVDIFF_DATA; without it phantoms alone are run.
- `cost`: what a decision takes beside a network evaluation.
- `weather`: sites for stations on the real 2 m temperature field (`active_weather.py`).

With --json F.json the masks go to F_masks.png and the table of differences is in `study.paired`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from active_study import (
    INNER,
    LIFT,
    NFE,
    SIGMA,
    SIZE,
    fixed_design,
    one,
    paired,
    phantoms,
    policies,
    prior_draws,
    slices,
)  # noqa: E402
from record import write  # noqa: E402

import invdiff  # noqa: E402
from invdiff.policies import Fixed  # noqa: E402
from invdiff.samplers.active.loop import GUIDANCE  # noqa: E402

PARTS = ("gaussian", "templates", "lines", "study", "cost", "weather")
FIRST, THEN = ("fixed", "entropy", "logdet"), ("density", "equispaced", "random")
LAST = ("a-optimal", "lowfrequency", "entropy, lift 4", "entropy-online", "entropy-online, redrawn")
PLAN = (  # in the order of importance
    (8, "real", FIRST), (4, "real", FIRST), (8, "real", THEN), (4, "real", THEN), (16, "real", FIRST + THEN),
    (4, "real", LAST[:1]), (8, "phantom", FIRST + THEN), (8, "real", LAST),
)  # fmt: skip
ACTIVE = ("entropy", "logdet", "a-optimal", "entropy-online", "entropy, lift 4")


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=150, help="of the templates; a third of it for lines")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--every", type=int, default=3, help="every so many of the 96 axial slices")
    parser.add_argument("--phantoms", type=int, default=12)
    options = parser.parse_args()
    content: dict[str, Any] = {}
    if options.json and options.json.exists():
        content = json.loads(options.json.read_text(encoding="utf-8"))

    def keep(part: str, found: dict[str, Any]) -> None:
        content[part] = found
        write(options.json, {k: content[k] for k in PARTS if k in content})

    for part in options.only:
        if part == "study":
            study(options, content.get("study", {}), lambda found: keep("study", found))
        elif part not in content:
            keep(part, single(part, options))
    if options.json and "study" in content:
        from active_picture import masks

        masks(content["study"], options.json.with_name(options.json.stem + "_masks.png"))


def single(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """One of the parts that are done at once."""
    import active_toys

    if part == "gaussian":
        return active_toys.gaussian_study(say)
    if part == "templates":
        return {
            f"sigma {s}": active_toys.template_study(n, (10, 20), s, say)
            for s, n in ((0.1, options.seeds), (0.3, options.seeds // 3))
        }
    if part == "lines":
        return active_toys.line_study(options.seeds // 3, (3, 6, 10), 0.02, say) | {"seeds": options.seeds // 3}
    if part == "cost":
        from active_cost import cost

        return cost(say)
    from active_weather import weather

    return weather(say)


def study(options: argparse.Namespace, found: dict[str, Any], keep: Any) -> None:
    """All slices, one after the other; what was done before is left as it is."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads())
    prior = invdiff.load_prior("mri")
    draws = _kept_draws(prior, options.json)
    truths = {"phantom": list(phantoms(SIZE, options.phantoms))}
    truths["real"] = list(slices(SIZE, options.every)) if "INVDIFF_DATA" in os.environ else []
    found.setdefault(
        "settings",
        {"size": SIZE, "sigma": SIGMA, "draws": options.draws, "nfe": NFE, "prior": "mri"}
        | {"inner": INNER, "lift": LIFT, "guidance": repr(GUIDANCE)},
    )
    rows = found.setdefault("rows", {})
    for acceleration, kind, names in PLAN:
        lines = SIZE // acceleration
        chosen = policies(fixed_design(draws, lines))
        for number, (name, truth) in enumerate(truths[kind]):
            row = rows.setdefault(f"{kind} {acceleration}x", {}).setdefault(name, {})
            for label in [n for n in names if n not in row]:
                policy, extra = chosen[label] if label in chosen else (Fixed(row["entropy-online"]["order"]), {})
                row[label] = one(truth, prior, policy, lines, number, options.draws, **extra)
                found["paired"] = table(rows)
                keep(found)
            say(f"{acceleration}x {name}: " + ", ".join(f"{k} {v['nmse']:.4f}" for k, v in row.items()))
    if options.json:
        _draws_file(options.json).unlink(missing_ok=True)


def _kept_draws(prior: Any, path: Path | None) -> torch.Tensor:
    """48 draws of the prior, kept beside the results until all is done."""
    file = _draws_file(path) if path else None
    if file and file.exists():
        return torch.load(file, weights_only=True)  # type: ignore[no-any-return]
    draws = prior_draws(prior, SIZE, 48)
    if file:
        torch.save(draws, file)
    return draws


def _draws_file(path: Path) -> Path:
    return path.with_name(path.stem + "_draws.pt")


def table(rows: dict[str, Any]) -> dict[str, Any]:
    """Means of each policy, and active minus every other with its 95 % interval."""
    out: dict[str, Any] = {}
    for group, by_slice in rows.items():
        each = [r for r in by_slice.values() if r]
        names = sorted({k for r in each for k in r})
        scores = ("nmse", "ssim", "entropy")
        out[group] = {"slices": {n: sum(n in r for r in each) for n in names}} | {
            s: {n: sum(r[n][s] for r in each if n in r) / max(1, sum(n in r for r in each)) for n in names}
            for s in scores
        }
        for a in ACTIVE:
            others = [n for n in names if n != a]
            out[group][f"{a} minus"] = (
                {s: {n: paired(each, a, n, s) for n in others} for s in scores} if a in names else {}
            )
    return out


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
