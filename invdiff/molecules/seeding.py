"""A bias handed on: from metadynamics into a run, and from a run into metadynamics with PLUMED or OpenMM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from invdiff.bridges.bias import Bias
from invdiff.datasets.molecules.grid import Grid
from invdiff.datasets.molecules.openmm_bias import read_openmm_bias, write_openmm_bias
from invdiff.datasets.molecules.plumed import read_hills
from invdiff.energies.base import CollectiveVariable
from invdiff.energies.plumed_input import plumed_input
from invdiff.errors import InputError
from invdiff.files import replacing
from invdiff.operators.molecular import CollectiveVariable as MolecularVariable

__all__ = ["start_bias", "write_seeds"]


def start_bias(bias: Bias, source: str | Path, kT: float) -> None:  # noqa: N803 - the field's name
    """Add what metadynamics left to an empty bias.

    Args:
        bias: its axes are the variables of the file, in their order.
        source: PLUMED's HILLS, or the folder of OpenMM's ``bias_<id>_<index>.npy``.
        kT: in kJ/mol.

    Raises:
        FileError, FormatError: of the file. InputError: it has other variables, periods or hill widths than the axes.
    """
    path, axes = Path(source), bias.axes
    low, high = tuple(a.low for a in axes), tuple(a.high for a in axes)
    words = tuple(str(i) for i in range(len(axes)))
    kinds = tuple(a.periodic for a in axes)
    empty = Grid(torch.zeros_like(bias.values), low, high, kinds, words)
    if path.is_dir():
        if len(set(kinds)) > 1:
            raise InputError("OpenMM's bias files hold variables that are all periodic or all not; these are mixed")
        held = read_openmm_bias(path, low, high, kinds[0], words)
        bias.values = bias.values + held.at(empty.mesh().reshape(-1, len(axes))).reshape(bias.values.shape) / kT
        bias.of_hills = False
        return
    hills = read_hills(path)
    same = [
        p is None if not a.periodic else p is not None and max(abs(p[0] - a.low), abs(p[1] - a.high)) < 1e-3 * a.width
        for a, p in zip(axes, hills.period, strict=False)
    ]
    if len(hills.period) != len(axes) or not all(same):
        raise InputError(
            f"{path}: its variables {hills.names}, periodic over {hills.period}, do not fit the bias' axes from"
            f" {low} to {high}"
        )
    widths = torch.tensor([a.width for a in axes], dtype=torch.float64)
    if not torch.allclose(hills.widths, widths.expand_as(hills.widths), rtol=1e-3):
        found = [round(float(w), 6) for w in hills.widths[0]]
        raise InputError(f"{path}: hills have widths {found}; the bias' axes {widths.tolist()}: use the file's")
    bias.values = bias.values + hills.on_grid(empty).values / kT
    bias.hills.append((hills.centres.double(), hills.heights.double() / kT))


def write_seeds(
    folder: Path,
    bias: Bias,
    variable: CollectiveVariable | None,
    names: Sequence[str],
    kT: float,  # noqa: N803 - the field's name
    temperature: float,
) -> list[Path]:
    """Write ``openmm_bias/`` and ``plumed.dat`` (beside HILLS), where the programs can take the variables; return them.

    Args:
        folder: exists.
        bias: of a run.
        variable: its collective variables.
        names: of its components, as in HILLS.
        kT: in kJ/mol; temperature: in K.
    """
    axes, written = bias.axes, []
    low, high = tuple(a.low for a in axes), tuple(a.high for a in axes)
    kinds = tuple(a.periodic for a in axes)
    if len(set(kinds)) == 1:
        inner = folder / "openmm_bias"
        if not inner.is_dir():
            inner.mkdir()
            written.append(write_openmm_bias(inner, Grid(kT * bias.values, low, high, kinds, tuple(names))))
    if isinstance(variable, MolecularVariable) and bias.of_hills and bias.hills:
        widths = [a.width for a in axes]
        try:
            text = plumed_input(
                variable,
                names,
                temperature=temperature,
                gamma=bias.gamma,
                height=0.4 * kT,
                widths=widths,
                low=low,
                high=high,
            )
        except InputError:  # a variable that PLUMED has no short word for
            return written
        with replacing(folder / "plumed.dat") as part:
            part.write_text(text, encoding="ascii")
        written.append(folder / "plumed.dat")
    return written
