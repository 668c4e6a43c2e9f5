"""`invdiff demo`: from a simulated acquisition to judged posterior draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invdiff.cli.options import Device, Draws, Json, Seed, check_output, write_json

__all__ = ["demo"]


def demo(
    json: Json = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.", metavar="DIR")] = Path("invdiff_demo"),
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=48, max=1024, help="Pixels along a side.")] = 128,
    draws: Draws = 8,
    nfe: Annotated[int, typer.Option(min=1, help="Network evaluations per draw.")] = 20,
    sampler: Annotated[str, typer.Option(help="Sampler (see invdiff info).")] = "auto",
    prior: Annotated[str, typer.Option(help="A shipped prior or a .safetensors file.")] = "mri",
    device: Device = "auto",
) -> None:
    """Simulate an acquisition, reconstruct and judge it.

    Eight coils, 4x undersampled, noisy; written as a fastMRI file, which is all that the reconstruction is given.
    """
    check_output(json, option="--json")
    from invdiff.demo import demo as run
    from invdiff.demo import table

    done = run(out, prior, sampler=sampler, draws=draws, nfe=nfe, seed=seed, size=size, device=device)
    figures = done.figures
    typer.echo(
        f"\n8 coils, {figures['acceleration']:.2f}x undersampled, {size} x {size}; noise estimated as"
        f" {figures['sigma']:.4f} (true: {figures['sigma_true']:.4f}); CG and TV as good as the truth can make them\n"
    )
    typer.echo(table(figures))
    typer.echo(f"\nwrote {out / 'kspace.h5'}, {out / 'posterior.nc'}, {out / 'panel.png'}")
    write_json(json, figures)
