"""Generalised Born implicit solvent after Onufriev, Bashford and Case (OBC), with its surface term.

Born radii (Onufriev, Bashford, Case 2004, doi 10.1002/prot.20033): with offset radii ``o_i = r_i - 0.009 nm`` and
scaled ones ``s_j = S_j o_j``, pairwise integrals I_ij where ``r + s_j > o_i``,

    ``I_ij = 1/2 [1/L - 1/U + (r - s_j^2/r)(1/U^2 - 1/L^2)/4 + ln(L/U)/(2 r)]``

with ``U = r + s_j``, ``L = max(o_i, |r - s_j|)``

(and ``1/o_i - 1/L`` more where i lies within j, ``o_i < s_j - r``), ``psi_i = o_i sum_j I_ij`` and

    ``1/B_i = 1/o_i - tanh(alpha psi - beta psi^2 + gamma psi^3) / r_i``.

Energy: ``U = -1/2 K sum_ij q_i q_j / f_ij + sum_i A (r_i + 0.14)^2 (r_i/B_i)^6`` with
``f_ij^2 = r^2 + B_i B_j exp(-r^2 / (4 B_i B_j))`` and ``K = COULOMB (1/eps_in - 1/eps_out)``; i = j counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.energies.openmm_torch.bonded import Term
from invdiff.energies.openmm_torch.nonbonded import pair_force, squared_distances

__all__ = ["OBC"]

_PROBE = 0.14  # nm


@dataclass(frozen=True)
class OBC(Term):
    """The solvent's free energy.

    Tensors of one number per atom: charges q (e), offset radii, scaled radii and full radii (nm). Numbers: K
    (kJ nm/(mol e^2)), A (kJ/(mol nm^2), 4 pi included), the three constants, and whether an atom that lies within
    another gets the extra term (OpenMM's `GBSAOBCForce` has it, its `CustomGBForce` version has not).
    """

    charge: Tensor
    offset: Tensor
    scaled: Tensor
    radius: Tensor
    strength: float
    surface: float
    constants: tuple[float, float, float]
    engulfed: bool

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U and the force."""
        r2 = squared_distances(x)
        integral, integral_slope = self._integrals(r2.sqrt())
        alpha, beta, gamma = self.constants
        psi = self.offset * integral.sum(2)
        tanh = torch.tanh(psi * (alpha + psi * (-beta + gamma * psi)))
        born = 1 / (1 / self.offset - tanh / self.radius)
        steep = (1 - tanh**2) * (alpha + psi * (-2 * beta + 3 * gamma * psi)) * self.offset / self.radius

        product = born[:, :, None] * born[:, None, :]
        r2.diagonal(dim1=1, dim2=2).fill_(0)
        ratio = r2 / product * 0.25
        decay = torch.exp(-ratio)
        f2 = torch.addcmul(r2, product, decay)
        pair = -0.5 * self.strength * self.charge[:, None] * self.charge * f2.rsqrt()
        surface = self.surface * (self.radius + _PROBE) ** 2 * (self.radius / born) ** 6
        u = pair.flatten(1).sum(1) + surface.sum(1)

        pull = pair / f2  # -2 dU_ij/d(f^2)
        # 2 dU/dB_i through f: every pair counts twice, d(f^2)/dB_i = B_j exp(-ratio) (1 + ratio)
        by_born = -((pull * decay * (1 + ratio)) @ born[:, :, None])[:, :, 0] - 6 * surface / born
        by_integral = by_born * born**2 * steep
        # U'(r)/r of both parts; i's integral over j and j's over i pull along the same line
        chain = by_integral[:, :, None] * integral_slope
        slope = 2 * pull * (1 - 0.25 * decay) - chain - chain.transpose(1, 2)
        return u, pair_force(x, slope)

    def _integrals(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """I_ij and ``I_ij'(r) / r``, ``(N, atoms, atoms)``."""
        o, s = self.offset[:, None], self.scaled
        lower = torch.maximum(o, (r - s).abs())
        inverse_l, inverse_u, inverse_r = 1 / lower, 1 / (r + s), 1 / r
        l2, u2 = inverse_l**2, inverse_u**2
        log = torch.log(inverse_u * lower)
        far = 0.25 * (r - s**2 * inverse_r)
        value = 0.5 * (inverse_l - inverse_u + far * (u2 - l2) + 0.5 * log * inverse_r)
        # dL/dr is sign(r - s) where |r - s| is the larger, else 0
        moving = torch.where(lower > o, torch.sign(r - s), torch.zeros_like(r))
        slope = 0.5 * (
            -l2 * moving
            + u2
            + 0.25 * (1 + (s * inverse_r) ** 2) * (u2 - l2)
            + far * (-2 * u2 * inverse_u + 2 * l2 * inverse_l * moving)
            + 0.5 * inverse_r * (moving * inverse_l - inverse_u)
            - 0.5 * log * inverse_r**2
        )
        if self.engulfed:
            inside = o < s - r
            value = torch.where(inside, value + 1 / o - inverse_l, value)
            slope = torch.where(inside, slope + l2 * moving, slope)
        seen = r + s > o
        seen = seen & ~torch.eye(r.shape[1], dtype=torch.bool, device=r.device)
        return torch.where(seen, value, 0.0), torch.where(seen, slope * inverse_r, 0.0)
