"""`invdiff priors`: what comes with the package, and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff.cli.options import Json, check_output, write_json

__all__ = ["priors"]


def priors(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Also denoise the images found in this folder.", show_default=False, metavar="DIR"),
    ] = None,
    json: Json = None,
) -> None:
    """Show the priors that come with the package.

    Each with its card: data, steps, denoising PSNR by noise level on held-out phantoms, hash. With --data also on
    images of your own (DICOM, NIfTI, fully sampled k-space, .npy), scaled as the prior expects; a prior in HU takes
    those in HU alone.
    """
    check_output(json, option="--json")
    from invdiff.priors.loading import load_prior, shipped_priors

    cards = shipped_priors()
    if not cards:
        typer.echo("no prior comes with this installation; invdiff train CONFIG makes one")
    found: dict[Any, list[Any]] = {}  # by unit: reading is done once for priors of the same
    for name, card in cards.items():
        if data is not None:
            from tqdm import tqdm

            from invdiff.training.measure import denoising_table

            prior = load_prior(name)
            images = found[prior.units] if prior.units in found else found.setdefault(prior.units, _images(data, prior))
            if images:
                shown = tqdm(images, desc=f"{name} denoises", unit="file", leave=False)
                card["images"] = denoising_table(prior, shown, card["domain"])
        typer.echo(name)
        for line in card_lines(card):
            typer.echo(f"  {line}")
    write_json(json, cards)


def card_lines(card: dict[str, Any]) -> list[str]:
    """A card as lines to read."""
    lines = [
        card.get("description", ""),
        f"images   {card['domain']}, sigma {card['sigma_min']:g} to {card['sigma_max']:g}",
        f"network  {', '.join(f'{k} {v}' for k, v in card['architecture'].items())}",
        f"data     {', '.join(f'{k} {v}' for k, v in card.get('data', {}).items())}",
        f"steps    {card.get('steps', 'unknown')} of batch {card.get('batch', 'unknown')}",
        _psnr("denoised", card.get("denoising_psnr_db", {})),
        *_measured(card.get("measured", {})),
        *(_psnr(name, row) for name, row in card.get("images", {}).items()),
        f"sha256   {card['sha256']}",
    ]
    return [line for line in lines if line]


def _measured(found: dict[str, Any]) -> list[str]:
    """Phantoms and real images side by side with BM3D."""
    rows = [(f"{who}, phantoms", found.get("phantoms", {}).get(who, {})) for who in ("prior", "bm3d")]
    rows += [(f"{who}, real images", found.get("real", {}).get(who, {}).get("mean", {})) for who in ("prior", "bm3d")]
    return [_psnr(name, row) for name, row in rows]


def _psnr(name: str, row: dict[str, float]) -> str:
    return f"{name} " + ", ".join(f"{v} dB at sigma {k}" for k, v in row.items()) if row else ""


def _images(folder: Path, prior: Any) -> list[Any]:
    from tqdm import tqdm

    from invdiff.training.measure import slices_of

    return list(tqdm(slices_of(folder, units=prior.units), desc=f"reading {folder}", unit="file", leave=False))
