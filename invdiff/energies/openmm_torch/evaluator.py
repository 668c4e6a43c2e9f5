"""`TorchSystem`: the energy of an `openmm.System`, evaluated by torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.energies.openmm_torch.bonded import Term
from invdiff.energies.openmm_torch.reading import check_system, read_terms
from invdiff.errors import InputError, ShapeError

__all__ = ["TorchSystem"]

_ARRAYS = 12  # matrices (atoms, atoms) alive at once per configuration, by count
_MEMORY = {"cpu": 3e6, "cuda": 1e9, "mps": 2.5e8}  # bytes for them; on a CPU what its caches hold


class TorchSystem:
    """The energy of an OpenMM System for whole batches: bonds, angles, torsions, CMAP, Lennard-Jones, Coulomb, OBC.

    In float64 it agrees with OpenMM's Reference platform to 1e-4 kJ/mol (measured: below 1e-5 for the dipeptides); in
    float32 U has an error of some 1e-3 kJ/mol, far below kT.

    Args:
        system: an `openmm.System`, without constraints, cutoffs or virtual sites.
        precision: of the arithmetic, whatever x comes in; None for that of x.
        memory: bytes that one chunk of the batch may take; None for a default that depends on the device.

    Raises:
        InputError: a force of the System is not understood (it is named), or it has constraints, cutoffs or virtual
            sites. MissingExtraError: openmm is not installed.
    """

    units = "kJ/mol"

    def __init__(self, system: Any, precision: torch.dtype | None = None, memory: float | None = None) -> None:
        self.domain_shape: tuple[int, ...] = (check_system(system), 3)
        if precision not in (None, torch.float32, torch.float64):
            raise InputError(f"precision is {precision}; it expects torch.float32, torch.float64 or None")
        self.precision, self.memory, self.calls = precision, memory, 0
        self._read = read_terms(system)
        self._terms: dict[tuple[torch.dtype, torch.device], list[Term]] = {}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U ``(N,)`` in kJ/mol and the force ``(N, atoms, 3)`` in kJ/(mol nm) at x ``(N, atoms, 3)`` in nm.

        Raises:
            ShapeError: x has another shape.
        """
        if x.ndim != 3 or tuple(x.shape[1:]) != self.domain_shape:
            raise ShapeError(f"TorchSystem got x of shape {tuple(x.shape)}; it expects (N, {self.domain_shape[0]}, 3)")
        self.calls += x.shape[0]
        dtype = self.precision or x.dtype
        terms = self._on(dtype, x.device)
        u = torch.empty(x.shape[0], dtype=x.dtype, device=x.device)
        force = torch.empty_like(x, memory_format=torch.contiguous_format)
        size = self._chunk(dtype, x.device)
        with torch.no_grad():
            for start in range(0, x.shape[0], size):
                rows = slice(start, start + size)
                part = x[rows].detach().to(dtype).transpose(1, 2).contiguous()
                found = [term(part) for term in terms]
                u[rows] = torch.stack([value for value, _ in found]).sum(0).to(x.dtype)
                force[rows] = torch.stack([pull for _, pull in found]).sum(0).transpose(1, 2).to(x.dtype)
        return u, force

    def parts(self, x: Tensor) -> dict[str, Tensor]:
        """U of x ``(N, atoms, 3)`` by kind of term, each ``(N,)`` in kJ/mol; the calls are not counted."""
        part = x.detach().transpose(1, 2).contiguous()
        return {type(t).__name__: t(part)[0] for t in self._on(x.dtype, x.device)}

    def _on(self, dtype: torch.dtype, device: torch.device) -> list[Term]:
        if (dtype, device) not in self._terms:
            self._terms[dtype, device] = [term.to(dtype).to(device) for term in self._read]
        return self._terms[dtype, device]

    def _chunk(self, dtype: torch.dtype, device: torch.device) -> int:
        memory = _MEMORY.get(device.type, 2.5e8) if self.memory is None else self.memory
        return max(1, int(memory / (_ARRAYS * dtype.itemsize * self.domain_shape[0] ** 2)))
