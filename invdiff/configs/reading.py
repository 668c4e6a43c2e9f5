"""Configurations: YAML files checked field by field, by path or by the name of one that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from invdiff.errors import FileError, InputError

__all__ = ["Strict", "read_config"]


class Strict(BaseModel):
    """A part of a configuration, in which an unknown field is a mistake."""

    model_config = ConfigDict(extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def read_config(name: str, model: type[Model], shipped: Path) -> Model:
    """Read a configuration from a path, or by the name of a file in the folder `shipped`.

    Raises:
        FileError: there is no such file and no shipped configuration of that name.
        InputError: a field is unknown, missing or out of range; the message names it.
    """
    import yaml

    path = Path(name)
    if not path.is_file():
        path = shipped / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped.glob("*.yaml")))
        raise FileError(f"no configuration file {name!r}; give a path to a YAML file or one of: {known}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if not field and isinstance(content, dict):  # fields that do not fit one another: the message names them
            raise InputError(f"{path}: {first['msg'].removeprefix('Value error, ')}") from error
        raise InputError(
            f"{path}: field {field or '(whole file)'}: {first['msg']} (found {first.get('input')!r})"
        ) from error
