"""Samplers by name: what `invdiff.sample(..., sampler="dds")` and the command line take.

Each function here is an entry point of the group ``invdiff.samplers``: ``(nfe, solver) -> Sampler``, either
argument None for the method's usual choice. The first line of its docstring is what `invdiff info` prints.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import entry_points
from typing import Any

from invdiff.errors import InputError, UnknownNameError
from invdiff.guidance import DDNM, DDS, MMPS, TMPD, DiffPIR, PiGDM
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.operators.ct.tomography import Tomography
from invdiff.samplers.base import Sampler
from invdiff.samplers.corrected import Corrected
from invdiff.samplers.daps import DAPS
from invdiff.samplers.ddnm_plus import DDNMPlus
from invdiff.samplers.ddrm import DDRM
from invdiff.samplers.dps import DPS
from invdiff.samplers.ensemble_kalman import EnKG
from invdiff.samplers.guided import Guided
from invdiff.samplers.pnpdm import PnPDM
from invdiff.samplers.reddiff import REDDiff
from invdiff.samplers.smc import FEW_DATA, SMC
from invdiff.samplers.stsl import STSL
from invdiff.samplers.stsl_full import STSLFull
from invdiff.samplers.svdd import SVDD
from invdiff.samplers.tree import DTS
from invdiff.schedules import ddpm
from invdiff.solvers import DDIM, DPMpp2M, Renoise, Solver, named_solver
from invdiff.solvers.dpmpp import DAMPING

__all__ = [
    "automatic",
    "daps",
    "ddnm",
    "ddnm_plus",
    "ddrm",
    "dds",
    "dds_tight",
    "diffpir",
    "dps",
    "dts",
    "enkg",
    "mcgdiff",
    "mmps",
    "mmps_weighted",
    "pigdm",
    "pnpdm",
    "reddiff",
    "sampler",
    "sampler_names",
    "smc",
    "stsl",
    "stsl_full",
    "svdd",
    "tmpd",
]

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
    steps = nfe or 20
    if steps < 50:
        # 8 % too wide at 20 steps under an exact prior; under the shipped one, which is too sure, the damped solver
        # covers less (0.75 for 0.79) and loses 0.1 to 0.2 dB: see docs/which_sampler.md.
        return Guided(MMPS, solver or DPMpp2M(1.0), steps, name="mmps", exact_for="gaussian", uses_vjp=True)
    # Who pays for many steps wants exactness: on 64 x 64 Gaussian fields at 100 steps the bias is 0.08 of the
    # posterior's deviation with 20 iterations a step from zero, 0.02 with as many from the last step's solution.
    guidance = partial(MMPS, iterations=30, tolerance=1e-3)
    stepper = solver or DPMpp2M(1.0, DAMPING)
    return Guided(guidance, stepper, steps, name="mmps", exact_for="gaussian", uses_vjp=True)


def dds(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Conjugate gradients on the denoised image (Chung et al., 2024): fast, no network gradient."""
    return Guided(DDS, solver or DDIM(0.85), nfe or 50, name="dds", uses_vjp=False)


def dds_tight(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """DDS with each data step solved to the end (50 iterations): for ill-conditioned operators, such as tomographs."""
    guidance = partial(DDS, iterations=50)
    return Guided(guidance, solver or DPMpp2M(1.0), nfe or 20, name="dds-tight", uses_vjp=False)


def diffpir(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Proximal point of the data and fresh noise (Zhu et al., 2023; zeta 1 of the paper's 0.1 to 1): no gradient."""
    grid = partial(ddpm, power=0.5)  # the authors'; on mixtures 10 to 20 % nearer to the posterior than Karras's
    return Guided(DiffPIR, solver or Renoise(1.0), nfe or 100, grid=grid, name="diffpir", uses_vjp=False)


def tmpd(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Row sums of the denoiser's covariance (Boys et al., 2023): two network gradients a step, any linear A."""
    return Guided(TMPD, solver or DDIM(1.0), nfe or 100, grid=ddpm, name="tmpd", uses_vjp=True)


def ddnm(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Null-space projection (Wang et al., 2023): meets the data exactly, noise and all; no network gradient."""
    return Guided(DDNM, solver or DDIM(0.85), nfe or 100, name="ddnm", uses_vjp=False)


def ddnm_plus(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Null-space projection as far as the noise allows (Wang et al., 2023); no network gradient."""
    _no_solver("ddnm-plus", solver)
    return DDNMPlus(nfe=nfe or 100)


def ddrm(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Each singular direction on its own (Kawar et al., 2022); needs the spectrum of A, no network gradient."""
    _no_solver("ddrm", solver)
    return DDRM(nfe=nfe or 20)


def stsl(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Second-order Tweedie by a surrogate loss (Rout et al., 2024), drawn ancestrally; overconfident between modes."""
    _no_solver("stsl", solver)
    return STSL(nfe=nfe or 600)


def stsl_full(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Moment matching with the slope of the covariance; exact for Gaussian priors, nearest of its kind for others."""
    return STSLFull(solver, nfe=nfe or 150)


def smc(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Twisted sequential Monte Carlo (Wu et al., 2023; moment-matched twist): exact in the limit, with log-evidence."""
    if solver is not None:
        raise InputError("smc has a step of its own and takes no solver")
    return SMC(nfe or 100)


def mcgdiff(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Monte Carlo guided diffusion (Cardoso et al., 2023): particles, linear operators, no network gradient."""
    if solver is not None:
        raise InputError("mcgdiff has a step of its own and takes no solver")
    return SMC(nfe or 400, particles=4, twist="mcgdiff")


def mmps_weighted(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Moment matching whose draws carry the importance weight of their path: exact for any prior where few data."""
    if solver is not None:
        raise InputError("mmps-weighted has a step of its own and takes no solver")
    return Corrected(MMPS, nfe or 100, name="mmps-weighted")


def pnpdm(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Split Gibbs (Wu et al., 2024): exact likelihood step and denoising posterior in turn; any differentiable A."""
    return PnPDM(nfe or 1000, solver=solver)


def daps(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Decoupled annealing (Zhang et al., 2024): every noise level starts from a fresh image; any differentiable A."""
    return DAPS(nfe or 1000, solver=solver)


def reddiff(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Denoiser as a penalty (Mardani et al., 2023): one fitted image, whose spread means nothing."""
    _no_solver("reddiff", solver)
    return REDDiff(nfe or 1000)


def svdd(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Best of several children at each step (Li et al., 2024): for black-box operators without a derivative."""
    _no_solver("svdd", solver)
    return SVDD(nfe or 400)


def dts(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Tree search over denoising paths (Jain et al., 2025): for black-box operators without a derivative."""
    _no_solver("dts", solver)
    return DTS(nfe or 200)


def enkg(nfe: int | None = None, solver: Solver | None = None) -> Sampler:
    """Ensemble Kalman guidance (Zheng et al., 2024): for black-box operators without a derivative."""
    _no_solver("enkg", solver)
    return EnKG(nfe or 400)


def _no_solver(name: str, solver: Solver | None) -> None:
    if solver is not None:
        raise InputError(f"{name} has a step of its own and takes no solver")


def sampler_names() -> dict[str, Any]:
    """The entry points of the group, by name."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def automatic(measurement: Measurement, solver: str | Solver | None = None) -> str:
    """The name "auto" stands for, as docs/which_sampler.md derives it from measurements.

    Few data: sequential Monte Carlo, which finds all modes (it has a step of its own, so not where a solver is asked
    for). More data and a linear operator: moment matching; of a tomograph, whose data steps take many iterations, DDS
    with as many. A nonlinear operator, or noise that is not Gaussian: DAPS.
    """
    if not isinstance(measurement.noise, Gaussian):
        return "daps"
    if measurement.count <= FEW_DATA and solver is None:
        return "smc"
    if isinstance(getattr(measurement.operator, "op", measurement.operator), Tomography):
        return "dds-tight"
    return "mmps" if isinstance(measurement.operator, LinearOperator) else "daps"


def sampler(
    name: str | Sampler,
    nfe: int | None = None,
    solver: str | Solver | None = None,
    measurement: Measurement | None = None,
) -> Sampler:
    """Build the sampler of that name; an object is returned as it is. "auto" is `automatic` for the measurement.

    Raises:
        UnknownNameError: no such sampler or solver. InputError: nfe below 1, or options beside a ready object.
    """
    if not isinstance(name, str):
        if nfe is not None or solver is not None:
            raise InputError("nfe and solver go with a sampler's name; set them on the sampler object itself")
        return name
    known = sampler_names()
    if name == "auto":
        name = "mmps" if measurement is None else automatic(measurement, solver)
    if name not in known:
        raise UnknownNameError(f"no sampler {name!r}; known: {', '.join(known)}")
    if nfe is not None and nfe < 1:
        raise InputError(f"nfe = {nfe}; it expects at least 1")
    factory = known[name].load()
    built: Sampler = factory(nfe=nfe, solver=named_solver(solver) if isinstance(solver, str) else solver)
    return built
