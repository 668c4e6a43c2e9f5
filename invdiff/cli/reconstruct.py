"""`invdiff reconstruct`: from a file of k-space to posterior draws, pictures and figures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.cli.memory import peak_memory_mib
from invdiff.cli.options import (
    Device,
    Draws,
    Json,
    Nfe,
    Seed,
    Solver,
    check_output,
    memory_size,
    write_json,
)
from invdiff.errors import FileError

if TYPE_CHECKING:
    from invdiff.measurement import Measurement

__all__ = ["TITLES", "reconstruct"]

TITLES = {
    "zero_filled": "zero-filled",
    "cg_sense": "CG-SENSE",
    "tv_sense": "TV-SENSE",
    "wavelet_sense": "wavelet-SENSE",
    "posterior_mean": "posterior mean",
}


def reconstruct(
    file: Annotated[Path, typer.Argument(help="fastMRI HDF5, .npy (coils, ky, kx) or measurement file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="NetCDF file for the draws.", metavar="OUT.nc")],
    png: Annotated[Path | None, typer.Option("--png", help="Write pictures to this file.", metavar="PNG")] = None,
    json: Json = None,
    method: Annotated[
        str, typer.Option(help="auto, a sampler (see invdiff info), or zero_filled, cg, tv, wavelet.")
    ] = "auto",
    solver: Solver = None,
    nfe: Nfe = None,
    draws: Draws = 8,
    seed: Seed = 0,
    prior: Annotated[str, typer.Option(help="A shipped prior or a .safetensors file.")] = "mri",
    holdout: Annotated[
        float | None,
        typer.Option(help="Leave out this fraction of the data and judge by it.", show_default=False),
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Noise level per real component of k-space.", show_default="estimated")
    ] = None,
    texture: Annotated[
        float, typer.Option(help="Fine detail unknown to a shipped prior, in units of the noise.", min=0)
    ] = 2.0,
    slice_number: Annotated[
        int | None, typer.Option("--slice", help="Number of the slice, from 0.", show_default="all")
    ] = None,
    device: Device = "auto",
    memory: Annotated[str, typer.Option(help="For draws computed at once, like 8GiB.")] = "2GiB",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT.ckpt, where a run was interrupted.")] = False,
    format: Annotated[str | None, typer.Option(help="netcdf, whatever OUT is called.", show_default=False)] = None,
) -> None:
    """Draw images from the posterior, given a file of k-space.

    While it runs, OUT.ckpt holds what is done; after an interruption --resume goes on from there.

    Example: invdiff reconstruct kspace.npy -o out.nc --png out.png
    """
    size = memory_size(memory)
    check_output(out, "" if format else ".nc", "-o")
    check_output(png, ".png", "--png")
    check_output(json, option="--json")
    folder = out.with_name(out.name + ".ckpt")
    fresh = not folder.exists()
    if not fresh and not resume:
        raise FileError(f"{folder} holds an interrupted run: go on from it with --resume, or remove the folder")
    try:
        measurement = _read(file, device, {"sigma": sigma, "slice": slice_number})
        from invdiff.reconstruction import reconstruct as run

        done = run(
            measurement, prior, method, draws=draws, nfe=nfe, solver=solver, seed=seed, texture=texture,
            holdout=holdout,
            memory=size, checkpoint=folder, resume=resume, report=_say,
        )  # fmt: skip
    except KeyboardInterrupt:
        kept = f"{folder} keeps what was done; the same command with --resume goes on from there"
        raise KeyboardInterrupt(kept if folder.is_dir() else "nothing was written") from None
    except Exception:
        if fresh and not any((*folder.glob("chunk-*"), *folder.glob("state-*"))):
            shutil.rmtree(folder, ignore_errors=True)  # it holds no draw to go on from
        raise
    done.posterior.save(out, format)
    if png:
        from invdiff.cli.picture import picture

        picture(done, png, TITLES)
    figures = done.figures | {"peak_memory_mib": peak_memory_mib()}
    write_json(json, figures)
    shutil.rmtree(folder, ignore_errors=True)  # only now: all results are on disk
    typer.echo(f"\n{_table(figures)}\n\nwrote {', '.join(str(path) for path in (out, png, json) if path)}")


def _read(file: Path, device: str, options: dict[str, Any]) -> Measurement:
    """Read the file onto the device, and say what it holds."""
    from invdiff.datasets.reading import read
    from invdiff.sampling import pick_device

    given = {name: value for name, value in options.items() if value is not None}
    measurement = read(file, **given).to(pick_device(device))
    meta = measurement.meta
    notes = [f"{name} {meta[name]:.4g}" for name in ("acceleration", "sigma") if name in meta]
    if meta.get("estimated"):
        notes.append(f"estimated: {' and '.join(meta['estimated'])}")
    _say(", ".join((f"{file}: {measurement.operator!r}", *notes)))
    return measurement


def _table(figures: dict[str, Any]) -> str:
    """The figures as text."""
    lines = []
    if "holdout_nrmse" in figures:
        lines.append(f"{'':<18}{'error of held-out data (NRMSE)':>32}")
        lines += [f"{TITLES[name]:<18}{value:>32.4f}" for name, value in figures["holdout_nrmse"].items()]
        lines.append("")
    notes = {
        "holdout_calibration": "(1: the spread of the draws is what their error is)",
        "chi2_ratio": "(1: the draws explain the data to the noise)",
        "nfe": "",
        "seconds": "",
        "peak_memory_mib": "",
    }
    for name, note in notes.items():
        if figures.get(name) is not None:
            lines.append(f"{name.replace('_', ' '):<20} {figures[name]:>8.4g}  {note}".rstrip())
    return "\n".join(lines)


def _say(line: str) -> None:
    typer.echo(line, err=True)
