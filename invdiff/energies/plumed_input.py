"""A PLUMED input that goes on from a run's HILLS: the same collective variables in PLUMED's words.

PLUMED counts atoms from 1 and works in nm, kJ/mol, ps and rad, as this package does.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.molecular import (
    Angle,
    CollectiveVariable,
    Combination,
    Coordination,
    Distance,
    RadiusOfGyration,
    Together,
    Torsion,
)

__all__ = ["plumed_input"]


def plumed_input(
    variables: CollectiveVariable | Sequence[CollectiveVariable],
    names: Sequence[str],
    *,
    temperature: float,
    gamma: float,
    height: float,
    widths: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    pace: int = 500,
    restart: bool = True,
) -> str:
    """Return the text of a ``plumed.dat`` with a well-tempered METAD on a grid.

    Args:
        variables: one, or several, with as many components as names.
        names: labels, those of the HILLS file.
        temperature: K. gamma: bias factor. height: of a first hill, kJ/mol. pace: steps between hills.
        widths, low, high: of each component; a periodic one runs from -pi to pi.
        restart: whether PLUMED reads the HILLS that are there.

    Raises:
        InputError: a collective variable that has no counterpart here. ShapeError: another number of names.
    """
    parts = [variables] if isinstance(variables, CollectiveVariable) else list(variables)
    makers = [line for part in parts for line in _components(part)]
    if not len(makers) == len(names) == len(widths) == len(low) == len(high):
        raise ShapeError(f"{len(makers)} components got {len(names)} names, {len(widths)} widths; one each is expected")
    periodic = [p is not None for part in parts for p in part.period]
    bins = [round((b - a) / (w / 5)) for a, b, w in zip(low, high, widths, strict=True)]
    ends = [["-pi" if p else f"{a:.10g}" for p, a in zip(periodic, low, strict=True)]]
    ends += [["pi" if p else f"{b:.10g}" for p, b in zip(periodic, high, strict=True)]]
    lines = ["UNITS LENGTH=nm ENERGY=kj/mol TIME=ps", *(["RESTART"] if restart else [])]
    for name, (before, maker) in zip(names, makers, strict=True):
        lines += [text.replace("@", name) for text in (*before, f"@: {maker}")]
    values = {
        "ARG": names,
        "SIGMA": [f"{w:.10g}" for w in widths],
        "HEIGHT": [f"{height:.10g}"],
        "PACE": [str(pace)],
        "BIASFACTOR": [f"{gamma:.10g}"],
        "TEMP": [f"{temperature:.10g}"],
        "GRID_MIN": ends[0],
        "GRID_MAX": ends[1],
        "GRID_BIN": [str(b) for b in bins],
        "FILE": ["HILLS"],
    }
    lines.append("metad: METAD " + " ".join(f"{key}={','.join(words)}" for key, words in values.items()))
    lines.append(f"PRINT ARG={','.join(names)},metad.bias STRIDE={pace} FILE=COLVAR")
    return "\n".join(lines) + "\n"


Maker = tuple[list[str], str]


def _components(cv: CollectiveVariable) -> list[Maker]:
    """For each component: lines that come before it, and the action itself; ``@`` stands for its label."""
    if isinstance(cv, Together):
        return [maker for v in cv.variables for maker in _components(v)]
    if isinstance(cv, Distance):
        return [([], f"DISTANCE ATOMS={_atoms(row)}") for row in cv.pairs]
    if isinstance(cv, Angle):
        return [([], f"ANGLE ATOMS={_atoms(row)}") for row in cv.triples]
    if isinstance(cv, Torsion):
        return [([], f"TORSION ATOMS={_atoms(row)}") for row in cv.quadruples]
    if isinstance(cv, RadiusOfGyration) and bool((cv.weights == cv.weights[0]).all()):
        return [([], f"GYRATION TYPE=RADIUS ATOMS=1-{cv.atoms}")]
    if isinstance(cv, Coordination):
        pairs = [f"DISTANCE ATOMS{n}={_atoms(row)}" for n, row in enumerate(cv.pairs, 1)]
        atoms = " ".join(p.removeprefix("DISTANCE ") for p in pairs)
        switch = f"SWITCH={{RATIONAL R_0={cv.r0:.10g} D_0={cv.d0:.10g} NN={cv.n} MM={cv.m}}}"
        return [([f"@_n: DISTANCES {atoms} LESS_THAN={switch[7:]}"], "COMBINE ARG=@_n.lessthan PERIODIC=NO")]
    if isinstance(cv, Combination) and not bool(cv.offset.any()):
        inner = _components(cv.variable)
        before = [line.replace("@", f"@_{n}") for n, (first, m) in enumerate(inner) for line in (*first, f"@: {m}")]
        labels = ",".join(f"@_{n}" for n in range(len(inner)))
        weights = [",".join(f"{w:.10g}" for w in row) for row in cv.weights.tolist()]
        return [(before, f"COMBINE ARG={labels} COEFFICIENTS={w} PERIODIC=NO") for w in weights]
    raise InputError(f"{cv!r} has no counterpart in PLUMED here; write its line by hand")


def _atoms(row: Tensor) -> str:
    return ",".join(str(int(i) + 1) for i in row)
