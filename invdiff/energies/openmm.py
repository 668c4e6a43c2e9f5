"""OpenMM itself as an energy: every force it knows, one configuration at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.energies.openmm_torch.reading import check_system
from invdiff.errors import InputError, ShapeError, UnknownNameError

__all__ = ["SMALL", "OpenMM", "choose_platform"]

SMALL = 60  # atoms; below, the Reference platform is some 3 times faster than CPU, which waits for its threads


class OpenMM:
    """The energy of an `openmm.System`, evaluated by OpenMM.

    Args:
        system: without constraints or virtual sites.
        platform: OpenMM's name for it; None to choose by size (`choose_platform`).
        threads: of the CPU platform.

    Attributes:
        failed: configurations for which OpenMM gave no finite energy and force so far.

    Raises:
        InputError: the System has constraints or virtual sites. UnknownNameError: no such platform.
        MissingExtraError: openmm is not installed.
    """

    units = "kJ/mol"

    def __init__(self, system: Any, platform: str | None = None, threads: int = 1) -> None:
        self.domain_shape: tuple[int, ...] = (check_system(system), 3)
        self.calls = self.failed = 0
        self.platform = choose_platform(self.domain_shape[0]) if platform is None else platform
        import openmm

        names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
        if self.platform not in names:
            raise UnknownNameError(f"OpenMM has no platform {self.platform!r} here; it has {', '.join(names)}")
        if threads < 1:
            raise InputError(f"threads is {threads}; it expects 1 or more")
        properties = {"Threads": str(threads)} if self.platform == "CPU" else {}
        found = openmm.Platform.getPlatformByName(self.platform)
        self._context = openmm.Context(system, openmm.VerletIntegrator(0.001), found, properties)
        self._failure = openmm.OpenMMException

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U ``(N,)`` in kJ/mol and the force ``(N, atoms, 3)`` at x in nm; NaN where OpenMM fails.

        Raises:
            ShapeError: x has another shape.
        """
        if x.ndim != 3 or tuple(x.shape[1:]) != self.domain_shape:
            raise ShapeError(f"OpenMM got x of shape {tuple(x.shape)}; it expects (N, {self.domain_shape[0]}, 3)")
        self.calls += x.shape[0]
        positions = x.detach().cpu().to(torch.float64).numpy()
        u, force = np.full(len(positions), np.nan), np.full(positions.shape, np.nan)
        for n, configuration in enumerate(positions):
            value, pull = self._one(configuration)
            if np.isfinite(value) and np.isfinite(pull).all():
                u[n], force[n] = value, pull
            else:
                self.failed += 1
        return torch.from_numpy(u).to(x), torch.from_numpy(force).to(x)

    def _one(self, configuration: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            self._context.setPositions(configuration)
            state = self._context.getState(getEnergy=True, getForces=True)
        except self._failure:
            return np.nan, np.full(configuration.shape, np.nan)
        return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def choose_platform(atoms: int) -> str:
    """Return ``Reference`` below 60 atoms, above that the fastest platform that OpenMM has here."""
    import openmm

    platforms = [openmm.Platform.getPlatform(i) for i in range(openmm.Platform.getNumPlatforms())]
    return "Reference" if atoms < SMALL else str(max(platforms, key=lambda p: p.getSpeed()).getName())
