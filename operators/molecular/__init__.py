"""Collective variables and observables of molecules: nonlinear operators on coordinates ``(N, atoms, 3)`` in nm.

====================  ==============================================================
``Distance``          between pairs of atoms
``Angle``             of three atoms
``Torsion``           of four atoms, periodic; also the sign of a chirality
``Coordination``      a smooth count of bonds
``RMSD``              deviation from a reference after the best fit
``RadiusOfGyration``  size
``Combination``       linear combination of others
``Path``              progress along a path of configurations, distance from it
``TICA``              slow directions, found in a trajectory
``Learned``           a TorchScript network
``Together``          several as one
``NOE``               effective proton distances
``Karplus``           scalar couplings
``SAXS``              small-angle scattering (Debye)
====================  ==============================================================

`building` makes them from the words of a configuration file.
"""

from invdiff.operators.molecular.base import CollectiveVariable
from invdiff.operators.molecular.combination import Combination, Path, Together
from invdiff.operators.molecular.coordination import Coordination
from invdiff.operators.molecular.geometry import Angle, Distance, Torsion
from invdiff.operators.molecular.learned import TICA, Learned
from invdiff.operators.molecular.observables import NOE, SAXS, Karplus
from invdiff.operators.molecular.shape import RMSD, RadiusOfGyration

__all__ = [
    "NOE",
    "RMSD",
    "SAXS",
    "TICA",
    "Angle",
    "CollectiveVariable",
    "Combination",
    "Coordination",
    "Distance",
    "Karplus",
    "Learned",
    "Path",
    "RadiusOfGyration",
    "Together",
    "Torsion",
]
