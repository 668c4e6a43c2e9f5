"""The size of a molecule, and how far it is from a reference after the best fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.molecular.base import CollectiveVariable, indices

__all__ = ["RMSD", "RadiusOfGyration", "mean_square_deviation"]


class RadiusOfGyration(CollectiveVariable):
    """``sqrt(sum_i w_i |x_i - c|^2 / sum_i w_i)`` with ``c = sum_i w_i x_i / sum_i w_i``, in nm.

    Args:
        atoms: number of atoms of the molecule.
        weights: one number above 0 per atom, or 0 to leave it out; masses for instance. None for 1 each.

    Raises:
        ShapeError: not one weight per atom. InputError: a negative weight, or all 0.
    """

    def __init__(self, atoms: int, weights: Tensor | Sequence[float] | None = None) -> None:
        w = torch.ones(atoms) if weights is None else torch.as_tensor(weights)
        if w.shape != (atoms,):
            raise ShapeError(f"RadiusOfGyration got weights of shape {tuple(w.shape)}; {atoms} atoms expect ({atoms},)")
        if not bool((w >= 0).all()) or float(w.sum()) <= 0:
            raise InputError("RadiusOfGyration got weights below 0, or none above; it expects masses or ones")
        self.weights = w if w.is_floating_point() else w.to(torch.float32)
        self._shape(atoms, 1, "nm")

    def _forward(self, x: Tensor) -> Tensor:
        w = (self.weights / self.weights.sum()).to(x.dtype)
        centred = x - (w[:, None] * x).sum(1, keepdim=True)
        return torch.linalg.vector_norm((w.sqrt()[:, None] * centred).flatten(1), dim=1, keepdim=True)

    @classmethod
    def example(cls, rng: torch.Generator) -> RadiusOfGyration:
        """Build that of five atoms of random masses."""
        return cls(5, 1 + torch.rand(5, generator=rng))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"atoms": self.atoms, "weights": self.weights}


class RMSD(CollectiveVariable):
    """``min over rotations R and shifts t of sqrt(mean_i |x_i - R y_i - t|^2)``, in nm.

    The best rotation is Kabsch's (W. Kabsch, Acta Cryst. A32, 922, 1976), never a reflection. Because it is the best,
    the derivative is that of the deviation with R and t held fixed, and needs none of the singular vectors.

    Args:
        reference: y, ``(chosen, 3)`` in nm.
        atoms: number of atoms of the molecule.
        chosen: which atoms are compared (from 0), in the order of the reference; None for all.

    Raises:
        ShapeError: the reference does not have one row per chosen atom. InputError: an atom is unknown or named twice.
    """

    def __init__(self, reference: Tensor, atoms: int, chosen: Sequence[int] | None = None) -> None:
        self.reference, self.chosen = _reference(reference, atoms, chosen, "RMSD")
        self._shape(atoms, 1, "nm")

    def _forward(self, x: Tensor) -> Tensor:
        square = _residual(x[:, self.chosen], self.reference.to(x.dtype)[None])
        return torch.linalg.vector_norm(square.flatten(1), dim=1, keepdim=True) / len(self.chosen) ** 0.5

    @classmethod
    def example(cls, rng: torch.Generator) -> RMSD:
        """Build the deviation of four of five atoms from random positions."""
        return cls(torch.randn(4, 3, generator=rng), 5, [4, 0, 1, 3])

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"reference": self.reference, "atoms": self.atoms, "chosen": self.chosen.tolist()}


def mean_square_deviation(x: Tensor, references: Tensor) -> Tensor:
    """Mean squared deviation ``(N, frames)`` of x ``(N, n, 3)`` from references ``(frames, n, 3)``, best fit."""
    residual = _residual(x[:, None].expand(-1, len(references), -1, -1), references[None])
    return residual.square().sum((-2, -1)) / x.shape[1]


def _residual(x: Tensor, y: Tensor) -> Tensor:
    """``x_i - R y_i - t`` at the best rotation; the derivative by R and t vanishes there and is left out."""
    x, y = x - x.mean(-2, keepdim=True), y - y.mean(-2, keepdim=True)
    u, _, vh = torch.linalg.svd((x.mT @ y).detach())
    # det(u vh) < 0 would be a reflection: turn the weakest direction round
    sign = torch.linalg.det(u @ vh).sign()[..., None]
    u = torch.cat([u[..., :2], u[..., 2:] * sign[..., None]], -1)
    return x - y @ (u @ vh).mT


def _reference(reference: Tensor, atoms: int, chosen: Sequence[int] | None, what: str) -> tuple[Tensor, Tensor]:
    found = list(range(atoms)) if chosen is None else list(chosen)
    rows = indices([found], atoms, len(found), what)[0]
    y = torch.as_tensor(reference)
    if y.shape[-2:] != (len(found), 3):
        raise ShapeError(
            f"{what} got a reference of shape {tuple(y.shape)}; {len(found)} atoms expect (..., {len(found)}, 3)"
        )
    if not y.is_floating_point() or not bool(torch.isfinite(y).all()):
        raise InputError(f"{what} got a reference that is not finite floating point; it expects positions in nm")
    return y, rows
