"""Molecules in and out of files; positions are in nm, energies in kJ/mol, angles in rad, whatever the file's units.

=================  ===========================================================================
`structure`        `Structure`: positions, elements, bonds, force field
`internal`         positions from bond lengths, angles and dihedrals
=================  ===========================================================================
"""

from invdiff.datasets.molecules.structure import Structure

__all__ = ["Structure"]
