"""The PLUMED input: atoms counted from 1, labels and options as PLUMED reads them."""

import math
from typing import Any

import pytest

from invdiff.energies.plumed_input import plumed_input
from invdiff.errors import InputError, ShapeError
from invdiff.operators.molecular import Combination, Coordination, Distance, RadiusOfGyration, Together, Torsion

OPTIONS: dict[str, Any] = {"temperature": 300.0, "gamma": 8.0, "height": 1.2}


def test_torsions_and_a_difference_of_distances():
    cv = Together(Torsion([4, 6, 8, 14], 22), Combination(Distance([[0, 4], [0, 5]], 22), [1.0, -1.0]))
    text = plumed_input(
        cv, ["phi", "s"], widths=[0.25, 0.01], low=[-math.pi, -0.2], high=[math.pi, 0.2], pace=100, **OPTIONS
    )
    lines = text.splitlines()
    assert lines[0].startswith("UNITS LENGTH=nm") and lines[1] == "RESTART"
    assert "phi: TORSION ATOMS=5,7,9,15" in lines  # from 1
    assert lines.index("s_0: DISTANCE ATOMS=1,5") < lines.index("s_1: DISTANCE ATOMS=1,6")
    assert "s: COMBINE ARG=s_0,s_1 COEFFICIENTS=1,-1 PERIODIC=NO" in lines
    (metad,) = (line for line in lines if line.startswith("metad:"))
    for word in (
        *("ARG=phi,s", "SIGMA=0.25,0.01", "HEIGHT=1.2", "PACE=100", "BIASFACTOR=8", "TEMP=300"),
        *("GRID_MIN=-pi,-0.2", "GRID_MAX=pi,0.2", "GRID_BIN=126,200", "FILE=HILLS"),
    ):
        assert word in metad.split()
    assert "@" not in text


def test_coordination_and_size():
    options: dict[str, Any] = {"widths": [0.1], "low": [0.0], "high": [2.0], **OPTIONS}
    text = plumed_input(Coordination([[0, 1], [0, 2]], 5, 0.17, 0.0, 6, 8), ["c"], restart=False, **options)
    assert "RESTART" not in text and "@" not in text
    assert "c_n: DISTANCES ATOMS1=1,2 ATOMS2=1,3 LESS_THAN={RATIONAL R_0=0.17 D_0=0 NN=6 MM=8}" in text
    assert "rg: GYRATION TYPE=RADIUS ATOMS=1-5" in plumed_input(RadiusOfGyration(5), ["rg"], **options)
    with pytest.raises(InputError, match="by hand"):
        plumed_input(RadiusOfGyration(5, [1.0, 2, 3, 4, 5]), ["rg"], **options)
    with pytest.raises(ShapeError, match="names"):
        plumed_input(Distance([[0, 1], [1, 2]], 5), ["d"], **options)
