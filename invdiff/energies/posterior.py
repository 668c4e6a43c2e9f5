"""Bayesian inference of structures: a measurement on an energy is an energy again.

With the prior ``p(x) ~ exp(-U(x)/kT)`` and data ``y = A(x) + noise`` the posterior is ``exp(-U'/kT)`` with

``U'(x) = U(x) - kT log p(y | A(x))``,

so whatever samples an energy (`invdiff.bridges`) samples the posterior, biased or not. A is any operator on the
coordinates: NOE distances, scalar couplings, scattering curves (`invdiff.operators.molecular`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.energies.base import Energy, thermal_energy
from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement

__all__ = ["PosteriorEnergy"]


class PosteriorEnergy:
    """``U'(x) = U(x) - kT log p(y | A(x))``, in the unit of U.

    Args:
        energy: U, the prior.
        measurement: one problem (no batch of problems), its operator on configurations of the energy.
        temperature: in K; None for energies in kT.

    Raises:
        ShapeError: the operator takes other events. InputError: the measurement holds several problems.
    """

    def __init__(self, energy: Energy, measurement: Measurement, temperature: float | None = None) -> None:
        if tuple(measurement.operator.domain_shape) != tuple(energy.domain_shape):
            raise ShapeError(
                f"{measurement.operator!r} takes events {tuple(measurement.operator.domain_shape)}; the energy has"
                f" {tuple(energy.domain_shape)}"
            )
        if measurement.n_problems != 1 or measurement.batched:
            raise InputError("the measurement holds several problems; infer each by itself (Measurement.take)")
        self.prior, self.measurement = energy, measurement
        self.kT = thermal_energy(energy, temperature)
        self.domain_shape, self.units = tuple(energy.domain_shape), energy.units
        self._placed: dict[tuple[torch.dtype, torch.device], Measurement] = {}

    @property
    def calls(self) -> int:
        """Evaluations of the prior's energy; each has one of the operator and its derivative beside it."""
        return self.prior.calls

    @calls.setter
    def calls(self, value: int) -> None:
        self.prior.calls = value

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return ``log p(y | x)``, ``(N,)``, differentiable."""
        return self._measurement(x).log_likelihood(x)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U' ``(N,)`` and ``-grad U'`` ``(N, *event)``; NaN where the prior's energy fails."""
        u, force = self.prior(x)
        with torch.enable_grad():
            z = x.detach().clone().requires_grad_(True)
            value = self.log_likelihood(z)
            (slope,) = torch.autograd.grad(value.sum(), z)
        return u - self.kT * value.detach(), force + self.kT * slope

    def _measurement(self, x: Tensor) -> Measurement:
        key = x.dtype, x.device
        if key not in self._placed:
            self._placed[key] = self.measurement.to(x.device).to(x.dtype)
        return self._placed[key]
