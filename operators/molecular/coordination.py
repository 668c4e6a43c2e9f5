"""How many atoms of one kind are near atoms of another, as a smooth number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.operators.molecular.base import CollectiveVariable, indices, pair_lengths

__all__ = ["Coordination"]


class Coordination(CollectiveVariable):
    """``s = sum over pairs of (1 - z^n) / (1 - z^m)``, ``z = max(0, r - d0) / r0``; 1 for a bond, 0 far away.

    Evaluated as the ratio of the geometric sums ``1 + z + ... + z^(n-1)`` and ``1 + z + ... + z^(m-1)``, smooth at
    z = 1 too. Source: M. Iannuzzi, A. Laio, M. Parrinello, Phys. Rev. Lett. 90, 238302 (2003).

    Args:
        pairs: atoms i, j (from 0), one pair or a list; all are summed.
        atoms: number of atoms of the molecule.
        r0, d0: where the bond ends and how far it counts in full, in nm.
        n, m: exponents.

    Raises:
        InputError: r0 not above 0, d0 below 0, or not 0 < n < m.
    """

    def __init__(self, pairs: Any, atoms: int, r0: float, d0: float = 0.0, n: int = 6, m: int = 12) -> None:
        if not (r0 > 0 and d0 >= 0 and 0 < n < m):
            raise InputError(f"Coordination got r0 {r0}, d0 {d0}, n {n}, m {m}; it expects r0 > 0, d0 >= 0, 0 < n < m")
        self.pairs = indices(pairs, atoms, 2, "Coordination")
        self.r0, self.d0, self.n, self.m = float(r0), float(d0), int(n), int(m)
        self._shape(atoms, 1 if len(self.pairs) else 0, "1")

    def _forward(self, x: Tensor) -> Tensor:
        z = (pair_lengths(x, self.pairs) - self.d0).clamp_min(0) / self.r0
        # far away the ratio is z^(n - m), and z^m might overflow: 1/z is summed there
        near, far = z.clamp_max(1), 1 / z.clamp_min(1)
        inner = _geometric(near, self.n) / _geometric(near, self.m)
        outer = far ** (self.m - self.n) * _geometric(far, self.n) / _geometric(far, self.m)
        return torch.where(z <= 1, inner, outer).sum(1, keepdim=True)

    @classmethod
    def example(cls, rng: torch.Generator) -> Coordination:
        """Build the coordination of one atom by three, r0 = 1.5, exponents 6 and 8."""
        del rng
        return cls([[0, 1], [0, 2], [0, 4]], 5, 1.5, 0.1, 6, 8)

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        rest = {"r0": self.r0, "d0": self.d0, "n": self.n, "m": self.m}
        return {"pairs": self.pairs.tolist(), "atoms": self.atoms, **rest}


def _geometric(z: Tensor, terms: int) -> Tensor:
    total = torch.ones_like(z)
    for _ in range(terms - 1):
        total = total * z + 1
    return total
