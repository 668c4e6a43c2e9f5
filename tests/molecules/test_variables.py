"""Collective variables of a configuration: made of others, and from files."""

import math
from typing import Any

import pytest
import torch

from invdiff.datasets.molecules import Structure
from invdiff.datasets.molecules.xyz import write_xyz
from invdiff.errors import InputError, ShapeError
from invdiff.molecules.config import VariableConfig
from invdiff.molecules.variables import variables
from invdiff.operators.molecular import RMSD, TICA, Distance, Path, Torsion

SYMBOLS = ("C", "H", "O", "N", "Cl")


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(**entry):
    return variables([VariableConfig.model_validate(entry)], (5, 3))


def test_combinations():
    parts = [{"kind": "distance", "atoms": [0, 1]}, {"kind": "distance", "atoms": [0, 4]}]
    x = randn(4, 5, 3)
    d = Distance([[0, 1], [0, 4]], 5).forward(x)
    found = made(kind="combination", parts=parts, weights=[2.0, -0.5]).forward(x)
    torch.testing.assert_close(found[:, 0], 2 * d[:, 0] - 0.5 * d[:, 1])
    with pytest.raises(InputError, match="weights"):
        made(kind="combination", parts=parts, weights=[1.0])
    with pytest.raises(InputError, match="periodic"):
        made(kind="combination", parts=[{"kind": "torsion", "atoms": [0, 1, 2, 3]}], weights=[1.0])


def test_reference_path_and_slow_directions_from_files(tmp_path):
    frames = 0.1 * randn(40, 5, 3)
    file = str(write_xyz(tmp_path / "frames.xyz", Structure(frames, SYMBOLS)))
    x = 0.1 * randn(3, 5, 3, seed=1)
    chosen = [4, 0, 2]
    near: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-7}  # the file has eight digits in Å
    torch.testing.assert_close(made(kind="rmsd", file=file).forward(x), RMSD(frames[0], 5).forward(x), **near)
    found = made(kind="rmsd", file=file, atoms=chosen).forward(x)
    torch.testing.assert_close(found, RMSD(frames[0][chosen], 5, chosen).forward(x), **near)
    path = made(kind="path", file=file).forward(x)
    torch.testing.assert_close(path, Path(frames, 5).forward(x)[:, :1], rtol=1e-4, atol=1e-4)
    torsion = {"kind": "torsion", "atoms": [0, 1, 2, 3]}
    tica = made(kind="tica", file=file, parts=[torsion], lag=2)
    assert tica.period == (None,)
    expected = TICA.fit(Torsion([0, 1, 2, 3], 5), frames, 2)
    torch.testing.assert_close(tica.forward(x), expected.forward(x), rtol=1e-5, atol=1e-5)
    other = write_xyz(tmp_path / "other.xyz", Structure(randn(1, 4, 3), SYMBOLS[:4]))
    with pytest.raises(ShapeError, match="4 atoms"):
        made(kind="rmsd", file=str(other))
    for kind in ("rmsd", "path", "learned"):
        with pytest.raises(InputError, match="file"):
            made(kind=kind)


def test_a_network_from_a_file(tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(15, 1))
    torch.jit.trace(network, torch.zeros(2, 5, 3)).save(str(tmp_path / "cv.pt"))
    x = randn(3, 5, 3).float()
    found = made(kind="learned", file=str(tmp_path / "cv.pt"))
    torch.testing.assert_close(found.forward(x), network(x))
    both = variables([VariableConfig(kind="learned", file=str(tmp_path / "cv.pt")),
                      VariableConfig(kind="torsion", atoms=[0, 1, 2, 3])], (5, 3))  # fmt: skip
    assert both.period == (None, 2 * math.pi) and both.forward(x).shape == (3, 2)
