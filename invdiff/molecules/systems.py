"""What a configuration samples, built: energy, thermal energy, collective variables, walls, a place to start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invdiff.bridges.target import Target
from invdiff.energies.analytic import DoubleWell, LennardJones, MullerBrown, PairwiseDoubleWell
from invdiff.energies.base import Energy, thermal_energy
from invdiff.energies.posterior import PosteriorEnergy
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.metrics.free_energy import quadrature
from invdiff.molecules.config import MoleculeConfig, SystemConfig
from invdiff.molecules.variables import restraint, variables

__all__ = ["Case", "build"]


@dataclass(frozen=True)
class Case:
    """A target, one configuration of it ``(*event)``, and of molecules their structure and masses in Da."""

    config: MoleculeConfig
    target: Target
    x: Tensor
    structure: Any = None
    masses: Tensor | None = None

    def heavy(self, hydrogen: float) -> Tensor | None:
        """Masses with those of hydrogen replaced by `hydrogen` Da; None where there are none."""
        if self.masses is None:
            return None
        light = torch.tensor([symbol == "H" for symbol in self.structure.symbols])
        return torch.where(light, torch.full_like(self.masses, hydrogen), self.masses)

    def exact(self) -> float | None:
        """``F(B) - F(A)`` in kT where it is known: by quadrature in the plane, or by symmetry."""
        limits = getattr(self.target.energy, "limits", None)
        a, b = self.config.states.a, self.config.states.b
        if limits is not None:
            potential, variable = self.target.energy.potential, self.target.variable  # type: ignore[attr-defined]
            assert variable is not None
            return quadrature(potential, limits, a, b, variable=variable.forward)
        return 0.0 if self.config.symmetric else None


def build(config: MoleculeConfig) -> Case:
    """Build the case of a configuration.

    Raises:
        InputError: parts of the configuration do not fit one another. MissingExtraError: a library is missing.
    """
    if config.system.kind == "molecule":
        structure, energy = _molecule(config.system)
        x, masses = structure.positions[0].float(), structure.masses().float()
    else:
        structure, energy, masses = None, _analytic(config.system), None
        x = _start(config, energy)
    if config.system.measurement is not None:
        energy = PosteriorEnergy(energy, Measurement.load(config.system.measurement), config.temperature)
    shape = tuple(energy.domain_shape)
    zero = float(energy(x[None].double())[0]) if masses is not None else 0.0
    target = Target(
        energy,
        thermal_energy(energy, config.temperature),
        variables(config.variables, shape),
        [restraint(entry, shape) for entry in config.restraints],
        mean_free=len(shape) == 2,
        precision=torch.float32 if config.system.backend == "torch" else torch.float64,
        zero=zero,
    )
    return Case(config, target, x, structure, masses)


def _analytic(system: SystemConfig) -> Energy:
    kinds = {
        "double_well": DoubleWell,
        "muller_brown": MullerBrown,
        "pairwise_double_well": PairwiseDoubleWell,
        "lennard_jones": LennardJones,
    }
    try:
        return kinds[system.kind](**system.options)
    except TypeError as error:
        raise InputError(f"system.options: {error}") from error


def _start(config: MoleculeConfig, energy: Energy) -> Tensor:
    shape = tuple(energy.domain_shape)
    if config.start.x is None:
        raise InputError("start.x is missing; an analytic energy needs a configuration to start from")
    x = torch.tensor(config.start.x, dtype=torch.float32)
    if x.numel() != torch.Size(shape).numel():
        raise InputError(f"start.x has {x.numel()} numbers; configurations have shape {shape}")
    return x.reshape(shape)


def _molecule(system: SystemConfig) -> tuple[Any, Energy]:
    from invdiff.energies.building import build_energy, build_structure

    structure = build_structure(
        system.name, system.file, system.positions, system.force_fields, system.solvent, system.options
    )
    return structure, build_energy(structure, system.backend, **system.backend_options)
