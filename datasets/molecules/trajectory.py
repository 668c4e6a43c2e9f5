"""Samples of a molecule in files: ``topology.pdb`` with XTC or DCD, and an NPZ with weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.molecules.structure import Structure, make_topology
from invdiff.errors import FileError, FormatError, InputError, ShapeError, missing_extra
from invdiff.files import existing, replacing

__all__ = ["read_trajectory", "write_samples", "write_trajectory"]

_KINDS = ("xtc", "dcd")
FARTHEST = 1e6  # nm: beyond, XTC's integers of 0.001 nm overflow


def write_samples(
    folder: str | Path,
    structure: Structure,
    positions: Tensor,
    columns: Mapping[str, Tensor],
    meta: Mapping[str, str] | None = None,
    kind: str = "xtc",
) -> list[Path]:
    """Write ``topology.pdb``, ``samples.xtc`` (or ``.dcd``) and ``samples.npz`` to a folder.

    The NPZ holds ``positions`` ``(N, atoms, 3)`` in nm in full precision, the columns (first axis N: ``log_weight``,
    ``energy`` in kJ/mol, ``bias``, ``cv``), and ``symbols``; `meta` (units, names of the variables) as text.

    Args:
        folder: exists.
        structure: which atoms they are.
        positions: ``(N, atoms, 3)`` in nm.
        columns: tensors of first axis N.
        meta: text by name.
        kind: of the trajectory; XTC rounds to 0.001 nm, DCD is single precision.

    Raises:
        ShapeError: positions or a column do not fit. FileError: the folder does not exist.
    """
    folder = Path(folder)
    for name, values in columns.items():
        if values.ndim < 1 or len(values) != len(positions):
            raise ShapeError(f"column {name} has shape {tuple(values.shape)}; its first axis must be {len(positions)}")
    written = write_trajectory(folder, structure, positions, kind)
    arrays: dict[str, Any] = {"positions": positions.detach().cpu().numpy(), "symbols": np.array(structure.symbols)}
    arrays |= {name: values.detach().cpu().numpy() for name, values in columns.items()}
    arrays |= {name: np.array(value) for name, value in (meta or {}).items()}
    path = folder / "samples.npz"
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)
    return [*written, path]


def write_trajectory(folder: str | Path, structure: Structure, positions: Tensor, kind: str = "xtc") -> list[Path]:
    """Write ``topology.pdb`` (first configuration) and ``samples.xtc`` or ``.dcd``; arguments as of `write_samples`."""
    folder, mdtraj = Path(folder), _mdtraj("writing trajectories")
    if kind not in _KINDS:
        raise InputError(f"the trajectory's kind is {kind!r}; it expects 'xtc' or 'dcd'")
    if positions.ndim != 3 or positions.shape[1:] != (structure.atoms, 3):
        raise ShapeError(f"positions have shape {tuple(positions.shape)}; expected (N, {structure.atoms}, 3)")
    if not folder.is_dir():
        raise FileError(f"{folder} is no folder; create it first")
    if not bool((positions.abs() < FARTHEST).all()):
        raise InputError(
            f"positions reach {float(positions.abs().max()):.3g} nm; a trajectory file holds up to {FARTHEST:g}"
        )
    topology = structure.topology if structure.topology is not None else make_topology(structure.symbols)
    frames = mdtraj.Trajectory(positions.detach().cpu().float().numpy(), mdtraj.Topology.from_openmm(topology))
    paths = [folder / "topology.pdb", folder / f"samples.{kind}"]
    with replacing(paths[0]) as part:
        frames[0].save_pdb(str(part))
    with replacing(paths[1]) as part:
        frames.save_xtc(str(part)) if kind == "xtc" else frames.save_dcd(str(part))
    return paths


def read_trajectory(path: str | Path, topology: str | Path | None = None) -> Tensor:
    """Return positions ``(frames, atoms, 3)`` in nm, float64, of an XTC, DCD, PDB or other trajectory, or of our NPZ.

    Args:
        path: the trajectory.
        topology: a PDB of the same atoms, which XTC and DCD need.

    Raises:
        FileError, FormatError: no file, or it cannot be read. MissingExtraError: mdtraj is not installed.
    """
    path = existing(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                return torch.from_numpy(held["positions"]).double()
        mdtraj = _mdtraj(f"reading {path.name}")
        top = {} if topology is None else {"top": str(existing(topology))}
        return torch.from_numpy(mdtraj.load(str(path), **top).xyz.copy()).double()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise FormatError(f"{path} cannot be read as a trajectory: {error}") from error


def _mdtraj(purpose: str) -> Any:
    try:
        import mdtraj
    except ImportError as error:
        raise missing_extra("mdtraj", "molecules", purpose) from error
    return mdtraj
