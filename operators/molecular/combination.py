"""Collective variables made of others: side by side, in linear combination, along a path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.molecular.base import CollectiveVariable
from invdiff.operators.molecular.geometry import Distance
from invdiff.operators.molecular.shape import _reference, mean_square_deviation

__all__ = ["Combination", "Path", "Together"]


class Together(CollectiveVariable):
    """Several collective variables as one, their components side by side; periodic and other ones may be mixed.

    Args:
        variables: of one molecule.

    Raises:
        ShapeError: none, or they are of different molecules.
    """

    def __init__(self, *variables: CollectiveVariable) -> None:
        if not variables or any(v.domain_shape != variables[0].domain_shape for v in variables):
            shapes = ", ".join(str(v.domain_shape) for v in variables)
            raise ShapeError(f"Together got variables of shapes ({shapes}); it expects some, of one molecule")
        self.variables = variables
        self._shape(variables[0].atoms, sum(v.range_shape[0] for v in variables), "")
        self.units = tuple(u for v in variables for u in v.units)
        self.period = tuple(p for v in variables for p in v.period)

    def _forward(self, x: Tensor) -> Tensor:
        return torch.cat([v.forward(x) for v in self.variables], 1)

    def to(self, target: torch.device | str | torch.dtype) -> Together:
        """Return a copy on a device or in a precision."""
        return Together(*(v.to(target) for v in self.variables))  # type: ignore[arg-type]


class Combination(CollectiveVariable):
    """``s = W v(x) + c`` of a collective variable v: differences of distances, sums of coordinations.

    Args:
        variable: v, k components, none of them periodic.
        weights: W, ``(components, k)``, or ``(k,)`` for one component.
        offset: c, ``(components,)``; None for 0.

    Raises:
        ShapeError: W does not fit. InputError: a component of v is periodic (use its cosine and sine, as `TICA` does).
    """

    def __init__(
        self,
        variable: CollectiveVariable,
        weights: Tensor | Sequence[float] | Sequence[Sequence[float]],
        offset: Tensor | Sequence[float] | None = None,
    ) -> None:
        w = torch.atleast_2d(torch.as_tensor(weights, dtype=None if isinstance(weights, Tensor) else torch.float64))
        if w.ndim != 2 or w.shape[1] != variable.range_shape[0]:
            raise ShapeError(f"Combination got weights {tuple(w.shape)}; {variable!r} expects (components, k)")
        if any(p is not None for p in variable.period):
            raise InputError(f"Combination got {variable!r}, which is periodic; a sum of angles has no one period")
        c = torch.zeros(len(w), dtype=w.dtype) if offset is None else torch.as_tensor(offset, dtype=w.dtype)
        if c.shape != (len(w),):
            raise ShapeError(f"Combination got an offset {tuple(c.shape)}; it expects ({len(w)},)")
        self.variable, self.weights, self.offset = variable, w, c
        self._shape(variable.atoms, len(w), variable.units[0] if len(set(variable.units)) == 1 else "1")

    def _forward(self, x: Tensor) -> Tensor:
        return self.variable.forward(x) @ self.weights.T.to(x.dtype) + self.offset.to(x.dtype)

    @classmethod
    def example(cls, rng: torch.Generator) -> Combination:
        """Build two combinations of three distances."""
        return cls(Distance([[0, 1], [0, 2], [1, 3]], 4), torch.randn(2, 3, generator=rng), [0.5, -1.0])

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"variable": self.variable, "weights": self.weights, "offset": self.offset}


class Path(CollectiveVariable):
    """Progress along a path of configurations and distance from it.

    ``s = sum_i i exp(-lambda d_i) / sum_i exp(-lambda d_i)``, from 1 to the number of frames, and
    ``z = -1/lambda ln sum_i exp(-lambda d_i)`` in nm^2, with d_i the mean squared deviation from frame i after the best
    fit. Source: D. Branduardi, F. L. Gervasio, M. Parrinello, J. Chem. Phys. 126, 054103 (2007).

    Args:
        frames: ``(frames, chosen, 3)`` in nm, two at least.
        atoms: number of atoms of the molecule.
        smoothing: lambda in 1/nm^2; None for ``2.3 / (mean of d between neighbouring frames)``, as published.
        chosen: which atoms are compared (from 0); None for all.

    Raises:
        ShapeError: the frames do not fit. InputError: fewer than two frames, or lambda not above 0.
    """

    def __init__(
        self, frames: Tensor, atoms: int, smoothing: float | None = None, chosen: Sequence[int] | None = None
    ) -> None:
        self.frames, self.chosen = _reference(frames, atoms, chosen, "Path")
        if self.frames.ndim != 3 or len(self.frames) < 2:
            raise InputError(f"Path got frames of shape {tuple(self.frames.shape)}; it expects 2 frames at least")
        if smoothing is None:
            steps = mean_square_deviation(self.frames.double(), self.frames.double()).diagonal(1)
            smoothing = 2.3 / float(steps.mean().clamp_min(1e-12))
        if not smoothing > 0:
            raise InputError(f"Path got smoothing {smoothing}; it expects a number above 0, in 1/nm^2")
        self.smoothing = float(smoothing)
        self._shape(atoms, 2, "1")
        self.units = ("1", "nm^2")

    def _forward(self, x: Tensor) -> Tensor:
        d = mean_square_deviation(x[:, self.chosen], self.frames.to(x.dtype))
        weight = torch.softmax(-self.smoothing * d, 1)
        frame = torch.arange(1, len(self.frames) + 1, dtype=x.dtype, device=x.device)
        return torch.stack([(weight * frame).sum(1), -torch.logsumexp(-self.smoothing * d, 1) / self.smoothing], 1)

    @classmethod
    def example(cls, rng: torch.Generator) -> Path:
        """Build a path of three random configurations of five atoms."""
        return cls(torch.randn(3, 5, 3, generator=rng), 5, 0.7)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        rest = {"smoothing": self.smoothing, "chosen": self.chosen.tolist()}
        return {"frames": self.frames, "atoms": self.atoms, **rest}
