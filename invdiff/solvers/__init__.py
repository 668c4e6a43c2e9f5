"""Solvers integrate from sigma_max to 0, given any denoiser.

==============================  =====================================================================================
`ddim.DDIM`                     Euler (eta = 0), DDIM(eta), ancestral (eta = 1)
`heun.Heun`                     second order, two evaluations a step
`dpmpp.DPMpp2M`, `DPMpp3M`      multistep on the denoised image, as ODE or SDE
`deis.DEIS`                     Adams-Bashforth on the noise, exact weights
`pndm.PNDM`                     pseudo-linear multistep, pseudo-Runge-Kutta start
`unipc.UniPC`                   multistep predictor and corrector at one evaluation a step
`heavyball.GHVB`, `HeavyBall`   momentum, as a method and around any ODE solver
`dualfast.DualFast`             around any solver: later predictions pushed away from the first
`langevin.LangevinPC`           around any solver: Langevin steps at each level
`langevin.DenoisingMCMC`        around any solver: a Markov chain in place of the first steps
`renoise.Renoise`               DiffPIR's partly fresh noise
==============================  =====================================================================================

Fitted to a denoiser and a grid on a few pilot draws, hence without a name: `dpm3.DPMv3` (`statistics`),
`unipc.UniPC` with ratios (`compensation.fit_ratios`), `timeshift.TimeShift` (`fit_time_shift`) and
`searched.Scheduled` (`search`).

Measured (``benchmarks/solvers.py``; eight entries, Karras grid, exact denoiser, Gaussian prior of variances 0.05 to 5):
evaluations to come within 5 % of the converged sliced W2 of 1000 draws: DPM-Solver-v3 6 (4 with statistics for each
entry), searched 6, DEIS 10, UniPC and DPM-Solver++ 3M 20 (15 with compensation), 2M 25, Heun 40, its SDE 40, Euler
100, ancestral 200. DualFast and DiffPIR's renoising keep an error; Langevin steps keep a small one and are slow. On a
25-mode mixture the order is the same but for DPM-Solver-v3, 20; the searched plan needs 8, compensated UniPC 12.
"""

from __future__ import annotations

from collections.abc import Callable

from invdiff.errors import UnknownNameError
from invdiff.solvers.base import Denoise, Solver, State, Stepwise
from invdiff.solvers.compensation import fit_ratios
from invdiff.solvers.ddim import DDIM
from invdiff.solvers.deis import DEIS
from invdiff.solvers.dpm3 import DPMv3
from invdiff.solvers.dpmpp import DAMPING, DPMpp2M, DPMpp3M
from invdiff.solvers.dualfast import DualFast
from invdiff.solvers.heavyball import GHVB, HeavyBall
from invdiff.solvers.heun import Heun
from invdiff.solvers.langevin import DenoisingMCMC, LangevinPC
from invdiff.solvers.pndm import PNDM
from invdiff.solvers.renoise import Renoise
from invdiff.solvers.searched import Plan, Scheduled, search
from invdiff.solvers.statistics import ModelStatistics, model_statistics
from invdiff.solvers.timeshift import TimeShift, fit_time_shift
from invdiff.solvers.unipc import UniPC

__all__ = [
    "DDIM",
    "DEIS",
    "DPMpp2M",
    "DPMpp3M",
    "DPMv3",
    "Denoise",
    "DenoisingMCMC",
    "DualFast",
    "GHVB",
    "HeavyBall",
    "Heun",
    "LangevinPC",
    "ModelStatistics",
    "PNDM",
    "Plan",
    "Renoise",
    "Scheduled",
    "Solver",
    "State",
    "Stepwise",
    "TimeShift",
    "UniPC",
    "fit_ratios",
    "fit_time_shift",
    "model_statistics",
    "named_solver",
    "search",
    "solver_names",
]

_NAMED: dict[str, Callable[[], Solver]] = {
    "euler": lambda: DDIM(0.0),
    "ddim": lambda: DDIM(0.85),
    "ancestral": lambda: DDIM(1.0),
    "heun": Heun,
    "dpmpp2m": lambda: DPMpp2M(0.0),
    "dpmpp2m-sde": lambda: DPMpp2M(1.0),
    "dpmpp2m-sde-damped": lambda: DPMpp2M(1.0, DAMPING),
    "dpmpp3m": lambda: DPMpp3M(0.0),
    "dpmpp3m-sde": lambda: DPMpp3M(1.0),
    "deis": DEIS,
    "pndm": PNDM,
    "unipc": UniPC,
    "ghvb": GHVB,
    "heavyball": lambda: HeavyBall(DPMpp2M()),
    "dualfast": lambda: DualFast(DPMpp2M()),
    "langevin": LangevinPC,
    "dmcmc": lambda: DenoisingMCMC(DPMpp2M()),
    "renoise": Renoise,
}


def solver_names() -> list[str]:
    """The names `named_solver` knows."""
    return list(_NAMED)


def named_solver(name: str) -> Solver:
    """Return the solver of that name with its usual options. Raises UnknownNameError."""
    if name not in _NAMED:
        raise UnknownNameError(f"no solver {name!r}; known: {', '.join(_NAMED)}")
    return _NAMED[name]()
