"""Potential energies with forces: analytic test systems, and adapters to force fields and quantum chemistry.

================================  ======================================================================
`base.Energy`                     the contract: ``energy(x) -> (U, force)``, batched, calls counted
`base.FromPotential`              an energy from any torch function
`analytic.DoubleWell`             two wells in the plane, barrier about 10 kT, weights 95 : 5
`analytic.MullerBrown`            the three-well surface of Müller and Brown
`analytic.PairwiseDoubleWell`     DW-4: four particles in the plane, pairwise double wells
`analytic.LennardJones`           LJ-n: n particles in a soft harmonic trap
`openmm_torch.TorchSystem`        an OpenMM System in batched torch
`openmm.OpenMM`                   OpenMM itself
`xtb.XTB`                         extended tight binding (tblite)
`ase.ASE`                         any ASE calculator
`molecules`                       molecules that ship with the package; force fields
`building`                        structures and energies from the words of a configuration
`posterior.PosteriorEnergy`       an energy and a measurement: Bayesian structure inference
`metadynamics`                    well-tempered metadynamics by OpenMM, the reference
================================  ======================================================================
"""
