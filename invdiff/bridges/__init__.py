"""Samplers of a given energy: controlled diffusions whose end point is ``exp(-U/kT)``, biased along a few variables.

==============================  =====================================================================
`sde`                           noise schedules, the base bridge, simulation of the controlled SDE
`source`                        where the diffusion starts
`target`                        the energy, its bias and its restraints, in kT: what is sampled
`buffer`                        the latest samples with their forces
`adjoint`                       adjoint matching, bridge matching; Adjoint Sampling
`asbs`                          Adjoint Schrödinger Bridge Sampler: adjoint and corrector matching in turn
`wt_asbs`                       with a well-tempered bias; from an energy to a Posterior in one call
`bias`                          the bias: a smooth function on a grid in collective-variable space
`restraints`                    walls, bonds that stay, chirality
`internal_coordinates`          molecules as bond lengths, angles and torsions
`refine`                        Langevin dynamics from the samples, in the frozen bias
`control`                       the size of a control over time
`inference`                     Bayesian inference of structures from measurements
`checkpoint`                    keep a run and go on from it to the bit
==============================  =====================================================================
"""
