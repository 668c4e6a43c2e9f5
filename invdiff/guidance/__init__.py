"""Guidance turns a prior and a measurement into a posterior denoiser.

============================  =============================================================================
`dds.DDS`                     conjugate gradients on the denoised image (no network gradient)
`diffpir.DiffPIR`             proximal point of the data (no network gradient)
`ddnm.DDNM`                   what the data determine replaced by them, noise and all (no network gradient)
`pigdm.PiGDM`                 pseudo-inverse guidance: isotropic covariance, one network gradient
`tmpd.TMPD`                   row sums of the denoiser's covariance, two network gradients
`mmps.MMPS`                   moment matching: the denoiser's own covariance, a few network gradients
`second_order.SecondOrder`    moment matching with the covariance's slope (the sampler `stsl-full`)
`weighted_h.WeightedH`        mixing with a coarse reference; the forward operator is not used
`steered.Steered`             any differentiable penalty, alone or on top of another guidance
`deft.DEFT`                   a small trained network (`deft_fit.fit_deft`) corrects the denoised image
============================  =============================================================================
"""

from __future__ import annotations

from invdiff.guidance.base import Counts, Guidance
from invdiff.guidance.ddnm import DDNM
from invdiff.guidance.dds import DDS
from invdiff.guidance.deft import DEFT
from invdiff.guidance.diffpir import DiffPIR
from invdiff.guidance.mmps import MMPS
from invdiff.guidance.pigdm import PiGDM
from invdiff.guidance.second_order import SecondOrder
from invdiff.guidance.steered import Steered
from invdiff.guidance.tmpd import TMPD
from invdiff.guidance.weighted_h import WeightedH

__all__ = [
    "Counts",
    "DDNM",
    "DDS",
    "DEFT",
    "DiffPIR",
    "Guidance",
    "MMPS",
    "PiGDM",
    "SecondOrder",
    "Steered",
    "TMPD",
    "WeightedH",
]
