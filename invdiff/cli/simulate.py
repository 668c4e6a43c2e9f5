"""`invdiff simulate`: from a ground truth to a measurement file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff.cli import scans
from invdiff.cli.options import Json, Read, Seed, check_output, reader_options, write_json
from invdiff.errors import InputError

__all__ = ["simulate"]


def simulate(
    truth: Annotated[Path, typer.Argument(help="Images: DICOM (a folder), NIfTI, MetaImage, NRRD.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The measurement file.", metavar="OUT.h5")],
    modality: Annotated[str | None, typer.Option(help="mri or ct.", show_default="what the file is of")] = None,
    json: Json = None,
    seed: Seed = 0,
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
    read: Read = None,
) -> None:
    """Simulate a measurement of images.

    What invdiff reconstruct reads; the truth is not in it.

    Example: invdiff simulate head.nii.gz --modality ct --views 60 -o measurement.h5
    """
    check_output(out, option="-o")
    check_output(json, option="--json")
    if out.suffix.lower() not in (".h5", ".hdf5", ".nc"):
        raise InputError(f"-o is {out}; a measurement is an HDF5 file, whose name ends in .h5")
    from invdiff.datasets.reading import read_volume
    from invdiff.reconstruction.provenance import hash_of, versions
    from invdiff.simulation import simulate as run

    images = read_volume(truth, **reader_options(read))
    kind = modality or (
        "ct" if images.units == "HU" else {"MR": "mri", "CT": "ct"}.get(images.meta.get("modality", ""))
    )
    if kind is None:
        raise InputError(f"{truth} does not say what it is of; add --modality mri or --modality ct")
    scan = scans.scan_of(
        kind,
        {
            "volume": volume, "coils": coils, "acceleration": acceleration, "mask": mask, "centre": centre,
            "phase": phase, "noise": noise, "views": views, "arc": arc, "beam": beam, "counts": counts, "water": water,
        },
    )  # fmt: skip
    assert scan is not None
    case = run(images, scan, scans.slices_of(slice_number), seed)
    measurement = case.measurement
    measurement.meta |= {"truth": str(truth), "truth_sha256": hash_of(truth), **versions()}
    measurement.save(out)
    figures: dict[str, Any] = {
        "modality": kind,
        "problems": measurement.n_problems,
        "data": measurement.count * measurement.n_problems,
        **{k: measurement.meta[k] for k in ("acceleration", "views", "sigma", "seed") if k in measurement.meta},
        "operator": repr(measurement.operator),
    }
    write_json(json, figures)
    typer.echo(f"{truth}: {measurement!r}\nwrote {', '.join(str(path) for path in (out, json) if path)}")
