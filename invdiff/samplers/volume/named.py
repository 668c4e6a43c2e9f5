"""Volume samplers by name: entry points of the group ``invdiff.samplers``, as `invdiff.samplers.named`'s are."""

from __future__ import annotations

from collections.abc import Callable

from invdiff.errors import InputError
from invdiff.guidance import DDS
from invdiff.guidance.base import Guidance
from invdiff.measurement import Measurement
from invdiff.operators.ct.tomography import Tomography
from invdiff.priors.base import Prior
from invdiff.priors.blended import Blended
from invdiff.priors.slices import SlicePrior
from invdiff.samplers.base import Sampler
from invdiff.samplers.guided import Guided
from invdiff.samplers.volume.coherent import Coherent
from invdiff.samplers.volume.dds3d import DDS3D
from invdiff.samplers.volume.mbir import MBIR
from invdiff.samplers.volume.tpdm import TPDM
from invdiff.solvers import DPMpp2M, Solver

__all__ = ["NAMES", "blend", "dds3d", "dds_shared", "dds_slerp", "mbir", "slicewise", "tpdm"]

NAMES = ("mbir", "dds3d", "tpdm", "blend", "slicewise", "dds-shared", "dds-slerp")


def mbir(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume, as DiffusionMBIR was published (Chung et al., 2023): ADMM between slices on the noisy volume; slow."""
    if solver is not None:
        raise InputError("mbir has a step of its own and takes no solver")
    return MBIR(nfe or 4000)


def dds3d(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by DDS with total variation between slices (Chung et al., 2024): fast, no network gradient."""
    return _guided(lambda p, m: DDS3D(p, m, iterations=_iterations(m)), nfe, solver, "dds3d")


def tpdm(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by two perpendicular priors in turn (Lee et al., 2023), with the data step of DDS."""
    return _guided(lambda p, m: TPDM(p, m, iterations=_iterations(m)), nfe, solver, "tpdm")


def blend(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by three slices denoised together (after DiffusionBlend, Song et al., 2024), with the data step of DDS."""
    return _guided(lambda p, m: _dds(Blended(p) if isinstance(p, SlicePrior) else p, m), nfe, solver, "blend")


def slicewise(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume slice by slice by DDS: nothing but the data joins the slices; the comparison for all others."""
    return _guided(_dds, nfe, solver, "slicewise")


def dds_shared(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by DDS with the same noise in every slice (Kwon and Ye, 2024): smooth; its spread means little."""
    return Coherent(_guided(_dds, nfe, solver, "dds"), "shared")


def dds_slerp(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Volume by DDS with noise on a path between two anchors (Du et al., 2026): smooth; its spread means little."""
    return Coherent(_guided(_dds, nfe, solver, "dds"), "slerp")


def _guided(
    guidance: Callable[[Prior, Measurement], Guidance], nfe: int | None, solver: Solver | None, name: str
) -> Guided:
    # The papers have DDIM with eta 0.85 and 50 steps. On 16 slices of a head CT with 30 views and 2 draws the second-
    # order solver at 20 evaluations did better (docs/volumes.md).
    return Guided(guidance, solver or DPMpp2M(1.0), nfe or 20, name=name, uses_vjp=False)


def _dds(prior: Prior, measurement: Measurement) -> Guidance:
    return DDS(prior, measurement, iterations=_iterations(measurement))


def _iterations(measurement: Measurement) -> int:
    """Conjugate gradients of a data step: the papers' 5 leave a tomograph far from its end, as ``dds-tight`` says."""
    return 50 if isinstance(getattr(measurement.operator, "op", measurement.operator), Tomography) else 10
