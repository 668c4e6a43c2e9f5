"""Molecules in and out of files; positions are in nm, energies in kJ/mol, angles in rad, whatever the file's units.

=================  ===========================================================================
`structure`        `Structure`: positions, elements, bonds, force field
`internal`         positions from bond lengths, angles and dihedrals
`reading`          `read_structure`: PDB, mmCIF, Amber, GROMACS, OpenMM XML, XYZ
`xyz`              XYZ files both ways
`trajectory`       samples as PDB with XTC or DCD, and NPZ with log-weights
`grid`             a bias or a free energy on a grid
`plumed`           PLUMED's HILLS, COLVAR and fes.dat, both ways
`openmm_bias`      bias files of OpenMM's metadynamics, both ways
=================  ===========================================================================
"""

from invdiff.datasets.molecules.reading import read_structure
from invdiff.datasets.molecules.structure import Structure

__all__ = ["Structure", "read_structure"]
