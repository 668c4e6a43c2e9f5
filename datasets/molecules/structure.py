"""A molecule in memory: positions in nm, elements, bonds, and its force field where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError, missing_extra

__all__ = ["Structure", "make_topology"]


@dataclass
class Structure:
    """One molecule, or several configurations of it.

    Args:
        positions: ``(frames, atoms, 3)`` in nm, float64.
        symbols: element of every atom.
        topology: `openmm.app.Topology` (names, residues, bonds), where known.
        system: `openmm.System` (the force field), where known.
        charge: total charge in e, multiplicity: 2 S + 1, for quantum chemistry.
    """

    positions: Tensor
    symbols: tuple[str, ...]
    topology: Any = None
    system: Any = None
    charge: int = 0
    multiplicity: int = 1
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.positions.ndim != 3 or self.positions.shape[1:] != (len(self.symbols), 3):
            raise ShapeError(
                f"positions have shape {tuple(self.positions.shape)}; {len(self.symbols)} atoms expect"
                f" (frames, {len(self.symbols)}, 3)"
            )
        if not bool(torch.isfinite(self.positions).all()):
            raise InputError("positions hold NaN or infinity; a structure needs finite numbers in nm")
        if self.system is not None and self.system.getNumParticles() != len(self.symbols):
            raise ShapeError(f"the System has {self.system.getNumParticles()} particles, the file {len(self.symbols)}")

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return len(self.symbols)

    @property
    def bonds(self) -> list[tuple[int, int]]:
        """Pairs of bonded atoms, by index from 0; empty where no topology is known."""
        if self.topology is None:
            return []
        return [(b.atom1.index, b.atom2.index) for b in self.topology.bonds()]

    @property
    def names(self) -> tuple[str, ...]:
        """Atom names; the elements where no topology is known."""
        return self.symbols if self.topology is None else tuple(a.name for a in self.topology.atoms())

    def masses(self) -> Tensor:
        """Masses in g/mol, ``(atoms,)``. Raises MissingExtraError without openmm."""
        if self.system is not None:
            import openmm.unit as unit

            values = [self.system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(self.atoms)]
        else:
            elements = _elements("masses")
            values = [elements.get_by_symbol(s).mass._value for s in self.symbols]
        return torch.tensor(values, dtype=torch.float64)


def make_topology(
    symbols: Sequence[str],
    names: Sequence[str] | None = None,
    residues: Sequence[str] | None = None,
    bonds: Sequence[tuple[int, int]] = (),
) -> Any:
    """Return an `openmm.app.Topology` of one chain; a new residue begins where the residue's name changes.

    Raises:
        MissingExtraError: openmm is not installed.
    """
    elements = _elements("a topology")
    from openmm.app import Topology

    names = names or [f"{s}{i + 1}" for i, s in enumerate(symbols)]
    residues = residues or ["MOL"] * len(symbols)
    topology = Topology()
    chain, residue, atoms = topology.addChain(), None, []
    for symbol, name, owner in zip(symbols, names, residues, strict=True):
        if residue is None or residue.name != owner:
            residue = topology.addResidue(owner, chain)
        atoms.append(topology.addAtom(name, elements.get_by_symbol(symbol), residue))
    for i, j in bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology


def _elements(purpose: str) -> Any:
    try:
        from openmm.app import element
    except ImportError as error:
        raise missing_extra("openmm", "molecules", purpose) from error
    return element
