"""XYZ and extended XYZ files: positions in Å there, nm here; several frames."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from invdiff.datasets.molecules.structure import Structure
from invdiff.errors import FormatError
from invdiff.files import existing, replacing

__all__ = ["read_xyz", "write_xyz"]

_ANGSTROM = 0.1  # nm


def read_xyz(path: str | Path) -> Structure:
    """Read all frames; ``charge=`` and ``multiplicity=`` (or ``spin=``) in the first comment are kept.

    Positions are in Å, as the format has it. Of extended XYZ the columns are found by ``Properties=``; lattice and
    other columns are not read.

    Raises:
        FileError, FormatError: no file, or not one of this format; frames of different atoms.
    """
    path = existing(path)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    frames: list[list[list[float]]] = []
    symbols: tuple[str, ...] = ()
    comment, at = "", 0
    while at < len(lines) and lines[at].strip():
        try:
            count = int(lines[at])
            note, rows = lines[at + 1], [line.split() for line in lines[at + 2 : at + 2 + count]]
            species, first = _columns(note)
            names = tuple(row[species].capitalize() for row in rows)
            frames.append([[float(v) for v in row[first : first + 3]] for row in rows])
            if count < 1 or len(rows) != count or any(len(x) != 3 for x in frames[-1]):
                raise ValueError("an atom is missing")
        except (ValueError, IndexError) as error:
            raise FormatError(f"{path}: frame {len(frames) + 1} (line {at + 1}) is not XYZ: {error}") from error
        if frames and symbols not in ((), names):
            raise FormatError(f"{path}: frame {len(frames)} has other atoms than the first; split the file")
        symbols, comment, at = names, comment or note, at + 2 + count
    if not frames:
        raise FormatError(f"{path} holds no frame; XYZ begins with the number of atoms")
    charge, multiplicity = _number(comment, "charge", 0), _number(comment, "multiplicity|spin", 1)
    positions = torch.tensor(frames, dtype=torch.float64) * _ANGSTROM
    return Structure(positions, symbols, charge=charge, multiplicity=multiplicity, meta={"file": path.name})


def write_xyz(path: str | Path, structure: Structure) -> Path:
    """Write all frames in Å, as extended XYZ. Raises FileError."""
    path = Path(path)
    note = f'Properties=species:S:1:pos:R:3 charge={structure.charge} multiplicity={structure.multiplicity} pbc="F F F"'
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for frame in (structure.positions / _ANGSTROM).tolist():
            file.write(f"{structure.atoms}\n{note}\n")
            for symbol, x in zip(structure.symbols, frame, strict=True):
                file.write(f"{symbol:<3s} {x[0]:16.8f} {x[1]:16.8f} {x[2]:16.8f}\n")
    return path


def _columns(note: str) -> tuple[int, int]:
    """Where the element and the first coordinate stand in a row."""
    found = re.search(r"Properties=(\S+)", note)
    if not found:
        return 0, 1
    at, place = 0, {}
    parts = found[1].split(":")
    for name, count in zip(parts[::3], parts[2::3], strict=True):
        place[name] = at
        at += int(count)
    if not {"species", "pos"} <= place.keys():
        raise ValueError("Properties names no species or no pos")
    return place["species"], place["pos"]


def _number(note: str, name: str, default: int) -> int:
    found = re.search(rf"(?:^|\s)(?:{name})=\"?(-?\d+)", note, re.IGNORECASE)
    return int(found[1]) if found else default
