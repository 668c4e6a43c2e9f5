"""Lennard-Jones and Coulomb between all pairs, without a cutoff."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.energies.openmm_torch.bonded import Term

__all__ = ["COULOMB", "Nonbonded", "pair_force", "squared_distances"]

COULOMB = 138.93545764438198  # 1/(4 pi epsilon_0) in kJ nm/(mol e^2), OpenMM's value


@dataclass(frozen=True)
class Nonbonded(Term):
    """``U = sum_{i<j} 4 eps_ij ((sigma_ij/r)^12 - (sigma_ij/r)^6) + q_ij / r``.

    Matrices ``(atoms, atoms)``, symmetric with a zero diagonal: ``a = 4 eps sigma^12``, ``b = 4 eps sigma^6`` and
    ``q = COULOMB q_i q_j``; an exception (1-4 pair, exclusion) has its own entries.
    """

    a: Tensor
    b: Tensor
    q: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U and the force."""
        inverse2 = squared_distances(x).reciprocal_()
        inverse6 = inverse2**3
        repulsion = (self.a * inverse6).mul_(inverse6)
        attraction = inverse6.mul_(self.b)
        coulomb = inverse2.sqrt().mul_(self.q)
        u = 0.5 * (repulsion - attraction + coulomb).flatten(1).sum(1)
        slope = repulsion.mul_(12).sub_(attraction, alpha=6).add_(coulomb).mul_(inverse2)  # -U'(r)/r
        return u, pair_force(x, slope)


def squared_distances(x: Tensor) -> Tensor:
    """``|x_i - x_j|^2`` of x ``(N, 3, atoms)``, ``(N, atoms, atoms)``; 1 nm^2 on the diagonal."""
    out = (x[:, 0, :, None] - x[:, 0, None, :]).square_()
    for c in (1, 2):
        out.add_((x[:, c, :, None] - x[:, c, None, :]).square_())
    out.diagonal(dim1=1, dim2=2).fill_(1)
    return out


def pair_force(x: Tensor, slope: Tensor) -> Tensor:
    """``F_i = sum_j c_ij (x_i - x_j)`` of c ``(N, atoms, atoms)``, symmetric."""
    x = x - x.mean(2, keepdim=True)  # the two sums below cancel, the more so the farther from the origin
    return x * slope.sum(1)[:, None] - torch.matmul(x, slope)
