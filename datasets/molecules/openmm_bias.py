"""The bias files of `openmm.app.Metadynamics` (``bias_<id>_<index>.npy``): read them, or write one to start a run from.

A run that is given the folder adds the biases of all others in it to its own. The arrays are in kJ/mol, the last
variable first, and hold both ends of every axis, of periodic ones too, where they are equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from invdiff.datasets.molecules.grid import Grid
from invdiff.errors import FileError, FormatError, InputError
from invdiff.files import replacing

__all__ = ["read_openmm_bias", "write_openmm_bias"]

_NAME = re.compile(r"bias_(-?\d+)_(\d+)\.npy")


def write_openmm_bias(folder: str | Path, bias: Grid, points: Sequence[int] | None = None) -> Path:
    """Write a bias so that `openmm.app.Metadynamics` with ``biasDir=folder`` starts from it.

    Args:
        folder: exists.
        bias: V in kJ/mol; its axes must be those of the run's `BiasVariable`s, in their order.
        points: ``gridWidth`` of each; None for as many as the grid has, and one more on periodic axes (OpenMM's own
            default is ``ceil(5 range / width)``). Values in between are interpolated.

    Returns:
        The file's path.

    Raises:
        FileError: the folder does not exist. InputError: not one number of points per axis; axes of mixed kinds, which
            OpenMM does not take.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder; create it first")
    if len(set(bias.periodic)) > 1:
        raise InputError("OpenMM's metadynamics takes variables that are all periodic or all not, not a mixture")
    if points is None:
        points = [n + int(p) for n, p in zip(bias.values.shape, bias.periodic, strict=True)]
    if len(points) != bias.values.ndim:
        raise InputError(f"points has {len(points)} entries for {bias.values.ndim} axes; one each is expected")
    axes = [
        torch.linspace(a, b, int(n), dtype=torch.float64) for a, b, n in zip(bias.low, bias.high, points, strict=True)
    ]
    mesh = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    table = bias.at(mesh).reshape(*[len(a) for a in axes]).numpy()
    taken = [int(m[1]) for m in map(_NAME.fullmatch, (p.name for p in folder.iterdir())) if m]
    path = folder / f"bias_{max([0, *taken]) + 1}_1.npy"
    with replacing(path) as part, part.open("wb") as file:
        np.save(file, np.ascontiguousarray(table.transpose()))
    return path


def read_openmm_bias(
    folder: str | Path, low: Sequence[float], high: Sequence[float], periodic: bool, names: Sequence[str]
) -> Grid:
    """Return the sum of the latest biases of all runs in a folder, V in kJ/mol.

    Args:
        folder: the ``biasDir`` of `openmm.app.Metadynamics`.
        low, high, periodic, names: of the variables, in the run's order; the files do not hold them.

    Raises:
        FileError: no bias files there. FormatError: a file is no array of so many axes, or they differ in shape.
    """
    folder = Path(folder)
    latest: dict[int, tuple[int, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if found := _NAME.fullmatch(path.name):
            latest[int(found[1])] = max(latest.get(int(found[1]), (-1, path)), (int(found[2]), path))
    if not latest:
        raise FileError(f"{folder} holds no bias_<id>_<index>.npy; OpenMM's Metadynamics writes them to its biasDir")
    total: np.ndarray | None = None
    for _, path in latest.values():
        try:
            table = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise FormatError(f"{path} is no NumPy array: {error}") from error
        if table.ndim != len(names) or (total is not None and table.shape != total.shape):
            raise FormatError(f"{path} has shape {table.shape}; {len(names)} axes, alike in all files, were expected")
        total = table if total is None else total + table
    assert total is not None
    values = np.asarray(total, dtype=np.float64).transpose()
    for axis in range(values.ndim):
        if periodic:
            values = np.delete(values, -1, axis=axis)
    kinds = (periodic,) * values.ndim
    return Grid(torch.from_numpy(np.ascontiguousarray(values)), tuple(low), tuple(high), kinds, tuple(names))
