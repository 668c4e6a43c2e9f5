"""Samplers by name: what `invdiff.sample(..., sampler="dds")` and the command line take.

Each function here is an entry point of the group ``invdiff.samplers``: ``(nfe, solver) -> Sampler``, either
argument None for the method's usual choice. The first line of its docstring is what `invdiff info` prints.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from invdiff.errors import InputError, UnknownNameError
from invdiff.guidance import DDS, MMPS, DiffPIR, PiGDM
from invdiff.samplers.base import Sampler
from invdiff.samplers.dps import DPS
from invdiff.samplers.guided import Guided
from invdiff.solvers import DDIM, DPMpp2M, Renoise, Solver, named_solver

__all__ = ["dds", "diffpir", "dps", "mmps", "pigdm", "sampler", "sampler_names"]

GROUP = "invdiff.samplers"


def dps(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Gradient of the misfit through the network, as published (Chung et al., 2023); ignores the noise level."""
    if solver is not None:
        raise InputError("dps has a step of its own and takes no solver")
    return DPS(nfe=nfe or 1000)


def pigdm(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Pseudo-inverse guidance (Song et al., 2023): isotropic posterior covariance, one network gradient a step."""
    return Guided(PiGDM, solver or DDIM(1.0), nfe or 100, name="pigdm", uses_vjp=True)


def mmps(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Moment matching (Rozet et al., 2024): the denoiser's own covariance; exact for Gaussian priors."""
    return Guided(MMPS, solver or DPMpp2M(1.0), nfe or 20, name="mmps", exact_for="gaussian", uses_vjp=True)


def dds(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Conjugate gradients on the denoised image (Chung et al., 2024): fast, no network gradient."""
    return Guided(DDS, solver or DDIM(0.85), nfe or 50, name="dds", uses_vjp=False)


def diffpir(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Proximal point of the data and partly fresh noise (Zhu et al., 2023); no network gradient."""
    return Guided(DiffPIR, solver or Renoise(0.3), nfe or 100, name="diffpir", uses_vjp=False)


def sampler_names() -> dict[str, Any]:
    """The entry points of the group, by name."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def sampler(name: str | Sampler, nfe: int | None = None, solver: str | Solver | None = None) -> Sampler:
    """Build the sampler of that name; an object is returned as it is.

    Raises:
        UnknownNameError: no such sampler or solver. InputError: nfe below 1, or options beside a ready object.
    """
    if not isinstance(name, str):
        if nfe is not None or solver is not None:
            raise InputError("nfe and solver go with a sampler's name; set them on the sampler object itself")
        return name
    known = sampler_names()
    if name == "auto":
        name = "mmps"  # exact where the denoiser is, and measured best with the shipped prior
    if name not in known:
        raise UnknownNameError(f"no sampler {name!r}; known: {', '.join(known)}")
    if nfe is not None and nfe < 1:
        raise InputError(f"nfe = {nfe}; it expects at least 1")
    factory = known[name].load()
    built: Sampler = factory(nfe=nfe, solver=named_solver(solver) if isinstance(solver, str) else solver)
    return built
