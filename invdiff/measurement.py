"""A measurement: data, how they came about, how noisy they are, and where x lives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.noise import Noise
from invdiff.operators.base import Operator
from invdiff.operators.foreign import as_operator

__all__ = ["Measurement"]


class Measurement:
    """``y = A(x) + noise``.

    Args:
        y: data, shape ``range_shape``; with ``batched=True`` ``(problems, *range_shape)``. Unmeasured entries
            (outside ``operator.range_mask``) must be zero.
        operator: the forward model A; one of deepinv, sigpy, pylops or scipy is wrapped
            (`invdiff.operators.foreign.as_operator`, to be called first where it needs to be told a shape).
        noise: the noise model, in the unit of y.
        coords: coordinates of x by name: ``{"y": (("y",), values, {"units": "mm"}), ...}`` as xarray takes them.
        meta: identifiers, geometry, provenance; anything JSON can hold.
        batched: whether the first axis of y counts independent problems.

    Raises:
        ShapeError, DTypeError: y does not fit the operator. InputError: y holds NaN, infinity, or unmeasured data.
    """

    def __init__(
        self,
        y: Tensor,
        operator: Operator | Any,
        noise: Noise,
        coords: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        batched: bool = False,
    ) -> None:
        y = torch.as_tensor(y).resolve_conj()
        if not isinstance(operator, Operator):
            operator = as_operator(operator, y=y[0] if batched else y)
        if not isinstance(noise, Noise):
            raise DTypeError(f"Measurement got noise of type {type(noise).__name__}; try invdiff.noise.Gaussian(sigma)")
        event = tuple(y.shape[1:]) if batched else tuple(y.shape)
        if event != tuple(operator.range_shape):
            batch = "(problems, ...) + " if batched else ""
            raise ShapeError(
                f"y has shape {tuple(y.shape)}; {operator!r} gives data of shape {batch}{tuple(operator.range_shape)}"
            )
        if y.is_complex() != (operator.range == "complex"):
            raise DTypeError(f"y is {y.dtype}; {operator!r} gives {operator.range} data")
        if not (y.is_complex() or y.is_floating_point()):
            raise DTypeError(f"y is {y.dtype}; it expects floating point")
        if not bool(torch.isfinite(torch.view_as_real(y) if y.is_complex() else y).all()):
            raise InputError("y holds NaN or infinity; leave bad data out through the operator's mask")
        if operator.range_mask is not None and bool((y * ~operator.range_mask.to(y.device)).any()):
            raise InputError(f"y is not zero outside the mask of {operator!r}; set unmeasured entries to zero")
        if batched and operator.n_problems not in (1, y.shape[0]):
            raise ShapeError(f"y holds {y.shape[0]} problems, the operator {operator.n_problems}")
        if not batched and operator.n_problems > 1:
            raise ShapeError(f"the operator holds {operator.n_problems} problems; y needs batched=True and as many")
        self.operator: Operator = operator
        self.y, self.noise = y, noise
        self.coords, self.meta, self.batched = dict(coords or {}), dict(meta or {}), batched

    def attributes(self) -> dict[str, str | int | float]:
        """What `meta` says, as attributes of a file: texts and numbers as they are, lists as JSON, no dictionaries."""
        plain = {k: v for k, v in self.meta.items() if isinstance(v, (str, int, float))}
        return plain | {k: json.dumps(list(v)) for k, v in self.meta.items() if isinstance(v, (list, tuple))}

    # ---- how well an x explains the data ----------------------------------------------------------------------
    @property
    def data(self) -> Tensor:
        """The data with a leading axis: ``(problems, *range_shape)`` or ``(1, *range_shape)``."""
        return self.y if self.batched else self.y[None]

    @property
    def n_problems(self) -> int:
        """Number of independent problems."""
        return int(self.y.shape[0]) if self.batched else 1

    @property
    def count(self) -> int:
        """Number of real data per problem (a complex datum counts twice); of problems that differ, the mean."""
        return self.operator.size * (2 if self.y.is_complex() else 1)

    def residual(self, x: Tensor) -> Tensor:
        """Return ``y - A(x)`` for x ``(N, *domain_shape)``."""
        return self.data - self.operator.forward(x)

    def chi2(self, x: Tensor) -> Tensor:
        """Return ``|(y - A(x)) / sigma|^2`` summed over all data, shape ``(N,)``."""
        r = self.noise.whiten(self.residual(x))
        return (r.real**2 + r.imag**2 if r.is_complex() else r**2).flatten(1).sum(1)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return ``log p(y | x)`` with its normalisation, shape ``(N,)``."""
        sizes = self.operator.sizes
        count = sizes[0] if len(set(sizes)) == 1 else torch.tensor(sizes, device=self.y.device)
        return self.noise.log_likelihood(self.data, self.operator.forward(x), count)

    # ---- parts and copies -------------------------------------------------------------------------------------
    def take(self, problems: Sequence[int]) -> Measurement:
        """Return the given problems, in that order and as often as named (so one problem can have many draws)."""
        if not self.batched:
            return self
        y = self.y[torch.as_tensor(list(problems), device=self.y.device)]
        noise = self.noise.take(problems, len(self.operator.range_shape))
        return Measurement(y, self.operator.take(problems), noise, self.coords, self.meta, batched=True)

    def to(self, target: torch.device | str | torch.dtype) -> Measurement:
        """Return a copy on a device or in a precision."""
        from invdiff.operators.base import convert

        noise = self.noise.to(target) if hasattr(self.noise, "to") else self.noise
        return Measurement(
            convert(self.y, target), self.operator.to(target), noise, self.coords, self.meta, self.batched
        )

    def __repr__(self) -> str:
        return f"Measurement({tuple(self.y.shape)} {self.y.dtype}, {self.operator!r}, {type(self.noise).__name__})"

    # ---- files ------------------------------------------------------------------------------------------------
    def save(self, path: str | Path) -> Path:
        """Write the measurement to an HDF5/NetCDF4 file (layout: `invdiff.datasets.measurement_file`)."""
        from invdiff.storage import save_measurement

        return save_measurement(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Measurement:
        """Read a file that `save` wrote. Raises FileError, FormatError."""
        from invdiff.storage import load_measurement

        return load_measurement(Path(path))
