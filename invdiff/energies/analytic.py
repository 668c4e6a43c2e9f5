"""Analytic energies, in kT: two surfaces in the plane and two clusters that every energy sampler is tried on."""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.energies.base import FromPotential
from invdiff.errors import InputError

__all__ = ["Coordinates", "DoubleWell", "LennardJones", "MullerBrown", "PairwiseDoubleWell", "pair_distances"]


class DoubleWell(FromPotential):
    """``U(x, y) = h (x^2/4 - 1)^2 + tilt x + 2 (y - x^2/4)^2``, in kT.

    Wells at x = -2 and +2 on a curved valley floor. With the defaults the barrier is about 10 kT and the right well
    holds 5 % of the probability.

    Args:
        barrier: h, in kT.
        tilt: in kT per unit of x.

    `limits` is a box that holds all of ``exp(-U)`` but 1e-12 of it, for quadrature.
    """

    limits = ((-6.0, 6.0), (-5.0, 10.0))

    def __init__(self, barrier: float = 10.0, tilt: float = 0.75) -> None:
        self.barrier, self.tilt = float(barrier), float(tilt)
        super().__init__(self._potential, (2,))

    def _potential(self, x: Tensor) -> Tensor:
        a, b = x[:, 0], x[:, 1]
        return self.barrier * (a**2 / 4 - 1) ** 2 + self.tilt * a + 2 * (b - a**2 / 4) ** 2


class MullerBrown(FromPotential):
    """``U = scale * sum_k A_k exp(a_k (x - x_k)^2 + b_k (x - x_k)(y - y_k) + c_k (y - y_k)^2)``, in kT.

    Minima at (-0.558, 1.442), (0.623, 0.028) and (-0.050, 0.467); with scale 0.1 the way out of the deepest costs
    10.6 kT. Source: K. Müller and L. D. Brown, Theor. Chim. Acta 53, 75 (1979).

    Args:
        scale: kT per unit of the published energy.
    """

    limits = ((-2.5, 2.0), (-1.2, 3.0))
    _HEIGHT = (-200.0, -100.0, -170.0, 15.0)
    _A, _B, _C = (-1.0, -1.0, -6.5, 0.7), (0.0, 0.0, 11.0, 0.6), (-10.0, -10.0, -6.5, 0.7)
    _X, _Y = (1.0, 0.0, -0.5, -1.0), (0.0, 0.5, 1.5, 1.0)

    def __init__(self, scale: float = 0.1) -> None:
        self.scale = float(scale)
        super().__init__(self._potential, (2,))

    def _potential(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x[:, 0])
        for height, a, b, c, x0, y0 in zip(self._HEIGHT, self._A, self._B, self._C, self._X, self._Y, strict=True):
            u, v = x[:, 0] - x0, x[:, 1] - y0
            total = total + height * torch.exp(a * u**2 + b * u * v + c * v**2)
        return self.scale * total


class PairwiseDoubleWell(FromPotential):
    """DW-n: ``U = sum_{i<j} 0.9 (d_ij - 4)^4 - 4 (d_ij - 4)^2``, in kT; n particles in 2 dimensions.

    Source: Köhler, Klein, Noé 2020 (arXiv 2006.02425). It is invariant under translation: samplers work on mean-free
    configurations.

    Args:
        particles: n.
    """

    def __init__(self, particles: int = 4) -> None:
        super().__init__(self._potential, (_at_least_two(particles), 2))

    def _potential(self, x: Tensor) -> Tensor:
        d = pair_distances(x) - 4
        return (0.9 * d**4 - 4 * d**2).sum(1)


class LennardJones(FromPotential):
    """LJ-n: ``U = 2 sum_{i<j} (d_ij^-12 - 2 d_ij^-6) + 1/2 sum_i |x_i - mean|^2``, in kT; n particles in 3 dimensions.

    Reduced units (pair distance at the minimum 1). The factor 2 (every pair counted both ways) is that of the published
    benchmarks of energy samplers. Below d = 0.5 the pair term goes on as a straight line, so that a clash has a finite
    force; Boltzmann's factor there is below 10^-3000.

    Args:
        particles: n.
    """

    _NEAR = 0.5

    def __init__(self, particles: int = 13) -> None:
        super().__init__(self._potential, (_at_least_two(particles), 3))

    def _potential(self, x: Tensor) -> Tensor:
        d = pair_distances(x)
        near = self._NEAR
        r = d.clamp_min(near)
        pair = r**-12 - 2 * r**-6 + (-12 * near**-13 + 12 * near**-7) * (d - near).clamp_max(0)
        centred = x - x.mean(1, keepdim=True)
        return 2 * pair.sum(1) + 0.5 * centred.square().sum((1, 2))


class Coordinates:
    """Some components of a vector as collective variables: ``s = x[:, indices]``.

    Args:
        indices: which.
        units: one word for all.
    """

    def __init__(self, indices: tuple[int, ...], units: str = "1") -> None:
        self.indices = tuple(int(i) for i in indices)
        self.period: tuple[float | None, ...] = (None,) * len(self.indices)
        self.units = (units,) * len(self.indices)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, k)`` of x ``(N, d)``."""
        return x[:, list(self.indices)]

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)


def pair_distances(x: Tensor) -> Tensor:
    """Distances ``(N, n (n - 1) / 2)`` of all pairs of particles of x ``(N, n, dim)``; 1e-12 is added to squares."""
    i, j = torch.triu_indices(x.shape[1], x.shape[1], 1, device=x.device)
    return ((x[:, i] - x[:, j]).square().sum(-1) + 1e-12).sqrt()


def _at_least_two(particles: int) -> int:
    if particles < 2:
        raise InputError(f"particles is {particles}; a cluster expects at least 2")
    return int(particles)
