"""`invdiff report`: draws as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invdiff.cli.options import check_output, memory_size

__all__ = ["report"]


def report(
    file: Annotated[Path, typer.Argument(help="Draws, as invdiff reconstruct writes them (.nc).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The report.", metavar="OUT.html")],
    title: Annotated[str, typer.Option(help="Above the page.", show_default="the input's name")] = "",
    most: Annotated[str, typer.Option("--max-size", help="Size of the file, like 20MiB.")] = "20MiB",
) -> None:
    """Write one HTML file with draws, maps and data fit.

    It works offline: slices and draws to leaf through by mouse or keyboard, maps of uncertainty, settings, warnings.

    Example: invdiff report out.nc -o report.html
    """
    check_output(out, ".html", "-o")
    limit = memory_size(most, "--max-size")
    from invdiff.posterior import Posterior
    from invdiff.report.html import html_report

    html_report(Posterior.load(file), out, title=title, most=limit)
    typer.echo(f"wrote {out}, {out.stat().st_size / 2**20:.1f} MiB")
