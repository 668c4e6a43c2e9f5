"""`invdiff new-operator`: a small installable package with an operator of one's own, and its tests."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from invdiff.cli.options import Json, check_output, write_json
from invdiff.errors import FileError, InputError

__all__ = ["new_operator", "write_package"]

_GROUP = "invdiff.operators"
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/{name}/__init__.py": "init.py",
    "src/{name}/operator.py": "operator.py",
    "tests/test_{name}.py": "test_operator.py",
}


def new_operator(
    name: Annotated[str, typer.Argument(help="Name of the package and of the operator: letters a-z, digits, _.")],
    json: Json = None,
) -> None:
    """Write a small installable package with an operator and its tests.

    Example: invdiff new-operator demo_modality && pip install ./demo_modality && invdiff check demo_modality
    """
    check_output(json, option="--json")
    folder = write_package(name, Path.cwd())
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    typer.echo(f"wrote {name}/ with {', '.join(written)}")
    typer.echo(f"next: pip install ./{name}, invdiff check {name}, then edit {name}/src/{name}/operator.py")
    write_json(json, {"name": name, "class": class_name(name), "folder": str(folder), "files": written})


def write_package(name: str, parent: Path) -> Path:
    """Write the package into a new folder `name` of `parent`, the whole of it at once, and return the folder.

    Raises:
        InputError: the name cannot be that of a package, or is taken. FileError: the folder exists, or cannot be
            written.
    """
    check_name(name)
    folder = parent / name
    if folder.exists() or folder.is_symlink():
        raise FileError(f"{folder} exists already; choose another name or remove it first")
    from tempfile import TemporaryDirectory

    words = {"name": name, "class_name": class_name(name)}
    try:
        with TemporaryDirectory(dir=parent, prefix=f".{name}.") as part:
            root = Path(part) / name
            for path, template in _FILES.items():
                target = root / path.format(name=name)
                target.parent.mkdir(parents=True, exist_ok=True)
                text = files("invdiff.cli.templates").joinpath(f"{template}.template").read_text(encoding="utf-8")
                target.write_text(Template(text).substitute(words), encoding="utf-8", newline="\n")
            root.rename(folder)
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror or error}") from error
    return folder


def check_name(name: str) -> None:
    """Raise InputError where `name` cannot be imported, or would hide something that can."""
    if not re.fullmatch(r"[a-z](?:[a-z0-9_]*[a-z0-9])?", name):
        raise InputError(
            f"the name is {name!r}; it expects small letters a-z, digits and _, a letter first and no _ at the end, as"
            " in demo_modality"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise InputError(f"the name is {name!r}, a word of Python's grammar; choose another")
    owners = {point.dist.name if point.dist else "?" for point in entry_points(group=_GROUP) if point.name == name}
    mine = {name, name.replace("_", "-")}
    if owners - mine:
        raise InputError(f"an operator {name!r} is registered by {', '.join(sorted(owners - mine))}; choose another")
    if not owners and (name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None):
        raise InputError(f"the name is {name!r}, which is already that of an installed module; choose another")


def class_name(name: str) -> str:
    """`demo_modality` as a class is called: DemoModality."""
    return "".join(part[0].upper() + part[1:] for part in name.split("_") if part)
