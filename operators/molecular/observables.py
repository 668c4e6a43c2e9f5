"""What experiments see of one structure: NOE distances, scalar couplings, small-angle scattering.

Each is a collective variable and as well the operator of a `Measurement`: with an energy as prior the posterior is
``p(x | y) ~ exp(-U(x)/kT) p(y | A(x))`` (`invdiff.energies.posterior`). The data are taken as those of one structure: a
measured average over an ensemble that interconverts is not the value at any one member, so restrain with it only where
one conformation dominates, and give sigma room for the forward model's own error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.molecular.base import CollectiveVariable, indices, pair_lengths
from invdiff.operators.molecular.geometry import torsion

__all__ = ["HN_HA", "NOE", "SAXS", "Karplus"]

HN_HA = (8.40, -1.36, 0.33)  # Hz, for phi - 60 degrees: B. Vögeli et al., J. Am. Chem. Soc. 129, 9377 (2007)


class NOE(CollectiveVariable):
    """Effective proton distances ``r = (mean over equivalent pairs of r_ij^-6)^(-1/6)``, in nm.

    Args:
        groups: one list of pairs of atoms (from 0) per datum; several pairs where protons are equivalent.
        atoms: number of atoms of the molecule.

    Raises:
        InputError, ShapeError: a group is empty or names no pairs.
    """

    _NEAR = 1e-6  # nm, below which a distance counts as this

    def __init__(self, groups: Sequence[Any], atoms: int) -> None:
        found = [indices(g, atoms, 2, "NOE") for g in groups]
        if any(len(g) == 0 for g in found):
            raise InputError("NOE got an empty group; every datum needs at least one pair of atoms")
        self._shape(atoms, len(found), "nm")
        self.groups = [g.tolist() for g in found]
        self.pairs = torch.cat(found)
        self.owner = torch.cat([torch.full((len(g),), n) for n, g in enumerate(found)])

    def _forward(self, x: Tensor) -> Tensor:
        logs = -6 * pair_lengths(x, self.pairs).clamp_min(self._NEAR).log()
        columns = [logs[:, self.owner == n] for n in range(self.range_shape[0])]
        means = [torch.logsumexp(c, 1) - torch.log(torch.tensor(c.shape[1])).to(c) for c in columns]
        return torch.exp(torch.stack(means, 1) / -6)

    @classmethod
    def example(cls, rng: torch.Generator) -> NOE:
        """Build a single pair and three equivalent ones, of six atoms."""
        del rng
        return cls([[[0, 1]], [[2, 3], [2, 4], [2, 5]]], 6)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"groups": self.groups, "atoms": self.atoms}


class Karplus(CollectiveVariable):
    """Scalar couplings ``J = a cos^2(phi + shift) + b cos(phi + shift) + c`` of torsions phi, in Hz.

    Args:
        quadruples: atoms of the torsions (from 0).
        atoms: number of atoms of the molecule.
        coefficients: a, b, c in Hz; the default is that of H-N-CA-HA given the backbone's phi (C-N-CA-C).
        shift: in rad; -60 degrees for that one.

    Raises:
        ShapeError: not three coefficients, or not four atoms each.
    """

    def __init__(
        self,
        quadruples: Any,
        atoms: int,
        coefficients: Sequence[float] = HN_HA,
        shift: float = -1.0471975511965976,
    ) -> None:
        self.quadruples = indices(quadruples, atoms, 4, "Karplus")
        if len(coefficients) != 3:
            raise ShapeError(f"Karplus got {len(coefficients)} coefficients; it expects a, b and c")
        self.coefficients, self.shift = [float(c) for c in coefficients], float(shift)
        self._shape(atoms, len(self.quadruples), "Hz")

    def _forward(self, x: Tensor) -> Tensor:
        phi = torsion(*(x[:, self.quadruples[:, n]] for n in range(4)))
        a, b, c = self.coefficients
        cosine = torch.cos(phi + self.shift)
        return a * cosine**2 + b * cosine + c

    @classmethod
    def example(cls, rng: torch.Generator) -> Karplus:
        """Build the coupling of one torsion of five atoms."""
        del rng
        return cls([0, 1, 3, 4], 5)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        rest = {"coefficients": self.coefficients, "shift": self.shift}
        return {"quadruples": self.quadruples.tolist(), "atoms": self.atoms, **rest}


class SAXS(CollectiveVariable):
    """Small-angle scattering ``I(q) = sum_ij f_i(q) f_j(q) sin(q r_ij) / (q r_ij)``.

    In the square of the form factors' unit; no solvent is subtracted: give form factors in excess of the solvent's
    where the data are. Source: P. Debye, Ann. Phys. 351, 809 (1915).

    Args:
        q: momentum transfers in 1/nm, ``(Q,)``.
        form_factors: ``(atoms,)``, or ``(Q, atoms)`` where they depend on q; numbers of electrons for a first guess.

    Raises:
        ShapeError: the form factors do not fit. InputError: a negative q.
    """

    def __init__(self, q: Tensor | Sequence[float], form_factors: Tensor | Sequence[float]) -> None:
        self.q = torch.as_tensor(q, dtype=None if isinstance(q, Tensor) else torch.float64)
        f = torch.as_tensor(form_factors, dtype=self.q.dtype)
        if self.q.ndim != 1 or not bool((self.q >= 0).all()):
            raise InputError(f"SAXS got q of shape {tuple(self.q.shape)}, or below 0; it expects a list in 1/nm")
        if f.ndim not in (1, 2) or (f.ndim == 2 and len(f) != len(self.q)):
            raise ShapeError(f"SAXS got form factors {tuple(f.shape)}; it expects (atoms,) or ({len(self.q)}, atoms)")
        self.form_factors = f.expand(len(self.q), f.shape[-1]).clone()
        self._shape(f.shape[-1], len(self.q), "1")
        self.pairs = torch.triu_indices(self.atoms, self.atoms, 1).T.contiguous()

    def _forward(self, x: Tensor) -> Tensor:
        f, q = self.form_factors.to(x.dtype), self.q.to(x.dtype)
        r = pair_lengths(x, self.pairs)
        products = f[:, self.pairs[:, 0]] * f[:, self.pairs[:, 1]]
        waves = torch.sinc(q[:, None] * r[:, None, :] / torch.pi)
        return f.square().sum(1) + 2 * (products * waves).sum(2)

    @classmethod
    def example(cls, rng: torch.Generator) -> SAXS:
        """Build the scattering of five atoms at three angles."""
        return cls(torch.tensor([0.0, 0.8, 2.0]), 1 + torch.rand(5, generator=rng))

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"q": self.q, "form_factors": self.form_factors}
