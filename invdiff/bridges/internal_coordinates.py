"""A molecule as bond lengths, angles and dihedrals, standardised: the chart in which small networks learn it well.

``q -> x`` places each atom by ``(r, theta, phi)`` to three earlier ones; ``dx = prod r^2 sin(theta) dq`` up to a
constant, so the density of q is ``exp(-U(x(q))/kT + sum 2 ln r + ln sin theta)``. A dihedral is taken to a sibling
where there is one, so that one soft angle turns a whole group and all others are stiff.

Soft dihedrals live in a window of one turn; its ends are walls, so they belong where the free energy is high. Rotors of
three equal atoms have a third of a turn: the other two thirds are the same molecule with its atoms renamed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from invdiff.energies.base import CollectiveVariable, Energy
from invdiff.errors import InputError

__all__ = ["Chart", "ChartEnergy", "ChartVariable", "tree"]

Row = tuple[int, int, int, int]  # atom, and the three that place it (-1 where there is none)


def tree(bonds: Sequence[tuple[int, int]], symbols: Sequence[str]) -> list[Row]:
    """Return which atoms place which, from a molecule's bonds: breadth first, larger branches first.

    Raises:
        InputError: the bonds do not connect all atoms, or there are fewer than 4 atoms.
    """
    n = len(symbols)
    near: list[list[int]] = [[] for _ in range(n)]
    for i, j in bonds:
        near[i].append(j)
        near[j].append(i)
    root = next((i for i in range(n) if len(near[i]) > 1), 0)
    rows: list[Row] = [(root, -1, -1, -1)]
    parent, waiting = {root: -1}, [root]
    children: list[list[int]] = [[] for _ in range(n)]
    while waiting:
        i = waiting.pop(0)
        branches = sorted((m for m in near[i] if m not in parent), key=lambda m: (-_size(m, i, near), m))
        for m in branches:
            j = parent[i] if parent[i] >= 0 else (children[i][0] if children[i] else -1)
            siblings = [c for c in children[i] if c != j]
            beyond = [parent[j], *children[j]] if j >= 0 else []
            others = siblings or [c for c in beyond if c >= 0 and c != i]
            rows.append((m, i, j, others[0] if others else -1))
            parent[m] = i
            children[i].append(m)
            waiting.append(m)
    if len(rows) < n or n < 4:
        raise InputError(
            f"internal coordinates need one molecule of 4 atoms at least; the bonds connect {len(rows)} of {n} atoms"
        )
    return rows


class Chart:
    """Standardised internal coordinates q ``(N, 3 atoms - 6)`` of a molecule, fitted to configurations of it.

    Args:
        data: configurations ``(n, atoms, 3)`` that set means and scales of stiff coordinates.
        bonds, symbols: the molecule.
        windows: ``{(i, j, k, l): low}``, the lower end in rad of a soft dihedral's turn, for those where the point
            opposite to the data is no good place to cut.
        stiffness: of the walls at the ends of the windows, kT per rad^2.

    Raises:
        InputError: the bonds do not connect all atoms; a window names no soft dihedral of the chart.
    """

    def __init__(
        self,
        data: Tensor,
        bonds: Sequence[tuple[int, int]],
        symbols: Sequence[str],
        windows: Mapping[tuple[int, ...], float] | None = None,
        stiffness: float = 300.0,
    ) -> None:
        self.rows, self.stiffness = tree(bonds, symbols), stiffness
        self.atoms = len(symbols)
        bonded = {frozenset(b) for b in bonds}
        near = [sum(1 for b in bonds if m in b) for m in range(self.atoms)]
        r, theta, phi = self._measure(data.double())
        self.mean = [r.mean(0), theta.mean(0)]
        self.scale = [_at_least(r.std(0), 1e-4), _at_least(theta.std(0), 1e-2)]
        centre = torch.atan2(phi.sin().mean(0), phi.cos().mean(0))
        spread = _at_least(_wrap(phi - centre).std(0), 1e-2)
        half = torch.full_like(centre, math.pi)
        wanted = dict(windows or {})
        for c, (m, i, j, k) in enumerate(self.rows[3:]):
            proper = frozenset((k, j)) in bonded and frozenset((i, j)) in bonded and frozenset((k, i)) not in bonded
            if not proper:
                continue
            if any(_rotor(near, bonds, symbols, *ends) for ends in ((m, i), (k, j))):
                half[c] = math.pi / 3
                turned = 3 * phi[:, c]
                centre[c] = torch.atan2(turned.sin().mean(), turned.cos().mean()) / 3
                spread[c] = half[c] / 3
            low = wanted.pop((m, i, j, k), wanted.pop((k, j, i, m), None))
            if low is not None:
                centre[c], spread[c] = low + math.pi, math.pi / 3
            elif half[c] == math.pi and spread[c] > 0.35:
                spread[c] = math.pi / 3
        if wanted:
            raise InputError(f"windows name {sorted(wanted)}; the chart's dihedrals are {self.rows[3:]}")
        self.mean.append(centre)
        self.scale.append(spread)
        self.half = half

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return 3 * self.atoms - 6

    def encode(self, x: Tensor) -> Tensor:
        """Return q ``(N, size)`` of x ``(N, atoms, 3)``, dihedrals taken into their windows."""
        r, theta, phi = self._measure(x.double())
        d = phi - self.mean[2]
        d = d - 2 * self.half * torch.round(d / (2 * self.half))
        parts = [(r - self.mean[0]) / self.scale[0], (theta - self.mean[1]) / self.scale[1], d / self.scale[2]]
        return torch.cat(parts, 1).to(x.dtype)

    def decode(self, q: Tensor) -> Tensor:
        """Return x ``(N, atoms, 3)`` of q: the second atom placed on the z axis, the third in the x-z plane."""
        r, theta, phi = self._split(q)
        place: dict[int, Tensor] = {self.rows[0][0]: torch.zeros_like(q[:, :3])}
        zero = torch.zeros_like(q[:, 0])
        for c, (m, i, j, k) in enumerate(self.rows[1:]):
            if c == 0:
                place[m] = torch.stack([zero, zero, r[:, 0]], 1)
                continue
            axis = _unit(place[i] - place[j])
            if c == 1:
                across = torch.stack([torch.ones_like(zero), zero, zero], 1)
                turned = across
            else:
                normal = _unit(torch.linalg.cross(place[j] - place[k], axis))
                across = torch.linalg.cross(normal, axis)
                turned = phi[:, c - 2, None].cos() * across + phi[:, c - 2, None].sin() * normal
            step = -theta[:, c - 1, None].cos() * axis + theta[:, c - 1, None].sin() * turned
            place[m] = place[i] + r[:, c, None] * step
        return torch.stack([place[m] for m in range(self.atoms)], 1)

    def log_volume(self, q: Tensor) -> Tensor:
        """Return ``sum 2 ln r + sum ln sin theta`` ``(N,)``, minus infinity where q is no molecule."""
        r, theta, _ = self._split(q)
        value = 2 * r.clamp_min(1e-12).log().sum(1) + theta.sin().clamp_min(1e-12).log().sum(1)
        possible = (r > 0).all(1) & (theta > 0).all(1) & (theta < math.pi).all(1)
        return torch.where(possible, value, torch.full_like(value, -math.inf))

    def wall(self, q: Tensor) -> Tensor:
        """Return the walls at the ends of the windows, in kT ``(N,)``."""
        phi = q[:, 2 * self.atoms - 3 :] * self.scale[2].to(q)
        return 0.5 * self.stiffness * (phi.abs() - self.half.to(q)).clamp_min(0).square().sum(1)

    def _split(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = self.atoms
        parts = q.split([n - 1, n - 2, n - 3], 1)
        r, theta, phi = (m.to(q) + s.to(q) * p for m, s, p in zip(self.mean, self.scale, parts, strict=True))
        return r, theta, phi

    def _measure(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m, i, j, k = (torch.tensor(column) for column in zip(*self.rows, strict=True))
        first = x[:, m[1:]] - x[:, i[1:]]
        r = first.norm(dim=-1)
        arm = x[:, j[2:]] - x[:, i[2:]]
        theta = torch.acos((_unit(first[:, 1:]) * _unit(arm)).sum(-1).clamp(-1, 1))
        axis = _unit(x[:, i[3:]] - x[:, j[3:]])
        normal = _unit(torch.linalg.cross(x[:, j[3:]] - x[:, k[3:]], axis))
        across = torch.linalg.cross(normal, axis)
        phi = torch.atan2((first[:, 2:] * normal).sum(-1), (first[:, 2:] * across).sum(-1))
        return r, theta, phi


class ChartEnergy:
    """The energy of q in a chart: ``U(x(q)) - kT log_volume(q) + kT wall(q)``."""

    def __init__(self, energy: Energy, chart: Chart, kT: float) -> None:  # noqa: N803 - the field's name
        self.energy, self.chart, self.kT = energy, chart, kT
        self.units = energy.units
        self.domain_shape: tuple[int, ...] = (chart.size,)

    @property
    def calls(self) -> int:
        """Energies evaluated so far."""
        return self.energy.calls

    @calls.setter
    def calls(self, value: int) -> None:
        self.energy.calls = value

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U ``(N,)`` and the force ``(N, size)`` at coordinates q, here x; NaN where they are no molecule."""
        with torch.enable_grad():
            q = x.detach().requires_grad_(True)
            x = self.chart.decode(q)
            u, force = self.energy(x.detach())
            volume = self.chart.log_volume(q)
            own = self.kT * (self.chart.wall(q) - volume)
            possible = torch.isfinite(volume)
            pulled = (x * -force).sum() + own[possible].sum()
            (gradient,) = torch.autograd.grad(pulled, q)
        u = torch.where(possible, u + own.detach(), torch.full_like(u, math.nan))
        return u, -gradient


class ChartVariable:
    """A collective variable of x as one of q."""

    def __init__(self, variable: CollectiveVariable, chart: Chart) -> None:
        self.variable, self.chart = variable, chart
        self.period, self.units = variable.period, variable.units

    def forward(self, q: Tensor) -> Tensor:
        """Return ``(N, k)`` of q ``(N, size)``."""
        return self.variable.forward(self.chart.decode(q))


def _size(m: int, barred: int, near: list[list[int]]) -> int:
    """How many atoms hang on m when the way through `barred` is closed."""
    seen, waiting = {barred, m}, [m]
    while waiting:
        for other in near[waiting.pop()]:
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return len(seen) - 1


def _rotor(near: Sequence[int], bonds: Sequence[tuple[int, int]], symbols: Sequence[str], end: int, hub: int) -> bool:
    """Whether `end` is one of three equal terminal atoms at `hub`, as in a methyl group."""
    at_hub = [(set(b) - {hub}).pop() for b in bonds if hub in b]
    fans = [m for m in at_hub if near[m] == 1 and symbols[m] == symbols[end]]
    return end in fans and len(fans) == 3


def _unit(v: Tensor) -> Tensor:
    return v / (v.square().sum(-1, keepdim=True) + 1e-18).sqrt()


def _wrap(angle: Tensor) -> Tensor:
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


def _at_least(value: Tensor, smallest: float) -> Tensor:
    return torch.nan_to_num(value, nan=smallest).clamp_min(smallest)
