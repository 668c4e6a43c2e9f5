"""Computed tomography: projectors with exact adjoints, filtered backprojection, calibration and units.

====================  ==================================================================================
``ParallelCT``        parallel beams, 2D and 3D
``FanCT``             fan beam, flat or curved detector
``ConeCT``            cone beam on a circle or a helix
``helix``             angles and heights of a helical scan
``fbp``               filtered backprojection (parallel, fan) and FDK (cone), differentiable
``rotation_centre``   where the axis of rotation falls on the detector, from the data
``detector_tilt``     how the detector is turned in its plane, from the data
``to_hu, from_hu``    Hounsfield units and 1/mm
====================  ==================================================================================

Counting noise is `invdiff.noise.Transmission`.
"""

from invdiff.operators.ct.beams import ConeCT, FanCT, ParallelCT, helix
from invdiff.operators.ct.calibration import detector_tilt, rotation_centre
from invdiff.operators.ct.reconstruction import fbp
from invdiff.operators.ct.units import from_hu, to_hu

__all__ = ["ConeCT", "FanCT", "ParallelCT", "detector_tilt", "fbp", "from_hu", "helix", "rotation_centre", "to_hu"]
