"""Biases handed on between a run and metadynamics."""

import math

import pytest
import torch

from invdiff.bridges.bias import Axis, Bias
from invdiff.datasets.molecules.grid import Grid
from invdiff.datasets.molecules.openmm_bias import write_openmm_bias
from invdiff.datasets.molecules.plumed import Hills, read_hills, write_hills
from invdiff.errors import InputError
from invdiff.molecules.seeding import start_bias, write_seeds
from invdiff.operators.molecular import Distance, RadiusOfGyration, Torsion

KT = 2.494


def empty(width=0.3):
    return Bias([Axis(-math.pi, math.pi, 120, width, True)], 8.0, 1.0)


def grown():
    bias = empty()
    bias.deposit(torch.tensor([[-1.0], [3.0], [-1.2]]))
    bias.deposit(torch.tensor([[-1.1], [0.4]]))
    return bias


def hills_of(bias, kT=KT):
    centres, heights = (torch.cat([h[i] for h in bias.hills]) for i in (0, 1))
    widths = torch.full_like(centres, bias.axes[0].width)
    return Hills(("phi",), centres, widths, kT * heights, torch.ones(len(heights)), 8.0, ((-math.pi, math.pi),))


def test_a_run_begins_with_the_hills_of_another(tmp_path):
    old, new = grown(), empty()
    start_bias(new, write_hills(tmp_path / "HILLS", hills_of(old)), KT)
    torch.testing.assert_close(new.values, old.values, rtol=1e-9, atol=1e-9)
    again = read_hills(write_hills(tmp_path / "again", hills_of(new)))  # and they are part of what it writes itself
    torch.testing.assert_close(again.heights, hills_of(old).heights, rtol=1e-9, atol=1e-9)
    with pytest.raises(InputError, match="widths"):
        start_bias(empty(0.2), tmp_path / "HILLS", KT)
    flat = Bias([Axis(-math.pi, math.pi, 120, 0.3)], 8.0, 1.0)
    with pytest.raises(InputError, match="axes"):
        start_bias(flat, tmp_path / "HILLS", KT)


def test_a_run_begins_with_the_bias_of_openmm(tmp_path):
    old, new = grown(), empty()
    write_openmm_bias(tmp_path, Grid(KT * old.values, (-math.pi,), (math.pi,), (True,), ("phi",)))
    start_bias(new, tmp_path, KT)
    torch.testing.assert_close(new.values, old.values, rtol=1e-9, atol=1e-9)
    # Its hills are not all of it: metadynamics goes on from the grid alone.
    written = write_seeds(tmp_path, new, Torsion([4, 6, 8, 14], 22), ["phi"], KT, 300.0)
    assert not new.of_hills and [p.parent.name for p in written] == ["openmm_bias"]


def test_what_a_run_leaves_for_metadynamics(tmp_path):
    bias = grown()
    written = write_seeds(tmp_path, bias, Torsion([4, 6, 8, 14], 22), ["phi"], KT, 300.0)
    assert [p.relative_to(tmp_path).as_posix() for p in written] == ["openmm_bias/bias_1_1.npy", "plumed.dat"]
    assert "phi: TORSION ATOMS=5,7,9,15" in (tmp_path / "plumed.dat").read_text()
    new = empty()
    start_bias(new, tmp_path / "openmm_bias", KT)
    torch.testing.assert_close(new.values, bias.values, rtol=1e-9, atol=1e-9)
    # written once, not added to itself when a finished run writes its files again
    assert len(list((tmp_path / "openmm_bias").iterdir())) == 1
    write_seeds(tmp_path, bias, Torsion([4, 6, 8, 14], 22), ["phi"], KT, 300.0)
    assert len(list((tmp_path / "openmm_bias").iterdir())) == 1


def test_variables_that_the_programs_do_not_take(tmp_path):
    axes = [Axis(-math.pi, math.pi, 60, 0.3, True), Axis(0.0, 1.0, 60, 0.05)]
    mixed = Bias(axes, 8.0, 1.0)
    weighted = RadiusOfGyration(22, torch.arange(22.0))
    assert write_seeds(tmp_path, mixed, weighted, ["phi", "rg"], KT, 300.0) == []
    with pytest.raises(InputError, match="mixed"):
        start_bias(mixed, tmp_path, KT)
    assert Distance([0, 1], 2).period == (None,)
