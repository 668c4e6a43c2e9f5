"""What a configuration samples, built: energy, thermal energy, collective variables, walls, a place to start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invdiff.bridges.target import Target
from invdiff.energies.analytic import DoubleWell, LennardJones, MullerBrown
from invdiff.energies.base import Energy, thermal_energy
from invdiff.energies.posterior import PosteriorEnergy
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.metrics.free_energy import quadrature
from invdiff.molecules.config import MoleculeConfig, SystemConfig
from invdiff.molecules.states import folded
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

    def plane(self) -> tuple[Callable[[Tensor], Tensor], Sequence[tuple[float, float]]] | None:
        """``U/kT + W`` and limits that hold practically all of its density, where quadrature can be done: else None."""
        limits = getattr(self.target.energy, "limits", None)
        if limits is None or self.config.system.measurement:
            return None
        energy, walls = self.target.energy, self.target.restraints

        def potential(x: Tensor) -> Tensor:
            return energy.potential(x) + sum(r.potential(x) for r in walls)  # type: ignore[attr-defined]

        return potential, _wide_enough(potential, limits)

    def exact(self) -> float | None:
        """``F(B) - F(A)`` in kT where it is known: by quadrature in the plane, or by symmetry."""
        plane, (a, b) = self.plane(), (self.config.states.a, self.config.states.b)
        if plane is None:
            return 0.0 if self.config.symmetric else None
        assert self.target.variable is not None
        return quadrature(*plane, a, b, variable=self.target.variable.forward)


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
    assert target.variable is not None
    config = config.model_copy(update={"states": folded(config.states, target.variable.period)})
    return Case(config, target, x, structure, masses)


def _analytic(system: SystemConfig) -> Energy:
    kinds = {
        "double_well": DoubleWell,
        "muller_brown": MullerBrown,
        "lennard_jones": LennardJones,
    }
    try:
        return kinds[system.kind](**system.options)
    except (TypeError, ValueError) as error:
        raise InputError(f"system.options: {error}") from error


def _wide_enough(
    potential: Callable[[Tensor], Tensor], limits: Sequence[tuple[float, float]]
) -> Sequence[tuple[float, float]]:
    """Limits moved outwards until the potential is 25 kT above its least there."""
    for _ in range(20):
        axes = [torch.linspace(low, high, 101, dtype=torch.float64) for low, high in limits]
        u = potential(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)))
        u = u.reshape([len(axis) for axis in axes])
        ends = [torch.cat([u.select(d, 0).flatten(), u.select(d, -1).flatten()]).min() for d in range(len(axes))]
        low_ones = [float(end - u.min()) < 25 for end in ends]
        if not any(low_ones):
            break
        limits = [
            (low - 0.2 * (high - low), high + 0.2 * (high - low)) if near else (low, high)
            for (low, high), near in zip(limits, low_ones, strict=True)
        ]
    return limits


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
