"""`invdiff check`: the conformance suite on an operator, a sampler, or all that a distribution registers."""

from __future__ import annotations

from typing import Annotated

import typer

from invdiff.cli.options import Json, check_output, write_json

__all__ = ["check"]


def check(
    target: Annotated[str, typer.Argument(help="package.module:Object, a registered name, or a distribution.")],
    json: Json = None,
    seed: Annotated[int, typer.Option(help="Seed of the random tests.")] = 0,
) -> None:
    """Run the conformance suite on an operator or sampler.

    The exit code is 1 where a check fails.

    Example: invdiff check invdiff.operators:MRI
    """
    check_output(json, option="--json")
    from invdiff.validation.targets import run_check

    report = run_check(target, seed=seed)
    typer.echo(str(report))
    write_json(json, report.as_dict())
    if not report.ok:
        raise typer.Exit(1)
