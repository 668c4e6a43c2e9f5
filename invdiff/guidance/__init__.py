"""Guidance turns a prior and a measurement into a posterior denoiser.

================  ==============================================================================
`dds.DDS`         conjugate gradients on the denoised image (no network gradient)
`diffpir.DiffPIR` proximal point of the data (no network gradient)
`pigdm.PiGDM`     pseudo-inverse guidance: isotropic covariance, one network gradient
`mmps.MMPS`       moment matching: the denoiser's own covariance, a few network gradients
================  ==============================================================================
"""

from __future__ import annotations

from invdiff.guidance.base import Counts, Guidance
from invdiff.guidance.dds import DDS
from invdiff.guidance.diffpir import DiffPIR
from invdiff.guidance.mmps import MMPS
from invdiff.guidance.pigdm import PiGDM

__all__ = ["Counts", "DDS", "DiffPIR", "Guidance", "MMPS", "PiGDM"]
