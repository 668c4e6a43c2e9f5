"""The part of `invdiff reconstruct` that is for fields of the atmosphere: its options, and the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.cli.options import check_output, write_json
from invdiff.errors import FileError, InputError, UnknownNameError

if TYPE_CHECKING:
    from invdiff.reconstruction.weather import Weather

__all__ = ["Errors", "Representativeness", "Stations", "by_quantity", "described", "refuse", "run_weather"]

Stations = Annotated[
    list[Path] | None,
    typer.Option(help="Weather: reports beside the field, CSV, Parquet or IGRA; again for more.", show_default=False),
]
Errors = Annotated[
    list[str] | None,
    typer.Option("--error", help="Weather: QUANTITY=SD of reports that state none.", show_default=False),
]
Representativeness = Annotated[
    list[str] | None,
    typer.Option(help="Weather: QUANTITY=SD of what the grid cannot resolve.", show_default=False),
]


def by_quantity(given: list[str] | None, option: str) -> dict[str, float]:
    """``["air_temperature=0.5"]`` as a dictionary, by standard name.

    Raises:
        InputError: one is not of that form, or its quantity is not known.
    """
    from invdiff.datasets.weather.cf import quantity_of

    out = {}
    for item in given or []:
        name, _, value = item.partition("=")
        quantity = quantity_of(name.strip(), {})
        try:
            out[quantity.standard_name if quantity else ""] = number = float(value)
        except ValueError:
            quantity = None
        if quantity is None:
            raise InputError(f"{option} is {item!r}; expected QUANTITY=NUMBER, like air_temperature=0.5")
        if not number > 0:
            raise InputError(f"{option} is {item!r}; a standard deviation is above 0")
    return out


def described(figures: dict[str, Any]) -> str:
    """The figures as text: how the draws fit the data, their spread, and what was left out."""
    rows = [
        ("data", f"{figures['data']} at {figures['times']} times"),
        ("chi2 per datum", f"{figures['chi2_per_datum']:.3g}  (about 1: the draws explain the data to their errors)"),
        *((f"spread of {name}", f"{value:.3g}") for name, value in figures["spread"].items()),
        *((f"left out, {reason}", str(count)) for reason, count in figures["left_out"].items()),
        ("seconds", f"{figures['seconds']:.3g}"),
    ]
    return "\n".join(f"{name:<30} {value}" for name, value in rows)


def refuse(given: Mapping[str, bool]) -> None:
    """Raise InputError where options are given that fields of the atmosphere do not have."""
    names = ", ".join(name for name, there in given.items() if there)
    if names:
        raise InputError(f"{names} is not for fields of the atmosphere; leave it out")


def run_weather(
    file: Path,
    stations: list[Path],
    prior: str | None,
    out: Path,
    png: Path | None,
    json: Path | None,
    options: Weather,
) -> dict[str, Any]:
    """Write the ensemble, the picture and the figures, and return the figures.

    Raises:
        FileError: an interrupted run is there and was not to go on. InputError: no prior is given.
    """
    from invdiff.reconstruction.weather import reconstruct_weather

    if out.suffix not in (".nc", ".zarr"):
        raise UnknownNameError(f"-o is {out}; an ensemble is written as .nc or .zarr")
    if out.suffix == ".nc":
        check_output(out, ".nc", "-o")
    if out.resolve() in [path.resolve() for path in (file, *stations)]:
        raise InputError(f"-o is {out}, which is read as well; give the ensemble a name of its own")
    if prior is None:
        raise InputError("fields of the atmosphere need --prior: weights that 'invdiff train weather' wrote")
    folder = out.with_name(out.name + ".ckpt")
    if folder.exists() and not options.resume:
        raise FileError(f"{folder} holds an interrupted run: go on from it with --resume, or remove the folder")
    figures = reconstruct_weather(file, stations, prior, out, options)
    if png:
        from invdiff.report.maps import ensemble_map

        ensemble_map(out, png, figures["station_residuals"])
    write_json(json, figures)
    return figures
