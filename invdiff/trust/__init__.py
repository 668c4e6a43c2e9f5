"""How far a run can be trusted: maps and plain words.

==================  ==================================================================================
`trajectory`        how much the denoised image still changed at the end of each draw: a hallucination map
`predictive`        chi2 of the draws at each datum: where they miss the data
`dimension`         in how many directions the prior lets an image vary
`words`             the warnings in ``Posterior.diagnostics["warnings"]``
==================  ==================================================================================
"""

from __future__ import annotations

from invdiff.trust.dimension import LocalDimension, local_dimension
from invdiff.trust.predictive import attach_predictive_chi2, predictive_chi2
from invdiff.trust.trajectory import TrajectoryVariance
from invdiff.trust.words import DataFit, data_fit, held_out_warning, warnings_of

__all__ = [
    "DataFit",
    "LocalDimension",
    "TrajectoryVariance",
    "attach_predictive_chi2",
    "data_fit",
    "held_out_warning",
    "local_dimension",
    "predictive_chi2",
    "warnings_of",
]
