"""Volume samplers by name: entry points of the group ``invdiff.samplers``, as `invdiff.samplers.named`'s are."""

from __future__ import annotations

from invdiff.errors import InputError
from invdiff.guidance import DDS
from invdiff.guidance.base import Guidance
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.priors.blended import Blended
from invdiff.priors.slices import SlicePrior
from invdiff.samplers.base import Sampler
from invdiff.samplers.guided import Guided
from invdiff.samplers.volume.coherent import Coherent
from invdiff.samplers.volume.dds3d import DDS3D
from invdiff.samplers.volume.mbir import MBIR
from invdiff.samplers.volume.tpdm import TPDM
from invdiff.solvers import DDIM, Solver

__all__ = ["NAMES", "blend", "dds3d", "dds_shared", "dds_slerp", "mbir", "slicewise", "tpdm"]

NAMES = ("mbir", "dds3d", "tpdm", "blend", "slicewise", "dds-shared", "dds-slerp")


def mbir(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume, as DiffusionMBIR was published (Chung et al., 2023): ADMM between slices on the noisy volume; slow."""
    if solver is not None:
        raise InputError("mbir has a step of its own and takes no solver")
    return MBIR(nfe or 4000)


def dds3d(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by DDS with total variation between slices (Chung et al., 2024): fast, no network gradient."""
    return Guided(DDS3D, solver or DDIM(0.85), nfe or 50, name="dds3d", uses_vjp=False)


def tpdm(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by two perpendicular priors in turn (Lee et al., 2023), with the data step of DDS."""
    return Guided(TPDM, solver or DDIM(0.85), nfe or 50, name="tpdm", uses_vjp=False)


def blend(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by three slices denoised together (after DiffusionBlend, Song et al., 2024), with the data step of DDS."""
    return Guided(_blended, solver or DDIM(0.85), nfe or 50, name="blend", uses_vjp=False)


def slicewise(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume slice by slice by DDS: nothing but the data joins the slices; the comparison for all others."""
    return Guided(DDS, solver or DDIM(0.85), nfe or 50, name="slicewise", uses_vjp=False)


def dds_shared(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by DDS with the same noise in every slice (Kwon and Ye, 2024): smooth; its spread means little."""
    return Coherent(Guided(DDS, solver or DDIM(0.85), nfe or 50, name="dds", uses_vjp=False), "shared")


def dds_slerp(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by DDS with noise on a path between two anchors (Du et al., 2026): smooth; its spread means little."""
    return Coherent(Guided(DDS, solver or DDIM(0.85), nfe or 50, name="dds", uses_vjp=False), "slerp")


def _blended(prior: Prior, measurement: Measurement) -> Guidance:
    return DDS(Blended(prior) if isinstance(prior, SlicePrior) else prior, measurement)
