"""Bonds, angles and torsions with their forces.

Differences of positions and the sums of forces over atoms are products with an incidence matrix (atoms x terms,
entries -1, 0, 1): one matrix product each way instead of gathering and scattering.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Angles", "Bonds", "PeriodicTorsions", "RyckaertBellemans", "Term", "dihedral", "incidence", "torsion_force"]

_TINY = 1e-6  # nm: below this a direction is taken as it comes, so that collinear atoms give a finite force
T = TypeVar("T", bound="Term")


@dataclass(frozen=True)
class Term:
    """Part of an energy: tensors, and a function of x."""

    def to(self: T, target: torch.dtype | torch.device) -> T:
        """A copy in a precision or on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{k: v.to(target) if isinstance(v, Tensor) else v for k, v in values.items()})

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U ``(N,)`` and the force ``(N, 3, atoms)`` at x ``(N, 3, atoms)``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Bonds(Term):
    """``U = k/2 (r - r0)^2``; k in kJ/(mol nm^2), r0 in nm, difference ``(atoms, bonds)``."""

    difference: Tensor
    length: Tensor
    k: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U and the force."""
        d = _apply(x, self.difference)
        r = d.square().sum(1).sqrt()
        stretch = r - self.length
        pull = self.k * stretch / r.clamp_min(_TINY)
        return 0.5 * (self.k * stretch**2).sum(1), _collect(-pull[:, None] * d, self.difference)


@dataclass(frozen=True)
class Angles(Term):
    """``U = k/2 (theta - theta0)^2`` of atoms i-j-k; k in kJ/(mol rad^2); differences i - j and k - j."""

    first: Tensor
    second: Tensor
    angle: Tensor
    k: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U and the force."""
        a, b = _apply(x, self.first), _apply(x, self.second)
        normal = torch.linalg.cross(a, b, dim=1)
        sine, cosine = normal.square().sum(1).sqrt(), (a * b).sum(1)
        bend = torch.atan2(sine, cosine) - self.angle
        torque = self.k * bend / sine.clamp_min(_TINY**2)
        # dtheta/da = a x (a x b) / (|a|^2 |a x b|), and the same with a and b exchanged
        fa = -(torque / a.square().sum(1).clamp_min(_TINY**2))[:, None] * torch.linalg.cross(a, normal, dim=1)
        fb = (torque / b.square().sum(1).clamp_min(_TINY**2))[:, None] * torch.linalg.cross(b, normal, dim=1)
        return 0.5 * (self.k * bend**2).sum(1), _collect(fa, self.first) + _collect(fb, self.second)


@dataclass(frozen=True)
class _Torsions(Term):
    """Energies of the dihedral angle phi of i-j-k-l, IUPAC sign; differences j - i, k - j, l - k."""

    first: Tensor
    second: Tensor
    third: Tensor

    def energy(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """U and dU/dphi of every torsion, ``(N, torsions)``."""
        raise NotImplementedError

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U and the force."""
        differences = self.first, self.second, self.third
        phi, bonds = dihedral(x, *differences)
        u, slope = self.energy(phi)
        return u.sum(1), torsion_force(slope, bonds, differences)


@dataclass(frozen=True)
class PeriodicTorsions(_Torsions):
    """``U = k (1 + cos(n phi - phase))``."""

    periodicity: Tensor
    phase: Tensor
    k: Tensor

    def energy(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """U and its slope."""
        angle = self.periodicity * phi - self.phase
        return self.k * (1 + torch.cos(angle)), -self.k * self.periodicity * torch.sin(angle)


@dataclass(frozen=True)
class RyckaertBellemans(_Torsions):
    """``U = sum_n c_n cos(phi - pi)^n``, n from 0 to 5; c ``(6, torsions)`` in kJ/mol."""

    c: Tensor

    def energy(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """U and its slope."""
        psi = phi - math.pi
        cosine = torch.cos(psi)
        u, slope = torch.zeros_like(phi), torch.zeros_like(phi)
        for n in reversed(range(6)):
            slope = slope * cosine + u
            u = u * cosine + self.c[n]
        return u, -slope * torch.sin(psi)


Directions = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def dihedral(x: Tensor, first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Directions]:
    """Angles ``(N, torsions)`` and what their derivatives need: three bonds, two normals, the middle bond's length."""
    b1, b2, b3 = (_apply(x, b) for b in (first, second, third))
    m, n = torch.linalg.cross(b1, b2, dim=1), torch.linalg.cross(b2, b3, dim=1)
    length = b2.square().sum(1).sqrt().clamp_min(_TINY)
    return torch.atan2(length * (b1 * n).sum(1), (m * n).sum(1)), (b1, b2, b3, m, n, length)


def torsion_force(slope: Tensor, directions: Directions, differences: tuple[Tensor, ...]) -> Tensor:
    """The force of torsions with dU/dphi = slope (A. Blondel and M. Karplus, J. Comput. Chem. 17, 1132, 1996)."""
    b1, b2, b3, m, n, length = directions
    fi = (slope * length / m.square().sum(1).clamp_min(_TINY**4))[:, None] * m
    fl = -(slope * length / n.square().sum(1).clamp_min(_TINY**4))[:, None] * n
    along = length.square()
    middle = ((b1 * b2).sum(1) / along)[:, None] * fi - ((b3 * b2).sum(1) / along)[:, None] * fl
    first, second, third = differences
    return _collect(-fi, first) + _collect(middle, second) + _collect(fl, third)


def incidence(atoms: int, plus: Sequence[int], minus: Sequence[int]) -> Tensor:
    """The matrix D ``(atoms, terms)`` with ``x @ D = x[plus] - x[minus]``, float64."""
    d = torch.zeros(atoms, len(plus), dtype=torch.float64)
    terms = torch.arange(len(plus))
    d[torch.as_tensor(list(plus), dtype=torch.long), terms] = 1
    d[torch.as_tensor(list(minus), dtype=torch.long), terms] = -1
    return d


def _apply(x: Tensor, d: Tensor) -> Tensor:
    return (x.reshape(-1, x.shape[2]) @ d).reshape(x.shape[0], 3, -1)


def _collect(f: Tensor, d: Tensor) -> Tensor:
    return (f.reshape(-1, f.shape[2]) @ d.T).reshape(f.shape[0], 3, -1)
