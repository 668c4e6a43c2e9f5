"""What an energy is: ``U(x)`` and the force ``-grad U(x)``, for a batch, with the calls counted.

Units. Molecules: x in nm, U in kJ/mol (``units = "kJ/mol"``). Test systems: lengths without a unit, U in kT
(``units = "kT"``). Collective variables are nonlinear operators (`invdiff.operators.molecular`): ``forward`` maps
``(N, *event)`` to ``(N, k)``, ``period`` holds one number or None per component, ``units`` one word per component.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError

__all__ = ["GAS_CONSTANT", "CollectiveVariable", "Energy", "FromPotential", "thermal_energy"]

GAS_CONSTANT = 0.00831446261815324  # kJ/(mol K), exact since 2019


@runtime_checkable
class Energy(Protocol):
    """A potential energy on a batch of configurations.

    - ``domain_shape``: event shape of x, ``(d,)`` or ``(atoms, 3)``.
    - ``units``: of U, ``"kJ/mol"`` (then x is in nm) or ``"kT"``.
    - ``calls``: configurations evaluated so far, failed ones included.

    ``energy(x)`` of x ``(N, *domain_shape)`` returns U ``(N,)`` and the force ``-grad U`` ``(N, *domain_shape)`` in
    units of U over those of x, of x's dtype and device, detached. Where a configuration cannot be evaluated (no
    convergence), both are NaN in its row and the others are not affected.
    """

    domain_shape: tuple[int, ...]
    units: str
    calls: int

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class CollectiveVariable(Protocol):
    """What a bias is laid along: k functions of x, differentiable by autograd."""

    @property
    def period(self) -> tuple[float | None, ...]:
        """Of each component; None where it is not periodic."""

    @property
    def units(self) -> tuple[str, ...]:
        """Of each component."""

    def forward(self, x: Tensor) -> Tensor: ...


class FromPotential:
    """An energy from any torch function ``U(x): (N, *domain_shape) -> (N,)``; its force by autograd.

    Args:
        potential: the function, differentiable.
        domain_shape: event shape of x.
        units: of U, ``"kJ/mol"`` or ``"kT"``.

    Raises:
        InputError: units is neither.
    """

    def __init__(self, potential: Callable[[Tensor], Tensor], domain_shape: tuple[int, ...], units: str = "kT") -> None:
        if units not in ("kT", "kJ/mol"):
            raise InputError(f"units is {units!r}; an energy is in 'kT' or 'kJ/mol'")
        self.potential, self.domain_shape, self.units, self.calls = potential, tuple(domain_shape), units, 0

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U ``(N,)`` and ``-grad U``. Raises ShapeError where x is not ``(N, *domain_shape)``."""
        if tuple(x.shape[1:]) != self.domain_shape:
            raise ShapeError(f"energy got x of shape {tuple(x.shape)}; it expects (N, {self.domain_shape})")
        self.calls += x.shape[0]
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            u = self.potential(x)
            (gradient,) = torch.autograd.grad(u.sum(), x)
        return u.detach(), -gradient


def thermal_energy(energy: Energy, temperature: float | None) -> float:
    """kT in the energy's unit: R T for kJ/mol, 1 for energies that are given in kT.

    Args:
        energy: says its units.
        temperature: in K; None for energies in kT, which have none.

    Raises:
        InputError: a temperature is missing, not above 0, or given where U is in kT.
    """
    if energy.units == "kT":
        if temperature is not None:
            raise InputError(f"temperature is {temperature} K, but this energy is in kT, which holds it; leave it out")
        return 1.0
    if temperature is None or not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"temperature is {temperature}; an energy in {energy.units} needs one above 0, in K")
    return GAS_CONSTANT * temperature
