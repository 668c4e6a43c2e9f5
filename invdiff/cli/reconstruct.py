"""`invdiff reconstruct`: from a scanner's file to posterior draws, pictures and figures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invdiff.cli import scans
from invdiff.cli.memory import peak_memory_mib
from invdiff.cli.options import (
    Device,
    Draws,
    Json,
    Nfe,
    Read,
    Seed,
    Solver,
    check_output,
    check_result,
    memory_size,
    reader_options,
    write_json,
)
from invdiff.cli.tables import table
from invdiff.cli.weather import Errors, Representativeness, Stations
from invdiff.errors import FileError

if TYPE_CHECKING:
    from invdiff.simulation import Case

__all__ = ["reconstruct"]


def reconstruct(
    file: Annotated[Path, typer.Argument(help="Raw data, a measurement file; with --simulate, images (DICOM, NIfTI).")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Draws as .nc or .h5; mean and std as .nii.gz, or a folder for DICOM."),
    ],
    png: Annotated[Path | None, typer.Option("--png", help="Write pictures to this file.", metavar="PNG")] = None,
    json: Json = None,
    simulate: Annotated[
        str | None, typer.Option(help="FILE is a ground truth: scan it first, mri or ct.", show_default=False)
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="auto, a sampler (see invdiff info); or zero_filled, cg, tv, wavelet; CT: fbp, fdk, cgls, tv."
            " mbir, dds3d, tpdm, blend, slicewise, fdk: of one volume."
        ),
    ] = "auto",
    alone: Annotated[bool, typer.Option("--alone", help="Make no classical methods beside it.")] = False,
    solver: Solver = None,
    nfe: Nfe = None,
    draws: Draws = 8,
    seed: Seed = 0,
    prior: Annotated[
        str | None,
        typer.Option(help="A shipped prior or a .safetensors file.", show_default="mri; of real x ct or generic"),
    ] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Leave out this fraction of the data and judge by it.", show_default=False)
    ] = None,
    texture: Annotated[
        float | None,
        typer.Option(
            help="MRI: fine detail unknown to the prior, over the noise.",
            min=0,
            show_default="0, 1 or 2, as the data need",
        ),
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Noise level of a file's data, per real component.", show_default="estimated")
    ] = None,
    slice_number: scans.Slice = None,
    volume: scans.Volume = False,
    coils: scans.Coils = None,
    acceleration: scans.Acceleration = None,
    mask: scans.Mask = None,
    centre: scans.Centre = None,
    phase: scans.Phase = None,
    noise: scans.Noise = None,
    views: scans.Views = None,
    arc: scans.Arc = None,
    beam: scans.Beam = None,
    counts: scans.Counts = None,
    water: scans.Water = None,
    bin: Annotated[
        int | None, typer.Option(help="Projections: channels to take together.", min=1, show_default="1")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Projections: rows and columns of the image.", show_default="all that is seen")
    ] = None,
    axis: Annotated[
        float | None, typer.Option(help="Projections: channel of the rotation axis.", show_default="estimated")
    ] = None,
    read: Read = None,
    device: Device = "auto",
    memory: Annotated[str, typer.Option(help="For draws computed at once, like 8GiB.")] = "2GiB",
    workers: Annotated[
        int | None, typer.Option(help="Share the draws among so many processes.", min=1, show_default=False)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Share them through a Dask scheduler, tcp://host:port.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT.ckpt, where a run was interrupted.")] = False,
    format: Annotated[
        str | None,
        typer.Option(
            help="netcdf, nifti, dicom, parametric-map, metaimage, nrrd, bart or fastmri (a submission), whatever OUT"
            " is called.",
            show_default=False,
        ),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Write each draw as images, too.")] = False,
    anonymise: Annotated[bool, typer.Option("--anonymise", help="Leave patient data out of DICOM output.")] = False,
    stations: Stations = None,
    error: Errors = None,
    representativeness: Representativeness = None,
) -> None:
    """Draw images from the posterior, given measured data, or simulated ones.

    Raw k-space, projections, a measurement file; with --simulate, a ground truth, against which the result is scored.
    While it runs, OUT.ckpt holds what is done; after an interruption --resume goes on from there.

    Example: invdiff reconstruct head.nii.gz --simulate ct --views 30 --read units=HU -o out.nii.gz --json scores.json
    """
    size_limit = memory_size(memory)
    if stations or _of_fields(prior):
        from invdiff.cli.weather import by_quantity, described, refuse, run_weather
        from invdiff.reconstruction.weather import Weather

        refuse(
            {"--simulate": bool(simulate), "--method": method != "auto", "--solver": solver is not None,
             "--holdout": holdout is not None, "--volume": volume, "--slice": slice_number is not None,
             "--format": format is not None, "--read": bool(read)}
        )  # fmt: skip
        weather = Weather(
            draws, nfe or 10, seed, sigma, by_quantity(error, "--error"),
            by_quantity(representativeness, "--representativeness"), size_limit, workers, scheduler,
            out.with_name(out.name + ".ckpt"), resume, _say,
        )  # fmt: skip
        check_output(png, ".png", "--png")
        check_output(json, option="--json")
        found = run_weather(file, stations or [], prior, out, png, json, weather)
        typer.echo(f"\n{described(found)}\n\nwrote {', '.join(str(path) for path in (out, png, json) if path)}")
        return
    check_result(out, format)
    check_output(png, ".png", "--png")
    check_output(json, option="--json")
    chosen, folder = scans.slices_of(slice_number), out.with_name(out.name + ".ckpt")
    fresh = not folder.exists()
    if not fresh and not resume:
        raise FileError(f"{folder} holds an interrupted run: go on from it with --resume, or remove the folder")
    options = {
        "volume": volume or (bool(simulate) and method in scans.VOLUME_METHODS), "coils": coils,
        "acceleration": acceleration, "mask": mask, "centre": centre, "phase": phase, "noise": noise, "arc": arc,
        "beam": beam, "counts": counts, "water": water,
    }  # fmt: skip
    reader = {"sigma": sigma, "bin": bin, "size": size, "centre": axis}
    (options if simulate else reader)["views"] = views
    scan = scans.scan_of(simulate, options)
    from invdiff.reconstruction import Settings, check_place, read_case, write
    from invdiff.reconstruction import reconstruct as run
    from invdiff.sampling import pick_device

    given = reader_options(read, {"slice", *reader}) | {
        name: value for name, value in reader.items() if value is not None
    }
    settings = Settings(
        method, prior, draws, nfe, solver, seed, holdout=holdout, alone=alone, memory=size_limit, checkpoint=folder,
        resume=resume,
        workers=workers, scheduler=scheduler, report=_say, texture=texture,
    )  # fmt: skip
    try:
        case = read_case(file, scan, chosen, seed, **given)
        check_place(case.measurement, out, format)
        case.measurement = case.measurement.to(pick_device(device))
        _say(_heading(file, case))
        done = run(case, settings)
    except KeyboardInterrupt:
        kept = f"{folder} keeps what was done; the same command with --resume goes on from there"
        raise KeyboardInterrupt(kept if folder.is_dir() else "nothing was written") from None
    except Exception:
        if fresh and not any((*folder.glob("chunk-*"), *folder.glob("state-*"))):
            shutil.rmtree(folder, ignore_errors=True)  # it holds no draw to go on from
        raise
    written = write(done, out, format, draws=each, anonymise=anonymise)
    if png:
        from invdiff.cli.picture import picture

        picture(done, png)
    figures = done.figures | {"peak_memory_mib": peak_memory_mib()}
    write_json(json, figures)
    shutil.rmtree(folder, ignore_errors=True)  # only now: all results are on disk
    typer.echo(f"\n{table(figures)}\n\nwrote {', '.join(str(path) for path in (*written, png, json) if path)}")


def _of_fields(prior: str | None) -> bool:
    if prior is None or not prior.endswith(".safetensors"):
        return False
    from invdiff.reconstruction.weather import is_weather

    return is_weather(prior)


def _heading(file: Path, case: Case) -> str:
    """What the file holds."""
    meta = case.measurement.meta
    notes = [f"{name} {meta[name]:.4g}" for name in ("acceleration", "sigma", "rotation_centre") if name in meta]
    if meta.get("estimated"):
        notes.append(f"estimated: {' and '.join(meta['estimated'])}")
    return ", ".join((f"{file}: {case.measurement.operator!r}", *notes))


def _say(line: str) -> None:
    typer.echo(line, err=True)
