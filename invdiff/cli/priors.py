"""`invdiff priors`: what comes with the package, and how good it is."""

from __future__ import annotations

from typing import Any

import typer

from invdiff.cli.options import Json, check_output, write_json

__all__ = ["priors"]


def priors(json: Json = None) -> None:
    """Show the priors that come with the package.

    Each with its card: data, steps, denoising PSNR by noise level, hash.
    """
    check_output(json, option="--json")
    from invdiff.priors.loading import shipped_priors

    cards = shipped_priors()
    if not cards:
        typer.echo("no prior comes with this installation; invdiff train CONFIG makes one")
    for name, card in cards.items():
        typer.echo(name)
        for line in card_lines(card):
            typer.echo(f"  {line}")
    write_json(json, cards)


def card_lines(card: dict[str, Any]) -> list[str]:
    """A card as lines to read."""
    psnr = card.get("denoising_psnr_db", {})
    lines = [
        card.get("description", ""),
        f"images   {card['domain']}, sigma {card['sigma_min']:g} to {card['sigma_max']:g}",
        f"network  {', '.join(f'{k} {v}' for k, v in card['architecture'].items())}",
        f"data     {', '.join(f'{k} {v}' for k, v in card.get('data', {}).items())}",
        f"steps    {card.get('steps', 'unknown')} of batch {card.get('batch', 'unknown')}",
        "denoised " + ", ".join(f"{v} dB at sigma {k}" for k, v in psnr.items()) if psnr else "",
        f"sha256   {card['sha256']}",
    ]
    return [line for line in lines if line]
