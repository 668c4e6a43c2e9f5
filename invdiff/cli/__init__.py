"""The command line: parse, call, print.

====================  ==========================================================
``invdiff demo``          simulate an acquisition, reconstruct it, judge it
``invdiff reconstruct``   posterior draws from a scanner's file
``invdiff simulate``      a measurement file from images
``invdiff report``        draws as an HTML page
``invdiff acquire``       choose what to measure next, and compare with fixed masks
``invdiff train``         fit a prior to procedural images
``invdiff validate``      samplers against exact posteriors
``invdiff molecule run``  free energies of molecules, biased along a few variables
``invdiff check``         conformance of an operator or a sampler
``invdiff new-operator``  a package with an operator of one's own
``invdiff priors``        the priors that come with the package
``invdiff info``          versions, devices, samplers, operators, formats
====================  ==========================================================

Everything heavy is imported inside the commands, so that ``invdiff --help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from invdiff.cli.acquire import acquire
from invdiff.cli.check import check
from invdiff.cli.demo import demo
from invdiff.cli.guard import guarded
from invdiff.cli.info import info
from invdiff.cli.molecule import run as run_molecule
from invdiff.cli.new_operator import new_operator
from invdiff.cli.priors import priors
from invdiff.cli.reconstruct import reconstruct
from invdiff.cli.report import report
from invdiff.cli.simulate import simulate
from invdiff.cli.train import train
from invdiff.cli.validate import validate

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (demo, reconstruct, simulate, report, acquire, train, validate, check, new_operator, priors, info):
    app.command()(guarded(command))
molecule = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Free energies of molecules by biased diffusion samplers."
)
molecule.command("run")(guarded(run_molecule))
app.add_typer(molecule, name="molecule")


def _version(wanted: bool) -> None:
    if wanted:
        from invdiff import __version__

        typer.echo(f"invdiff {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Posterior draws for scientific inverse problems, with diffusion priors.

    A mistake in what is asked for ends with one line that begins with "error:" and exit code 2; INVDIFF_DEBUG=1 shows
    where it was noticed.
    """


def main() -> None:
    """Run the command line."""
    app()
