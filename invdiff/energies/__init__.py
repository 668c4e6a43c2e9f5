"""Potential energies with forces: analytic test systems, and adapters to force fields and quantum chemistry.

================================  ======================================================================
`base.Energy`                     the contract: ``energy(x) -> (U, force)``, batched, calls counted
`base.reduced`                    the same in units of kT, for the bridge samplers
`analytic.DoubleWell`             two wells in the plane, barrier about 10 kT, weights 95 : 5
`analytic.MullerBrown`            the three-well surface of Müller and Brown
`analytic.PairwiseDoubleWell`     DW-4: four particles in the plane, pairwise double wells
`analytic.LennardJones`           LJ-n: n particles in a soft harmonic trap
================================  ======================================================================
"""
