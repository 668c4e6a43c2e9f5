"""`invdiff train`: fit a prior as a configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invdiff.cli.options import Json, check_output, write_json

__all__ = ["train"]


def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a configuration that is shipped.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default="./runs/NAME", metavar="DIR")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Instead of the configuration's number.", show_default=False)
    ] = None,
    json: Json = None,
) -> None:
    """Fit a prior to procedural images, to image files, or to measurements alone.

    The same command goes on after an interruption. The folder of the run also gets validation.json and pictures of
    the denoising PSNR by noise level and of draws. Several GPUs: accelerate launch $(command -v invdiff) train CONFIG.

    Example: invdiff train tiny
    """
    check_output(json, option="--json")
    try:
        from invdiff.training.config import load_config
    except ImportError as error:
        from invdiff.errors import missing_extra

        raise missing_extra(error.name or "PyYAML", "train", "training") from error
    from invdiff.priors.loading import load_prior
    from invdiff.training.run import train as run

    settings = load_config(config)
    if steps is not None:
        settings = settings.model_copy(update={"steps": steps})
    folder = out or Path("runs") / settings.name
    try:
        if settings.data.kind == "measurements":
            from invdiff.training.from_measurements import train_from_measurements

            weights = train_from_measurements(settings, folder, typer.echo)
        else:
            weights = run(settings, folder, typer.echo)
    except KeyboardInterrupt:
        kept = (folder / "checkpoint.pt").is_file()
        raise KeyboardInterrupt(
            f"{folder} keeps {'the last checkpoint' if kept else 'the images'}; the same command goes on from there"
        ) from None
    prior = load_prior(weights)
    card = getattr(getattr(prior, "inner", prior), "card", {})
    write_json(json, {"weights": str(weights), **card})
