"""A well-tempered bias on 1 to 3 collective variables, kept on a grid and read by cubic interpolation.

Deposit of N samples s_i at once, all with the bias V before it (in kT):
``V(s) <- V(s) + (height / N) sum_i exp(-V(s_i) / (gamma - 1)) exp(-|s - s_i|^2 / 2 width^2)``.
Barducci, Bussi, Parrinello 2008 (doi 10.1103/PhysRevLett.100.020603). In the limit V = -(1 - 1/gamma) F + const, so
the free energy is ``F = -gamma / (gamma - 1) V`` (`Bias.free_energy`). Dividing by N makes the growth per deposit, and
so every result, independent of the batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["Axis", "Bias"]


@dataclass(frozen=True)
class Axis:
    """One collective variable's grid: `points` equally spaced values.

    Args:
        low, high: range. Periodic axes hold [low, high) and ``high - low`` is the period; others hold both ends.
        points: grid points; at least four to a kernel width makes the grid's error negligible.
        width: standard deviation of the kernel, in the unit of the variable.
        periodic: whether the axis closes on itself.
    """

    low: float
    high: float
    points: int
    width: float
    periodic: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"axis from {self.low} to {self.high}; low must be below high")
        if self.points < 4:
            raise InputError(f"axis of {self.points} points; cubic interpolation needs 4 at least")
        if not self.width > 0:
            raise InputError(f"kernel width is {self.width}; it expects a number above 0")
        if self.width < self.spacing:
            raise InputError(
                f"kernel width {self.width} is below the grid spacing {self.spacing:.3g}; use more points or a wider"
                " kernel"
            )

    @property
    def spacing(self) -> float:
        """Distance of neighbouring grid points."""
        return (self.high - self.low) / (self.points if self.periodic else self.points - 1)

    def grid(self) -> Tensor:
        """The grid points, float64."""
        return self.low + self.spacing * torch.arange(self.points, dtype=torch.float64)

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ``a - b``, the shortest way round on a periodic axis."""
        d = a - b
        period = self.high - self.low
        return d - period * torch.round(d / period) if self.periodic else d


class Bias:
    """The bias V(s) in kT.

    Beyond the ends of an axis that is not periodic V stays at its value there (no force); a wall belongs there.

    Args:
        axes: one per collective variable, 1 to 3.
        gamma: bias factor, above 1: along s the sampler sees the temperature gamma T.
        height: kT added where all samples of a batch fall together, at the first deposit.

    Raises:
        InputError: not 1 to 3 axes, gamma not above 1, height not above 0.
    """

    def __init__(self, axes: Sequence[Axis], gamma: float, height: float) -> None:
        if not 1 <= len(axes) <= 3:
            raise InputError(f"a bias has {len(axes)} axes; it expects 1, 2 or 3 collective variables")
        if not gamma > 1:
            raise InputError(f"gamma is {gamma}; a well-tempered bias expects a number above 1")
        if not height > 0:
            raise InputError(f"height is {height} kT; it expects a number above 0")
        self.axes, self.gamma, self.height = tuple(axes), float(gamma), float(height)
        self.values = torch.zeros([a.points for a in self.axes], dtype=torch.float64)
        self.hills: list[tuple[Tensor, Tensor]] = []  # (centres (N, k), heights (N,)) of every deposit
        self.of_hills = True  # whether they are all of it

    # ---- reading ----------------------------------------------------------------------------------------------
    def __call__(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return V ``(N,)`` and its gradient ``(N, k)`` at s ``(N, k)``; both are continuous in s."""
        if s.ndim != 2 or s.shape[1] != len(self.axes):
            raise ShapeError(f"bias got s of shape {tuple(s.shape)}; it expects (N, {len(self.axes)})")
        stencils = [_stencil(axis, s[:, i].double().cpu()) for i, axis in enumerate(self.axes)]
        corner = _gather(self.values, [index for index, _, _ in stencils])
        value = _contract(corner, [w for _, w, _ in stencils])
        slopes = []
        for i in range(len(self.axes)):
            slopes.append(_contract(corner, [d if j == i else w for j, (_, w, d) in enumerate(stencils)]))
        return value.to(s), torch.stack(slopes, 1).to(s)

    def outside(self, s: Tensor) -> Tensor:
        """Return which rows of s ``(N, k)`` lie off the grid."""
        off = torch.zeros(s.shape[0], dtype=torch.bool, device=s.device)
        for i, axis in enumerate(self.axes):
            if not axis.periodic:
                off |= (s[:, i] < axis.low) | (s[:, i] > axis.high)
        return off

    def free_energy(self) -> Tensor:
        """The estimate ``F = -gamma/(gamma - 1) V`` on the grid, in kT, its minimum 0."""
        f = -self.gamma / (self.gamma - 1) * self.values
        return f - f.min()

    # ---- growing ----------------------------------------------------------------------------------------------
    def deposit(self, s: Tensor, factor: float = 1.0) -> None:
        """Add the kernels of a batch s ``(N, k)``, of `factor` times the height.

        Rows that are not finite are left out of the sum, not of N.
        """
        count, s = s.shape[0], s.detach().double().cpu()
        s = s[torch.isfinite(s).all(1)]
        if len(s) == 0:
            return
        heights = factor * self.height / count * torch.exp(-self(s)[0] / (self.gamma - 1))
        self.add(s, heights)
        self.hills.append((s, heights))

    def add(self, centres: Tensor, heights: Tensor) -> None:
        """Add Gaussians of the axes' widths at centres ``(N, k)`` with heights ``(N,)`` in kT (metadynamics' hills)."""
        kernels = []
        for i, axis in enumerate(self.axes):
            d = axis.difference(axis.grid()[None, :], centres[:, i : i + 1].double())
            kernels.append(torch.exp(-0.5 * (d / axis.width) ** 2))
        letters = "xyz"[: len(self.axes)]
        formula = ",".join(["n", *(f"n{c}" for c in letters)]) + f"->{letters}"
        self.values = self.values + torch.einsum(formula, heights.double(), *kernels)

    # ---- keeping ----------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Tensor]:
        """Return everything that changes, as tensors."""
        k = len(self.axes)
        centres = torch.cat([c for c, _ in self.hills]) if self.hills else torch.zeros(0, k, dtype=torch.float64)
        heights = torch.cat([h for _, h in self.hills]) if self.hills else torch.zeros(0, dtype=torch.float64)
        sizes = torch.tensor([len(h) for _, h in self.hills], dtype=torch.int64)
        return {"values": self.values, "centres": centres, "heights": heights, "sizes": sizes}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned. Raises ShapeError where it belongs to another grid."""
        if state["values"].shape != self.values.shape:
            raise ShapeError(
                f"the stored bias has {tuple(state['values'].shape)} points; this one {tuple(self.values.shape)}"
            )
        self.values = state["values"].clone()
        sizes = state["sizes"].tolist()
        self.hills = list(zip(state["centres"].split(sizes), state["heights"].split(sizes), strict=True))


def _stencil(axis: Axis, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Grid indices ``(N, 4)``, interpolation weights and their derivatives of the cubic convolution kernel.

    Keys 1981 with a = -1/2: once continuously differentiable and exact at the grid points.
    """
    u = (s - axis.low) / axis.spacing
    inside = torch.ones_like(s, dtype=torch.bool)
    if not axis.periodic:
        inside = (u >= 0) & (u <= axis.points - 1)
        u = u.clamp(0, axis.points - 1)
    base = torch.nan_to_num(u.floor())
    if not axis.periodic:
        base = base.clamp(max=axis.points - 2)
    t = u - base
    index = base.long()[:, None] + torch.arange(-1, 3)
    last = axis.points - 1  # mirrored at the ends, where the slope is then 0 as it is beyond
    index = index % axis.points if axis.periodic else last - (last - index.abs()).abs()
    t2, t3 = t * t, t * t * t
    weights = torch.stack(
        [-t3 / 2 + t2 - t / 2, 1.5 * t3 - 2.5 * t2 + 1, -1.5 * t3 + 2 * t2 + t / 2, t3 / 2 - t2 / 2], 1
    )
    slopes = torch.stack([-1.5 * t2 + 2 * t - 0.5, 4.5 * t2 - 5 * t, -4.5 * t2 + 4 * t + 0.5, 1.5 * t2 - t], 1)
    slopes = slopes / axis.spacing
    return index, weights, torch.where(inside[:, None], slopes, torch.zeros_like(slopes))


def _gather(values: Tensor, indices: list[Tensor]) -> Tensor:
    """The 4^k grid values around every sample, ``(N, 4, ..., 4)``."""
    k = len(indices)
    views = [index.reshape(-1, *[4 if j == i else 1 for j in range(k)]) for i, index in enumerate(indices)]
    return values[tuple(views)]


def _contract(corner: Tensor, weights: list[Tensor]) -> Tensor:
    for w in reversed(weights):
        corner = (corner * w.reshape(-1, *[1] * (corner.ndim - 2), 4)).sum(-1)
    return corner
