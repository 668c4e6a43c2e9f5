"""`invdiff validate`: how far to trust a sampler's draws, on problems whose posterior is known."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from invdiff.cli.options import Json, Nfe, Seed, Solver, check_output, write_json
from invdiff.errors import UnknownNameError

__all__ = ["table", "validate"]


def validate(
    suite: Annotated[
        str, typer.Option(help="mixture, gaussian, field, complex, nonlinear or density.", metavar="NAME")
    ] = "mixture",
    dim: Annotated[int | None, typer.Option(min=1, help="Entries of x; of field the side of the image.")] = None,
    observed: Annotated[int | None, typer.Option(min=1, help="Number of data.", show_default="the suite's own")] = None,
    sigma: Annotated[float | None, typer.Option(help="Noise level.", show_default="drawn with each problem")] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="A sampler's name or package:Object; may be repeated.", show_default="all"),
    ] = None,
    operator: Annotated[
        str | None,
        typer.Option(help="package:Object, its example under a Gaussian prior, instead of a suite.", metavar="TARGET"),
    ] = None,
    nfe: Nfe = None,
    solver: Solver = None,
    draws: Annotated[int | None, typer.Option(min=2, help="Draws of each problem.", show_default="1000")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Problems, each drawn afresh.")] = 4,
    calibration: Annotated[int, typer.Option(min=0, help="Problems for ranks and TARP; 0 for none.")] = 0,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Judge samplers against exact posteriors.

    Every distance stands beside what exact draws, as many, would score. A sampler that cannot take a problem is listed
    with the reason; the exit code is 1 where none can.

    Example: invdiff validate --suite mixture --dim 8 --observed 1 --nfe 200
    """
    check_output(json, option="--json")
    from invdiff.samplers.named import sampler_names
    from invdiff.validation import study as studies
    from invdiff.validation.suites import families, operator_family

    if operator is None:
        made = families(suite, dim, observed, sigma)
    else:
        from invdiff.validation.targets import find_operator

        made, suite = [operator_family(find_operator(operator), sigma)], "operator"
    known = list(sampler_names())
    names = list(sampler or known)
    for name in names:
        if ":" not in name and name not in known:
            raise UnknownNameError(f"no sampler {name!r}; known: {', '.join(known)}")
    count = draws or (64 if suite == "field" else 1000)
    total = len(names) * len(made)
    from tqdm import tqdm

    with tqdm(total=total, unit="sampler", bar_format="{l_bar}{bar}| {n}/{total} {postfix} [{elapsed}]") as bar:

        def tell(line: str, done: int) -> None:
            bar.n = done
            bar.set_postfix_str(line)

        found = studies.run_study(
            made, names, nfe=nfe, solver=solver, draws=count, repeats=repeats, calibration=calibration, seed=seed,
            tell=tell,
        )  # fmt: skip
        bar.update(total - bar.n)
    typer.echo(table(found.rows))
    for entry in found.skipped:
        typer.echo(f"not run: {entry['sampler']} on {entry['case']}: {entry['reason']}")
    content: dict[str, Any] = {
        "suite": suite,
        "operator": operator,
        "dim": dim,
        "observed": observed,
        "sigma": sigma,
        "nfe": nfe,
        "draws": count,
        "repeats": repeats,
        "seed": seed,
        "rows": found.rows,
        "skipped": found.skipped,
    }
    if json is not None:
        content["problems"] = list(studies.facts(made, repeats, seed))
        content["machine"] = _machine()
    write_json(json, content)
    if not found.rows:
        raise typer.Exit(1)


_COLUMNS = {
    "case": "case", "library": "library", "sampler": "sampler", "options": "options", "solver": "solver",
    "sw1": "SW1", "sw1_se": "+-", "sw1_floor": "exact", "sw2": "SW2", "sw2_floor": "exact", "mode_tv": "modes TV",
    "bias": "bias", "std_ratio": "std", "coverage50": "c50", "coverage90": "c90", "chi2_ratio": "chi2",
    "c2st": "C2ST", "ksd": "KSD", "ksd_floor": "exact", "sbc_p": "SBC p", "tarp_p": "TARP p",
    "nfe": "NFE", "vjp": "VJP", "seconds": "s",
}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of a study as text, best first; "exact" is what exact draws, as many, score in the column before."""
    if not rows:
        return "no sampler could be run"
    keys = [k for k in _COLUMNS if any(row.get(k) is not None and row.get(k) == row.get(k) for row in rows)]
    ordered = sorted(rows, key=lambda row: (row["case"], row["sw1"]))
    cells = [[_COLUMNS[k] for k in keys], *[[_cell(row.get(k)) for k in keys] for row in ordered]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    return "\n".join("  ".join(f"{c:>{w}}" for c, w in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"


def _machine() -> dict[str, str]:
    import datetime
    import os
    import platform

    import torch

    from invdiff import __version__

    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {
        "invdiff": __version__,
        "torch": torch.__version__,
        "system": f"{platform.platform()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "date": now,
    }
