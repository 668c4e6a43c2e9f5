"""`invdiff acquire`: choose the lines of a scan while it is reconstructed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff.cli.options import Device, Json, Seed, check_output, write_json

__all__ = ["acquire"]


def acquire(
    file: Annotated[Path, typer.Argument(help="An image (.npy, DICOM, NIfTI) to scan, or full k-space to replay.")],
    acceleration: Annotated[float, typer.Option(min=1, help="Lines there are over lines measured.")] = 8.0,
    policy: Annotated[
        str, typer.Option(help="entropy, infogain, variance, logdet, a-optimal ..., or a mask saved before (.npz).")
    ] = "entropy",
    compare: Annotated[str, typer.Option(help="Others at the same budget, like random,equispaced,density,fixed.")] = "",
    json: Json = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The posterior.", metavar="OUT.nc", show_default=False)
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="The lines chosen, for later runs.", metavar="MASK.npz")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="The lines' data, for invdiff reconstruct.", metavar="DATA.h5")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Pictures, with the order of the lines.", metavar="PNG")
    ] = None,
    mode: Annotated[str, typer.Option(help="renoise, resample or online.")] = "renoise",
    target: Annotated[
        float | None, typer.Option(help="Stop at this expected relative error.", show_default="spend the budget")
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="Largest side of a simulated scan.")] = 128,
    sigma: Annotated[float, typer.Option(help="Noise of a simulated scan; bright tissue is 1.")] = 0.01,
    slice_number: Annotated[
        int | None, typer.Option("--slice", help="Number of the slice, from 0.", show_default="the middle one")
    ] = None,
    axis: Annotated[str, typer.Option(help="Lines are columns or rows of k-space.")] = "columns",
    initial: Annotated[
        int | None, typer.Option(min=0, help="Central lines to begin with.", show_default="a quarter of the budget")
    ] = None,
    per_decision: Annotated[
        int | None, typer.Option(min=1, help="Lines chosen together.", show_default="a sixth of the budget")
    ] = None,
    draws: Annotated[int, typer.Option(min=2, help="Particles, and draws in the end.")] = 16,
    nfe: Annotated[int, typer.Option(min=1, help="Network evaluations of the draws.")] = 16,
    inner: Annotated[int, typer.Option(min=1, help="Network evaluations between decisions.")] = 4,
    prior: Annotated[str, typer.Option(help="A shipped prior or a .safetensors file.")] = "mri",
    texture: Annotated[
        float, typer.Option(help="Fine detail unknown to the prior, over the noise; 2 for raw data.", min=0)
    ] = 0.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Choose what to measure next while the image is sampled.

    Particles of the posterior say where they differ, and there the next lines are measured.

    Example: invdiff acquire slice.npy --acceleration 8 --compare random,fixed --mask lines.npz --png order.png
    """
    from invdiff.errors import UnknownNameError

    if axis not in ("columns", "rows"):
        raise UnknownNameError(f"--axis is {axis!r}; it expects columns or rows")
    for path, suffix, option in (
        (out, ".nc", "-o"),
        (png, ".png", "--png"),
        (mask, ".npz", "--mask"),
        (data, "", "--data"),
        (json, "", "--json"),
    ):
        check_output(path, suffix, option)
    from invdiff.acquisition import acquire as run
    from invdiff.acquisition import from_file, policy_names
    from invdiff.priors.loading import load_prior
    from invdiff.sampling import pick_device

    others = [name.strip() for name in compare.split(",") if name.strip()]
    for name in (policy, *others):
        if name not in policy_names() and Path(name).suffix not in (".npz", ".npy"):
            raise UnknownNameError(f"no policy {name!r}; known: {', '.join(policy_names())}, or a mask file")
    chosen = pick_device(device)
    done = run(
        from_file(file, size, sigma, slice_number, seed), load_prior(prior), policy, others,
        acceleration=acceleration, mode=mode, draws=draws, nfe=nfe, inner=inner, initial=initial,
        per_decision=per_decision, target=target, axis=-1 if axis == "columns" else -2, texture=texture, seed=seed,
        device=chosen, report=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    main = next(iter(done.runs.values()))
    if out:
        main.posterior.save(out)
    if mask:
        main.save(mask)
    if data:
        main.measurement.save(data)
    if png:
        from invdiff.report.acquisition import acquisition_panel

        acquisition_panel(done.runs, done.reference, png, done.figures["nmse"])
    write_json(json, done.figures)
    written = [str(path) for path in (out, mask, data, png, json) if path]
    typer.echo(_table(done.figures) + (f"\n\nwrote {', '.join(written)}" if written else ""))


def _table(figures: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"{'':<20}{'NMSE':>9}{'SSIM':>8}{'entropy (nats)':>16}{'seconds':>9}"]
    for name in figures["nmse"]:
        lines.append(
            f"{name:<20}{figures['nmse'][name]:>9.4f}{figures['ssim'][name]:>8.3f}{figures['entropy'][name]:>16.1f}"
            f"{figures['seconds'][name]:>9.1f}"
        )
    order = " ".join(map(str, figures["lines"]))
    lines += ["", f"{figures['acceleration']:.3g}x, {len(figures['lines'])} lines in this order: {order}"]
    if figures["seconds_per_decision"]:
        thought = 1e3 * figures["policy_seconds"]
        lines.append(f"{figures['seconds_per_decision']:.2f} s a decision, {thought:.1f} ms of it the policy's")
    return "\n".join(lines)
