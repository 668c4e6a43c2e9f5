"""What every command has in common: one clear line for a mistake, and for Ctrl-C."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

import typer

from invdiff.errors import InvdiffError

__all__ = ["guarded"]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: an invdiff error becomes ``error: ...`` and exit code 2, Ctrl-C one line and exit code 130.

    A KeyboardInterrupt may carry the sentence that says what is kept. Warnings become lines that begin with "note:".
    With INVDIFF_DEBUG=1 errors keep their traceback.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _note
                command(*args, **kwargs)
        except InvdiffError as error:
            if os.environ.get("INVDIFF_DEBUG") == "1":
                raise
            typer.echo(f"error: {_one_line(error)}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            typer.echo(f"interrupted: {_one_line(stop) or 'nothing was written'}", err=True)
            raise typer.Exit(130) from None

    return run


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"note: {_one_line(message)}", err=True)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
