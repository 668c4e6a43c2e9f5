"""OpenMM's common forces in torch: a whole batch at once, on any device, within rounding of OpenMM in float64.

=================  ================================================================================
`evaluator`        `TorchSystem`: an `openmm.System` as an energy
`reading`          which of a System's forces are understood, and how they are read; the rest refused
`bonded`           bonds, angles, torsions
`nonbonded`        Lennard-Jones and Coulomb, exceptions included
`implicit`         generalised Born solvent (OBC)
=================  ================================================================================

Every term is a function of x ``(N, 3, atoms)``, nm, and returns U ``(N,)``, kJ/mol, and the force ``(N, 3, atoms)``,
written out: derivatives by hand take half the time of automatic ones.
"""

from invdiff.energies.openmm_torch.evaluator import TorchSystem

__all__ = ["TorchSystem"]
