"""Solvers integrate from sigma_max to 0, given any denoiser.

==========================  ======================================================
`ddim.DDIM`                 Euler (eta = 0), DDIM(eta), ancestral (eta = 1)
`heun.Heun`                 second order, two evaluations a step
`dpmpp.DPMpp2M`             second order multistep, as ODE or SDE
`renoise.Renoise`           DiffPIR's partly fresh noise
==========================  ======================================================
"""

from __future__ import annotations

from collections.abc import Callable

from invdiff.errors import UnknownNameError
from invdiff.solvers.base import Denoise, Solver, State
from invdiff.solvers.ddim import DDIM
from invdiff.solvers.dpmpp import DPMpp2M
from invdiff.solvers.heun import Heun
from invdiff.solvers.renoise import Renoise

__all__ = ["DDIM", "DPMpp2M", "Denoise", "Heun", "Renoise", "Solver", "State", "named_solver", "solver_names"]

_NAMED: dict[str, Callable[[], Solver]] = {
    "euler": lambda: DDIM(0.0),
    "ddim": lambda: DDIM(0.85),
    "ancestral": lambda: DDIM(1.0),
    "heun": Heun,
    "dpmpp2m": lambda: DPMpp2M(0.0),
    "dpmpp2m-sde": lambda: DPMpp2M(1.0),
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
