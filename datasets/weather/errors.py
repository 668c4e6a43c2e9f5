"""Errors that a file of fields states itself, as CF has it: an ancillary variable named "... standard_error"."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from invdiff.datasets.weather.cf import QUANTITIES, conversion
from invdiff.datasets.weather.netcdf import open_raw
from invdiff.errors import FormatError

__all__ = ["stated_errors"]


def stated_errors(path: str | Path) -> dict[str, float]:
    """Standard deviations by quantity, from scalars with standard_name ``"air_temperature standard_error"`` and such.

    Raises:
        FileError: the file cannot be opened. FormatError: an error is no number above 0, or its unit is not known.
    """
    path = Path(path)
    found = {}
    with open_raw(path) as raw:
        for name, variable in raw.variables.items():
            quantity, _, modifier = str(variable.attrs.get("standard_name", "")).partition(" ")
            if modifier != "standard_error" or variable.size != 1 or quantity not in QUANTITIES:
                continue
            factor, _ = conversion(variable.attrs.get("units"), QUANTITIES[quantity].units, f"{path}: {name}")
            value = float(np.asarray(variable.values).reshape(())) * factor
            if not value > 0 or not np.isfinite(value):
                raise FormatError(f"{path}: {name} is {value}; a standard error is above 0")
            found[quantity] = value
    return found
