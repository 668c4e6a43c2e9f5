"""`invdiff info`: versions, devices, and everything that has a name."""

from __future__ import annotations

import inspect
import platform
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from invdiff.cli.options import Json, check_output, write_json

__all__ = ["info"]


def info(json: Json = None) -> None:
    """Show versions, devices, and everything with a name.

    Samplers, operators, formats, solvers and priors, those of plug-ins included.
    """
    check_output(json, option="--json")
    from invdiff.priors.loading import shipped_priors
    from invdiff.solvers import solver_names

    groups = {name: _described(f"invdiff.{name}") for name in ("samplers", "operators", "formats")}
    content: dict[str, Any] = {
        "versions": _versions(),
        "devices": _devices(),
        **groups,
        "solvers": solver_names(),
        "priors": {
            **_described("invdiff.priors"),
            **{name: card["sha256"] for name, card in shipped_priors().items()},
        },
    }
    for title, part in content.items():
        typer.echo(title)
        if not part:
            typer.echo("  none")
        for line in _lines(part):
            typer.echo(f"  {line}")
    write_json(json, content)


def _versions() -> dict[str, str]:
    import numpy
    import torch

    from invdiff import __version__

    return {
        "invdiff": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _devices() -> dict[str, str]:
    import torch

    devices = {"cpu": f"{torch.get_num_threads()} threads"}
    for i in range(torch.cuda.device_count()):
        devices[f"cuda:{i}"] = torch.cuda.get_device_name(i)
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    return devices


def _described(group: str) -> dict[str, str]:
    """The entry points of a group with the first line of what each says of itself."""
    return {point.name: _first_line(point) for point in sorted(entry_points(group=group), key=lambda p: p.name)}


def _first_line(point: EntryPoint) -> str:
    try:
        found = point.load()
    except Exception as error:  # a plug-in's import can fail in any way; the others are still listed
        home = point.dist.name if point.dist else "an unknown distribution"
        return f"cannot be loaded: {point.value} of {home} raised {type(error).__name__}: {error}"
    # A format's entry point is the function `read` of a module, which says what the format is.
    named = inspect.getmodule(found) if point.group == "invdiff.formats" and inspect.isfunction(found) else found
    return (inspect.getdoc(named) or "").strip().split("\n")[0]


def _lines(part: dict[str, str] | list[str]) -> list[str]:
    if isinstance(part, list):
        return [", ".join(part)]
    width = max((len(name) for name in part), default=0)
    return [f"{name:<{width}}  {text}" for name, text in part.items()]
