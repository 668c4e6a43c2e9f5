"""`invdiff molecule run`: sample a molecule (or an analytic energy) along collective variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invdiff.cli.options import Json, check_output, write_json

__all__ = ["run"]


def run(
    config: Annotated[
        str,
        typer.Argument(
            help="A YAML file, or one that ships: double_well, muller_brown, sn2_xtb, alanine_dipeptide,"
            " glycine_dipeptide.",
            metavar="CONFIG",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default="./runs/NAME", metavar="DIR")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Only the first SEEDS of the configuration's.", show_default=False)
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    json: Json = None,
) -> None:
    """Free energies and weighted samples of an energy, by a diffusion sampler biased along collective variables.

    The same command goes on after an interruption, to the bit; a finished run is read, not repeated.

    Example: invdiff molecule run double_well --json d.json
    """
    check_output(json, option="--json")
    from invdiff.molecules.config import load_config
    from invdiff.molecules.run import run_molecule

    settings = load_config(config)
    if seeds is not None:
        settings = settings.model_copy(update={"seeds": settings.seeds[:seeds]})
    folder = out or Path("runs") / settings.name
    try:
        figures = run_molecule(settings, folder, typer.echo, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{folder} keeps what is done; the same command goes on from there") from None
    typer.echo(
        f"{settings.name}: F(b) - F(a) = {figures['delta_f_kT']:.3f} +- {figures['stderr_kT']:.3f} kT; files in"
        f" {folder}"
    )
    write_json(json, figures)
