"""The base of every part of a configuration: a field that is not known is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Strict"]


class Strict(BaseModel):
    """A configuration's part; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
