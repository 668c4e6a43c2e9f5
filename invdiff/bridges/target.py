"""What a bridge sampler samples: ``exp(-U/kT - W)``, with W the restraints, and the collective variables of its bias.

Everything is in kT here. Forces of the bias are not part of an evaluation: they are added when a sample is used, with
the bias of that moment, from the stored collective variables and their derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.bridges.bias import Bias
from invdiff.bridges.restraints import FlatBottom
from invdiff.bridges.sde import centred
from invdiff.energies.base import CollectiveVariable, Energy

__all__ = ["Evaluated", "Target"]


@dataclass
class Evaluated:
    """N configurations x, ``u = U/kT + W``, its gradient, s ``(N, k)`` and the jacobian ds/dx ``(N, k, *event)``."""

    x: Tensor
    u: Tensor
    gradient: Tensor
    s: Tensor
    jacobian: Tensor

    def biased(self, bias: Bias | None) -> tuple[Tensor, Tensor]:
        """Return U/kT + W + V(s) and its gradient, with the bias as it is now."""
        if bias is None:
            return self.u, self.gradient
        v, slope = bias(self.s)
        return self.u + v, self.gradient + torch.einsum("nk,nk...->n...", slope, self.jacobian)

    def rows(self, index: Tensor) -> Evaluated:
        """Return the rows of an index or a boolean mask."""
        return Evaluated(*(getattr(self, name)[index] for name in ("x", "u", "gradient", "s", "jacobian")))


class Target:
    """The density to sample.

    Args:
        energy: U, in the unit that `kT` is in.
        kT: thermal energy (`invdiff.energies.base.thermal_energy`).
        variable: collective variables; None for none.
        restraints: W, in kT.
        mean_free: for energies of particles without an external field: gradients lose their mean over particles.
        precision: in which the energy is evaluated.
        zero: energy that counts as 0, in the energy's unit; total energies of quantum chemistry would not leave float32
            the digits that matter.
        counted_by: the same density in other coordinates, whose `failed` counts these failures, too.
    """

    def __init__(
        self,
        energy: Energy,
        kT: float = 1.0,  # noqa: N803 - the field's name
        variable: CollectiveVariable | None = None,
        restraints: Sequence[FlatBottom] = (),
        mean_free: bool = False,
        precision: torch.dtype = torch.float64,
        zero: float = 0.0,
        counted_by: Target | None = None,
    ) -> None:
        self.energy, self.kT, self.variable = energy, float(kT), variable
        self.restraints, self.mean_free, self.precision = tuple(restraints), mean_free, precision
        self.zero, self.failed, self.counted_by = float(zero), 0, counted_by

    @property
    def shape(self) -> tuple[int, ...]:
        """Event shape of x."""
        return tuple(self.energy.domain_shape)

    @property
    def calls(self) -> int:
        """Energies evaluated so far."""
        return self.energy.calls

    def variables(self, x: Tensor) -> Tensor:
        """Collective variables ``(N, k)`` of x; ``(N, 0)`` where there are none."""
        if self.variable is None:
            return x.new_zeros(x.shape[0], 0)
        with torch.no_grad():
            return self.variable.forward(x)

    def evaluate(self, x: Tensor) -> Evaluated:
        """Evaluate x ``(N, *event)``; where the energy fails, u and gradient are NaN and `failed` counts it."""
        y = x.detach().to(self.precision)
        u, force = self.energy(y)
        u, gradient = (u - self.zero) / self.kT, -force / self.kT
        if self.restraints:
            with torch.enable_grad():
                z = y.clone().requires_grad_(True)
                w = sum((r.potential(z) for r in self.restraints), z.new_zeros(z.shape[0]))
                (slope,) = torch.autograd.grad(w.sum(), z)
            u, gradient = u + w.detach(), gradient + slope
        s, jacobian = self._derivatives(y)
        if self.mean_free:
            gradient = centred(gradient)
        bad = ~(torch.isfinite(u) & torch.isfinite(gradient).flatten(1).all(1))
        self.failed += (failed := int(bad.sum()))
        if self.counted_by is not None:
            self.counted_by.failed += failed
        return Evaluated(*(value.to(x.dtype) for value in (y, u, gradient, s, jacobian)))

    def _derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.variable is None:
            return x.new_zeros(x.shape[0], 0), x.new_zeros(x.shape[0], 0, *x.shape[1:])
        with torch.enable_grad():
            z = x.detach().clone().requires_grad_(True)
            s = self.variable.forward(z)
            rows = [torch.autograd.grad(s[:, k].sum(), z, retain_graph=True)[0] for k in range(s.shape[1])]
        return s.detach(), torch.stack(rows, 1)
