"""PLUMED's files: COLVAR (columns over time), HILLS (metadynamics) and fes.dat (a free energy on a grid).

Units are PLUMED's defaults: nm, kJ/mol, ps, rad. A well-tempered HILLS file holds heights multiplied by
``gamma/(gamma - 1)``, so that their sum is -F; in memory heights are those of the bias, and the factor is applied on
the way in and out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.molecules.grid import Grid
from invdiff.errors import FormatError, ShapeError
from invdiff.files import existing, replacing

__all__ = ["Hills", "read_colvar", "read_fes", "read_hills", "write_colvar", "write_fes", "write_hills"]

_CUTOFF = 6.25  # of d^2/2, where PLUMED's stretched Gaussian ends


@dataclass(frozen=True)
class Hills:
    """Gaussians of a bias: centres and widths ``(hills, k)``, heights ``(hills,)`` in kJ/mol, times in ps.

    `gamma` is the bias factor (1: not well-tempered), `period` of each variable, `stretched` whether the kernels are
    PLUMED's stretched Gaussians, which end at ``d^2/2 = 6.25``, or plain ones.
    """

    names: tuple[str, ...]
    centres: Tensor
    widths: Tensor
    heights: Tensor
    times: Tensor
    gamma: float
    period: tuple[tuple[float, float] | None, ...]
    stretched: bool = False

    def __post_init__(self) -> None:
        n, k = len(self.heights), len(self.names)
        shapes = [tuple(t.shape) for t in (self.centres, self.widths, self.heights, self.times)]
        if shapes != [(n, k), (n, k), (n,), (n,)] or len(self.period) != k:
            raise ShapeError(f"hills of {k} variables have shapes {shapes}; ({n}, {k}) twice and ({n},) twice expected")

    def bias(self, s: Tensor, chunk: int = 4096) -> Tensor:
        """Return V ``(N,)`` in kJ/mol at s ``(N, k)``."""
        out = torch.zeros(len(s), dtype=torch.float64)
        for start in range(0, len(self.heights), chunk):
            rows = slice(start, start + chunk)
            d = s[:, None].double() - self.centres[rows].double()
            for i, period in enumerate(self.period):
                if period is not None:
                    length = period[1] - period[0]
                    d[..., i] -= length * torch.round(d[..., i] / length)
            half = 0.5 * (d / self.widths[rows].double()).square().sum(-1)
            kernel = torch.exp(-half)
            if self.stretched:
                end = math.exp(-_CUTOFF)
                kernel = torch.where(half < _CUTOFF, (kernel - end) / (1 - end), 0.0)
            out += kernel @ self.heights[rows].double()
        return out

    def on_grid(self, like: Grid) -> Grid:
        """Return V on the points of a grid."""
        values = self.bias(like.mesh().reshape(-1, len(self.names))).reshape(like.values.shape)
        return Grid(values, like.low, like.high, like.periodic, self.names)


def write_hills(path: str | Path, hills: Hills) -> Path:
    """Write a HILLS file that PLUMED restarts from. Raises FileError."""
    fields = ["time", *hills.names, *(f"sigma_{n}" for n in hills.names), "height", "biasf"]
    kernel = "stretched-gaussian" if hills.stretched else "gaussian"
    sets = {"multivariate": "false", "kerneltype": kernel}
    for name, period in zip(hills.names, hills.period, strict=True):
        if period is not None:
            sets |= {f"min_{name}": _angle(period[0]), f"max_{name}": _angle(period[1])}
    heights = hills.heights * _stored(hills.gamma)
    factor = torch.full_like(heights, hills.gamma if hills.gamma > 1 else 1.0)
    table = torch.cat([hills.times[:, None], hills.centres, hills.widths, heights[:, None], factor[:, None]], 1)
    return _write(path, fields, sets, table.tolist())


def read_hills(path: str | Path) -> Hills:
    """Read a HILLS file.

    Raises:
        FileError, FormatError: no file; fields or numbers are missing; kernels that are not understood.
    """
    path = existing(path)
    fields, sets, table = _read(path)
    names = tuple(f.removeprefix("sigma_") for f in fields if f.startswith("sigma_"))
    wanted = ["time", *names, *(f"sigma_{n}" for n in names), "height", "biasf"]
    if not names or fields[: len(wanted)] != wanted:
        raise FormatError(
            f"{path}: fields are {' '.join(fields)}; a HILLS file has time, variables, sigma_*, height, biasf"
        )
    kernel = sets.get("kerneltype", "gaussian")
    if kernel not in ("gaussian", "stretched-gaussian") or sets.get("multivariate", "false") != "false":
        raise FormatError(f"{path}: kernels are {kernel}, multivariate {sets.get('multivariate')}; plain ones are read")
    rows, k = torch.from_numpy(table), len(names)
    factors = rows[:, 2 * k + 2]
    gamma = float(factors[0]) if len(rows) else 1.0
    if len(rows) and not bool((factors == gamma).all()):
        raise FormatError(f"{path}: the bias factor changes along the file; split it")
    period = tuple(
        (_value(sets[f"min_{n}"]), _value(sets[f"max_{n}"])) if f"min_{n}" in sets and f"max_{n}" in sets else None
        for n in names
    )
    heights = rows[:, 2 * k + 1] / _stored(gamma)
    centres, widths = rows[:, 1 : k + 1], rows[:, k + 1 : 2 * k + 1]
    return Hills(names, centres, widths, heights, rows[:, 0], gamma, period, kernel == "stretched-gaussian")


def write_colvar(path: str | Path, columns: Mapping[str, Tensor | Sequence[float]]) -> Path:
    """Write columns ``(rows,)`` by name, ``time`` first if there; it counts rows otherwise. Raises FileError."""
    arrays = {name: np.asarray(values, dtype=np.float64).reshape(-1) for name, values in columns.items()}
    lengths = {len(a) for a in arrays.values()}
    if len(lengths) != 1:
        raise ShapeError(f"COLVAR columns have lengths {sorted(lengths)}; one length was expected")
    if "time" not in arrays:
        arrays = {"time": np.arange(lengths.pop(), dtype=np.float64), **arrays}
    return _write(path, list(arrays), {}, np.stack(list(arrays.values()), 1).tolist())


def read_colvar(path: str | Path) -> dict[str, Tensor]:
    """Read columns by name. Raises FileError, FormatError."""
    path = existing(path)
    fields, _, table = _read(path)
    return {name: torch.from_numpy(table[:, i].copy()) for i, name in enumerate(fields)}


def write_fes(path: str | Path, free_energy: Grid) -> Path:
    """Write F as PLUMED's sum_hills does: the first variable runs fastest, a blank line ends each of its rows."""
    path, names = Path(path), free_energy.names
    sets: dict[str, str] = {}
    for i, name in enumerate(names):
        low, high = free_energy.low[i], free_energy.high[i]
        count = free_energy.values.shape[i]  # of points: one more than bins where not periodic, as PLUMED counts
        yes = "true" if free_energy.periodic[i] else "false"
        sets |= {f"min_{name}": _angle(low), f"max_{name}": _angle(high), f"nbins_{name}": str(count)}
        sets |= {f"periodic_{name}": yes}
    order = list(reversed(range(len(names))))
    points = free_energy.mesh().permute(*order, len(names)).reshape(-1, len(names))
    values = free_energy.values.double().permute(*order).reshape(-1, 1)
    rows = torch.cat([points, values], 1).tolist()
    return _write(path, [*names, "file.free"], sets, rows, free_energy.values.shape[0] if len(names) > 1 else 0)


def read_fes(path: str | Path) -> Grid:
    """Read a free energy on a grid, in kJ/mol; derivatives are not kept. Raises FileError, FormatError."""
    path = existing(path)
    fields, sets, table = _read(path)
    names = tuple(n.removeprefix("nbins_") for n in sets if n.startswith("nbins_"))
    if not names or tuple(fields[: len(names)]) != names or len(fields) <= len(names):
        raise FormatError(f"{path}: fields {fields} and grid {names} do not fit; a fes.dat names its variables in both")
    try:
        periodic = tuple(sets[f"periodic_{n}"] == "true" for n in names)
        low, high = (tuple(_value(sets[f"{end}_{n}"]) for n in names) for end in ("min", "max"))
        counts = [int(sets[f"nbins_{n}"]) for n in names]
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path}: the grid's header is incomplete: {error}") from error
    # PLUMED counts the points of an axis that is not periodic; some other writers count the bins between them.
    shapes = [[c + (0 if p else more) for c, p in zip(counts, periodic, strict=True)] for more in (0, 1)]
    shape = next((found for found in shapes if math.prod(found) == len(table)), None)
    if shape is None:
        raise FormatError(f"{path} has {len(table)} rows; its header announces {'x'.join(map(str, counts))} points")
    values = torch.from_numpy(table[:, len(names)].copy()).reshape(*reversed(shape))
    return Grid(values.permute(*reversed(range(len(shape)))).contiguous(), low, high, periodic, names)


# ---- text ---------------------------------------------------------------------------------------------------------
def _write(
    path: str | Path, fields: Sequence[str], sets: Mapping[str, str], rows: Sequence[Sequence[float]], block: int = 0
) -> Path:
    path = Path(path)
    with replacing(path) as part, part.open("w", encoding="ascii") as file:
        file.write(f"#! FIELDS {' '.join(fields)}\n")
        file.writelines(f"#! SET {name} {value}\n" for name, value in sets.items())
        _rows(file, rows, block)
    return path


def _rows(file: TextIO, rows: Sequence[Sequence[float]], block: int) -> None:
    for n, row in enumerate(rows, 1):
        file.write(" ".join(f"{v:.12g}" for v in row) + "\n")
        if block and n % block == 0:
            file.write("\n")


def _read(path: Path) -> tuple[list[str], dict[str, str], np.ndarray]:
    fields: list[str] = []
    sets: dict[str, str] = {}
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if words[:2] == ["#!", "FIELDS"]:
            if fields and words[2:] != fields:
                raise FormatError(f"{path}:{number}: the fields change along the file; split it")
            fields = words[2:]
        elif words[:2] == ["#!", "SET"] and len(words) == 4:
            sets[words[2]] = words[3]
        elif words and not fields and not words[0].startswith("#"):
            raise FormatError(f"{path} does not begin with a '#! FIELDS' line, as PLUMED's files do")
        elif words and not words[0].startswith("#"):
            try:
                rows.append([float(w) for w in words])
            except ValueError as error:
                raise FormatError(f"{path}:{number} is no row of numbers: {error}") from error
            if len(words) != len(fields):
                raise FormatError(f"{path}:{number} has {len(words)} numbers for {len(fields)} fields; is it cut off?")
    if not fields:
        raise FormatError(f"{path} has no '#! FIELDS' line; PLUMED's files begin with one")
    return fields, sets, np.array(rows, dtype=np.float64).reshape(len(rows), len(fields))


def _stored(gamma: float) -> float:
    return gamma / (gamma - 1) if gamma > 1 else 1.0


def _angle(value: float) -> str:
    for name, number in (("-pi", -math.pi), ("pi", math.pi), ("2pi", 2 * math.pi)):
        if abs(value - number) < 1e-12:
            return name
    return f"{value:.12g}"


def _value(text: str) -> float:
    found = re.fullmatch(r"([+-]?)(\d*\.?\d*)\*?pi", text)
    if found:
        return (-1 if found[1] == "-" else 1) * (float(found[2]) if found[2] else 1.0) * math.pi
    return float(text)
