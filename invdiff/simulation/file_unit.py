"""Answers in the unit of the file that the truth came from: tomography works in 1/mm inside, scanners write HU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from invdiff.datasets.volume import from_attributes
from invdiff.errors import FormatError
from invdiff.posterior import Posterior

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["file_unit", "in_file_unit"]

_KEY = "file_unit"


def file_unit(slope: float, intercept: float, units: str) -> dict[str, str]:
    """Say in a Measurement's ``meta`` that ``slope x + intercept`` is x in the unit of the file."""
    return {_KEY: json.dumps({"slope": slope, "intercept": intercept, "units": units})}


def in_file_unit(posterior: Posterior, meta: Mapping[str, Any]) -> Posterior:
    """Return the posterior in the unit that `file_unit` wrote into `meta`; itself where it wrote nothing.

    Maps of a variance (``trajectory_variance``) and their means change with it. Raises FormatError where the entry
    cannot be read.
    """
    if _KEY not in meta:
        return posterior
    try:
        found = json.loads(meta[_KEY])
        slope, intercept, units = float(found["slope"]), float(found["intercept"]), str(found["units"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"meta {_KEY} cannot be read: {error}; expected slope, intercept and units") from error
    data: xr.Dataset = posterior.dataset.copy()
    for name in {"draws", "expectation"} & set(data):
        data[name] = (data[name] * slope + intercept).astype(data[name].dtype).assign_attrs(units=units)
    if "trajectory_variance" in data:
        squared = {"units": f"{units}^2" if units else ""}
        data["trajectory_variance"] = (data["trajectory_variance"] * slope**2).astype("float32").assign_attrs(squared)
    data.attrs = {k: v for k, v in data.attrs.items() if k != _KEY}
    place = from_attributes(data.attrs)
    if place is not None:
        data.attrs |= place.with_values(place.values, units).attributes()
    found_in = dict(posterior.diagnostics)
    if "hallucination" in found_in:  # means of that map
        found_in["hallucination"] = (np.asarray(found_in["hallucination"]) * slope**2).tolist()
    return Posterior(data, found_in)
