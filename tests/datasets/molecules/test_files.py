"""Molecules in files: what is written is read back, other programs' files are read, damage is named."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.datasets.molecules import Structure, read_structure
from invdiff.datasets.molecules.grid import Grid, free_energy_difference
from invdiff.datasets.molecules.openmm_bias import read_openmm_bias, write_openmm_bias
from invdiff.datasets.molecules.plumed import (
    Hills,
    read_colvar,
    read_fes,
    read_hills,
    write_colvar,
    write_fes,
    write_hills,
)
from invdiff.datasets.molecules.trajectory import read_trajectory, write_samples
from invdiff.datasets.molecules.xyz import read_xyz, write_xyz
from invdiff.errors import FileError, FormatError, InputError, InvdiffError, ShapeError

DOUBLE = torch.float64


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# ---- structures ---------------------------------------------------------------------------------------------------
def test_xyz_both_ways(tmp_path):
    s = Structure(randn(3, 4, 3), ("C", "Cl", "H", "O"), charge=-1, multiplicity=2)
    back = read_xyz(write_xyz(tmp_path / "a.xyz", s))
    assert back.symbols == s.symbols and (back.charge, back.multiplicity) == (-1, 2)
    torch.testing.assert_close(back.positions, s.positions, rtol=0, atol=1e-8)


def test_xyz_in_angstrom_with_columns_in_any_order(tmp_path):
    text = "2\nProperties=mass:R:1:pos:R:3:species:S:1 charge=1\n12.0 1.0 2.0 3.0 C\n1.0 0.0 0.0 -10.0 h\n"
    (tmp_path / "a.extxyz").write_text(text)
    s = read_structure(tmp_path / "a.extxyz")
    assert s.symbols == ("C", "H") and s.charge == 1
    assert s.positions.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, 0, 0, -1])


@pytest.mark.parametrize(
    "text",
    ["2\n\nC 0 0 0\n", "C 0 0 0\n", "1\n\nC 0 0\n", "1\n\nC 0 0 x\n", "1\n\nC 0 0 0\n1\n\nO 0 0 0\n", "0\n\n"],
)
def test_damaged_xyz(tmp_path, text):
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(FormatError, match="a.xyz"):
        read_xyz(tmp_path / "a.xyz")


@pytest.fixture
def dipeptide():
    pytest.importorskip("openmm")
    from invdiff.energies.molecules import alanine_dipeptide

    return alanine_dipeptide()


def test_pdb_mmcif_and_system_xml(tmp_path, dipeptide):
    import openmm
    from openmm import app

    from invdiff.energies.building import build_energy, build_structure

    for name, writer in (("a.pdb", app.PDBFile), ("a.cif", app.PDBxFile)):
        with (tmp_path / name).open("w") as file:
            writer.writeFile(dipeptide.topology, dipeptide.positions[0].numpy() * 10, file)
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(dipeptide.system))
    expected = build_energy(dipeptide)(dipeptide.positions)[0]
    for options in (
        {"file": tmp_path / "a.pdb", "solvent": "obc2"},
        {"file": tmp_path / "a.cif", "solvent": "obc2"},
        {"file": tmp_path / "system.xml", "positions": tmp_path / "a.pdb"},
    ):
        found = build_structure(**options)
        assert found.symbols == dipeptide.symbols and {frozenset(b) for b in found.bonds} == {
            frozenset(b) for b in dipeptide.bonds
        }
        torch.testing.assert_close(found.positions, dipeptide.positions, rtol=0, atol=5.1e-5)  # PDB: 0.001 Å
        torch.testing.assert_close(build_energy(found)(dipeptide.positions)[0], expected)
    with pytest.raises(InputError, match="positions"):
        read_structure(tmp_path / "system.xml")
    (tmp_path / "integrator.xml").write_text(openmm.XmlSerializer.serialize(openmm.VerletIntegrator(0.001)))
    with pytest.raises(FormatError, match="VerletIntegrator"):
        read_structure(tmp_path / "integrator.xml", tmp_path / "a.pdb")
    (tmp_path / "bad.xml").write_text("<System")
    with pytest.raises(FormatError, match="bad.xml"):
        read_structure(tmp_path / "bad.xml", tmp_path / "a.pdb")


GROMACS = """
[ defaults ]
1 2 yes 0.5 0.8333
[ atomtypes ]
A 6 12.011 0.0 A 0.34 0.36
B 17 35.45 0.0 A 0.33 0.5
[ moleculetype ]
MOL 3
[ atoms ]
1 A 1 MOL C1 1 0.25 12.011
2 B 1 MOL CL 2 -0.25 35.45
[ bonds ]
1 2 1 0.178 200000
[ system ]
chloride
[ molecules ]
MOL 1
"""
GRO = """chloride
    2
    1MOL     C1    1   0.100   0.200   0.300
    1MOL     CL    2   0.300   0.200   0.300
   5 5 5
"""


def test_gromacs(tmp_path):
    pytest.importorskip("openmm")
    from invdiff.energies.building import build_energy

    (tmp_path / "a.top").write_text(GROMACS)
    (tmp_path / "a.gro").write_text(GRO)
    s = read_structure(tmp_path / "a.top", tmp_path / "a.gro")
    assert s.symbols == ("C", "Cl") and s.positions[0, 1].tolist() == pytest.approx([0.3, 0.2, 0.3])
    u = build_energy(s)(s.positions)[0]
    assert float(u) == pytest.approx(0.5 * 200000 * 0.022**2, rel=1e-9)  # the bonded pair is excluded
    (tmp_path / "bad.top").write_text("[ defaults ]\n1\n")
    with pytest.raises(FormatError, match="bad.top"):
        read_structure(tmp_path / "bad.top", tmp_path / "a.gro")


def amber_topology():
    """A prmtop of two bonded atoms (C, Cl), every section that readers ask for."""
    pointers = [2, 2, 0, 1, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    ints, reals, words = "%FORMAT(10I8)", "%FORMAT(5E16.8)", "%FORMAT(20a4)"
    charge = [0.25 * 18.2223, -0.25 * 18.2223]
    wells = [(3.8, 0.1), (3.85, math.sqrt(0.0266)), (3.9, 0.266)]  # Å, kcal/mol: sums of radii, roots of products
    a, b = [e * r**12 for r, e in wells], [2 * e * r**6 for r, e in wells]
    sections: list[tuple[str, str, list[Any]]] = [
        ("TITLE", words, ["MOL"]),
        ("POINTERS", ints, pointers),
        ("ATOM_NAME", words, ["C1", "CL"]),
        ("CHARGE", reals, charge),
        ("ATOMIC_NUMBER", ints, [6, 17]),
        ("MASS", reals, [12.011, 35.45]),
        ("ATOM_TYPE_INDEX", ints, [1, 2]),
        ("NUMBER_EXCLUDED_ATOMS", ints, [1, 1]),
        ("NONBONDED_PARM_INDEX", ints, [1, 2, 2, 3]),
        ("RESIDUE_LABEL", words, ["MOL"]),
        ("RESIDUE_POINTER", ints, [1]),
        ("BOND_FORCE_CONSTANT", reals, [200.0]),
        ("BOND_EQUIL_VALUE", reals, [1.78]),
        *((name, reals, []) for name in ("ANGLE_FORCE_CONSTANT", "ANGLE_EQUIL_VALUE", "DIHEDRAL_FORCE_CONSTANT")),
        *((name, reals, []) for name in ("DIHEDRAL_PERIODICITY", "DIHEDRAL_PHASE", "SCEE_SCALE_FACTOR")),
        *((name, reals, []) for name in ("SCNB_SCALE_FACTOR", "SOLTY")),
        *((name, reals, []) for name in ("HBOND_ACOEF", "HBOND_BCOEF", "HBCUT")),
        ("LENNARD_JONES_ACOEF", reals, a),
        ("LENNARD_JONES_BCOEF", reals, b),
        ("BONDS_INC_HYDROGEN", ints, []),
        ("BONDS_WITHOUT_HYDROGEN", ints, [0, 3, 1]),
        *((name, ints, []) for name in ("ANGLES_INC_HYDROGEN", "ANGLES_WITHOUT_HYDROGEN")),
        *((name, ints, []) for name in ("DIHEDRALS_INC_HYDROGEN", "DIHEDRALS_WITHOUT_HYDROGEN")),
        ("EXCLUDED_ATOMS_LIST", ints, [2, 0]),
        ("AMBER_ATOM_TYPE", words, ["c3", "cl"]),
        ("RADIUS_SET", "%FORMAT(1a80)", ["modified Bondi radii (mbondi)"]),
        ("RADII", reals, [1.7, 1.5]),
        ("SCREEN", reals, [0.72, 0.8]),
    ]
    out = ["%VERSION  VERSION_STAMP = V0001.000  DATE = 01/01/26  00:00:00"]
    for name, form, values in sections:
        out += [f"%FLAG {name}", form]
        if form == ints:
            out.append("".join(f"{v:8d}" for v in values[:10]))
            out += ["".join(f"{v:8d}" for v in values[k : k + 10]) for k in range(10, len(values), 10)]
        elif form == reals:
            out.append("".join(f"{v:16.8E}" for v in values))
        else:
            out.append("".join(f"{v:<4s}" for v in values))
    return "\n".join(out) + "\n"


def test_amber(tmp_path):
    pytest.importorskip("openmm")
    from invdiff.energies.building import build_energy, build_structure

    (tmp_path / "a.prmtop").write_text(amber_topology())
    places = "".join(f"{v:12.7f}" for v in (1.0, 2.0, 3.0, 3.0, 2.0, 3.0))
    (tmp_path / "a.inpcrd").write_text(f"MOL\n    2\n{places}\n")
    s = build_structure(file=tmp_path / "a.prmtop", positions=tmp_path / "a.inpcrd")
    assert s.symbols == ("C", "Cl") and s.positions[0, 1].tolist() == pytest.approx([0.3, 0.2, 0.3])
    u = build_energy(s)(s.positions)[0]
    assert float(u) == pytest.approx(4.184 * 200 * (2.0 - 1.78) ** 2, rel=1e-6)
    solvated = build_structure(file=tmp_path / "a.prmtop", positions=tmp_path / "a.inpcrd", solvent="obc2")
    x = solvated.positions
    torch.testing.assert_close(build_energy(solvated)(x)[0], build_energy(solvated, "openmm")(x)[0], rtol=0, atol=1e-6)
    assert float(build_energy(solvated)(x)[0]) < float(u)  # a dipole is solvated


def test_formats_that_are_not_known(tmp_path):
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(InputError, match="known"):
        read_structure(tmp_path / "a.doc", tmp_path / "a.doc")
    with pytest.raises(FileError):
        read_structure(tmp_path / "missing.pdb")


# ---- samples ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "error"), [("xtc", 5.1e-4), ("dcd", 1e-6)])
def test_samples_in_a_folder(tmp_path, dipeptide, kind, error):
    pytest.importorskip("mdtraj")
    x = dipeptide.positions + 0.02 * randn(7, 22, 3)
    columns = {"log_weight": randn(7), "cv": randn(7, 2)}
    paths = write_samples(tmp_path, dipeptide, x, columns, {"units": "nm, kJ/mol"}, kind)
    assert [p.name for p in paths] == ["topology.pdb", f"samples.{kind}", "samples.npz"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)  # no temporary files
    torch.testing.assert_close(read_trajectory(paths[1], paths[0]), x, rtol=0, atol=error)
    torch.testing.assert_close(read_trajectory(paths[2]), x)
    with np.load(paths[2], allow_pickle=False) as held:
        assert held["log_weight"].tolist() == columns["log_weight"].tolist()
        assert str(held["units"]) == "nm, kJ/mol" and held["symbols"][1] == "C"
    assert read_structure(paths[0]).symbols == dipeptide.symbols
    with pytest.raises(ShapeError, match="log_weight"):
        write_samples(tmp_path, dipeptide, x, {"log_weight": randn(6)})
    with pytest.raises(FileError, match="create"):
        write_samples(tmp_path / "nowhere", dipeptide, x, {})
    (tmp_path / "bad.xtc").write_bytes(b"no trajectory")
    with pytest.raises(FormatError):
        read_trajectory(tmp_path / "bad.xtc", paths[0])


# ---- grids and bias files -----------------------------------------------------------------------------------------
def ring(points=40):
    phi = -math.pi + 2 * math.pi / points * torch.arange(points, dtype=DOUBLE)
    return Grid(torch.cos(phi) + 0.3 * torch.sin(2 * phi), (-math.pi,), (math.pi,), (True,), ("phi",))


def plane():
    x, y = torch.linspace(0, 1, 5, dtype=DOUBLE), torch.linspace(-2, 2, 9, dtype=DOUBLE)
    return Grid(x[:, None] + 10 * y, (0.0, -2.0), (1.0, 2.0), (False, False), ("d1", "d2"))


def test_grid_reads_between_its_points():
    g = plane()
    s = torch.tensor([[0.1, -1.3], [0.95, 1.9], [5.0, 9.0]], dtype=DOUBLE)
    assert g.at(s).tolist() == pytest.approx([0.1 - 13, 0.95 + 19, 1 + 20])  # linear within, constant beyond
    r = ring(400)
    s = torch.tensor([[3.13], [-3.15], [9.0]], dtype=DOUBLE)
    torch.testing.assert_close(r.at(s), (torch.cos(s) + 0.3 * torch.sin(2 * s))[:, 0], rtol=0, atol=1e-4)


def test_free_energy_difference():
    g = Grid(torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=DOUBLE), (0.0,), (4.0,), (True,), ("s",))
    inside = torch.tensor([False, False, True, True])
    assert free_energy_difference(g, inside, 2.5) == pytest.approx(1.0)
    line = Grid(torch.zeros(5, dtype=DOUBLE), (0.0,), (1.0,), (False,), ("s",))
    half = torch.tensor([True, True, False, False, False])  # trapezoids: 1.5 cells against 2.5
    assert free_energy_difference(line, half, 1.0) == pytest.approx(math.log(2.5 / 1.5))


@pytest.mark.parametrize("stretched", [False, True])
def test_hills_both_ways(tmp_path, stretched):
    centres, widths = randn(6, 2), 0.2 + randn(6, 2, seed=1).abs()
    period = ((-math.pi, math.pi), None)
    h = Hills(("phi", "d"), centres, widths, 0.1 + torch.rand(6).double(), torch.arange(6.0), 8.0, period, stretched)
    back = read_hills(write_hills(tmp_path / "HILLS", h))
    assert (back.names, back.gamma, back.period, back.stretched) == (h.names, 8.0, period, stretched)
    s = randn(20, 2, seed=2)
    torch.testing.assert_close(back.bias(s), h.bias(s), rtol=1e-9, atol=1e-9)
    shifted = s + torch.tensor([2 * math.pi, 0.0], dtype=DOUBLE)
    torch.testing.assert_close(h.bias(shifted), h.bias(s))
    if not stretched:
        d = s[:, None] - centres
        d[..., 0] = torch.atan2(torch.sin(d[..., 0]), torch.cos(d[..., 0]))
        expected = (h.heights.double() * torch.exp(-0.5 * (d / widths).square().sum(-1))).sum(1)
        torch.testing.assert_close(h.bias(s), expected)


def test_hills_of_plumed(tmp_path):
    # As PLUMED writes them: the heights of a well-tempered run are those of -F, gamma/(gamma - 1) times the bias's
    text = (
        "#! FIELDS time phi sigma_phi height biasf\n#! SET multivariate false\n#! SET kerneltype stretched-gaussian\n"
        "#! SET min_phi -pi\n#! SET max_phi pi\n 1 -1.5 0.35 1.3333333333 4\n 2 3.1 0.35 1.2 4\n"
    )
    (tmp_path / "HILLS").write_text(text)
    h = read_hills(tmp_path / "HILLS")
    assert h.gamma == 4 and h.heights.tolist() == pytest.approx([1.0, 0.9])
    end = math.exp(-6.25)
    kernel = (math.exp(-0.5 * (0.5 / 0.35) ** 2) - end) / (1 - end)
    assert float(h.bias(torch.tensor([[-1.0]]))) == pytest.approx(kernel, rel=1e-9)
    across = float(h.bias(torch.tensor([[-3.1]])))  # the second hill reaches over the end of the circle
    assert across == pytest.approx(0.9 * (math.exp(-0.5 * ((2 * math.pi - 6.2) / 0.35) ** 2) - end) / (1 - end))
    assert h.on_grid(ring()).values.shape == (40,)
    for damage in (text.replace("biasf\n", "bias\n"), text + " 3 0.1 0.35", text.replace("stretched-gaussian", "box")):
        (tmp_path / "HILLS").write_text(damage)
        with pytest.raises(FormatError, match="HILLS"):
            read_hills(tmp_path / "HILLS")


@pytest.mark.parametrize("make", [ring, plane], ids=["periodic", "plane"])
def test_fes_both_ways(tmp_path, make):
    g = make()
    back = read_fes(write_fes(tmp_path / "fes.dat", g))
    assert (back.names, back.periodic) == (g.names, g.periodic)
    assert back.low == pytest.approx(g.low) and back.high == pytest.approx(g.high)
    torch.testing.assert_close(back.values, g.values, rtol=1e-10, atol=1e-10)
    rows = [line.split() for line in (tmp_path / "fes.dat").read_text().splitlines() if line[:1] not in ("#", "")]
    if make is plane:  # the first variable runs fastest
        assert [float(r[0]) for r in rows[:5]] == [0, 0.25, 0.5, 0.75, 1] and {r[1] for r in rows[:5]} == {"-2"}
    (tmp_path / "cut.dat").write_text("\n".join((tmp_path / "fes.dat").read_text().splitlines()[:-4]))
    with pytest.raises(FormatError, match="rows"):
        read_fes(tmp_path / "cut.dat")


def test_fes_counts_points_as_plumed_does(tmp_path):
    written = write_fes(tmp_path / "fes.dat", plane()).read_text()  # 5 x ... points, not periodic
    assert "#! SET nbins_" in written and f"SET nbins_{plane().names[0]} {plane().values.shape[0]}" in written
    rows = "\n".join(f"{d / 4} {d * d}" for d in range(5))
    for bins in (5, 4):  # PLUMED counts one more bin on such an axis; others count the gaps
        head = (
            f"#! FIELDS d file.free\n#! SET min_d 0\n#! SET max_d 1\n#! SET nbins_d {bins}\n#! SET periodic_d false\n"
        )
        (tmp_path / "fes.dat").write_text(head + rows + "\n")
        assert read_fes(tmp_path / "fes.dat").values.tolist() == [0, 1, 4, 9, 16]


def test_colvar_both_ways(tmp_path):
    path = write_colvar(tmp_path / "COLVAR", {"phi": randn(5), "logweight": randn(5, seed=1)})
    back = read_colvar(path)
    assert list(back) == ["time", "phi", "logweight"] and back["time"].tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(back["phi"], randn(5), rtol=1e-10, atol=1e-10)
    with pytest.raises(ShapeError, match="lengths"):
        write_colvar(tmp_path / "COLVAR", {"phi": randn(5), "psi": randn(4)})
    (tmp_path / "bad").write_text("1 2 3\n")
    with pytest.raises(InvdiffError, match="FIELDS"):
        read_colvar(tmp_path / "bad")


def test_openmm_bias_both_ways(tmp_path):
    g = ring()
    first = write_openmm_bias(tmp_path, g)
    second = write_openmm_bias(tmp_path, g)
    assert [first.name, second.name] == ["bias_1_1.npy", "bias_2_1.npy"]
    table = np.load(first)
    assert table.shape == (41,) and table[0] == table[-1]  # OpenMM keeps both ends of the circle
    back = read_openmm_bias(tmp_path, g.low, g.high, True, g.names)
    torch.testing.assert_close(back.values, 2 * g.values)  # the sum of all runs
    (tmp_path / "plane").mkdir()
    p = plane()
    path = write_openmm_bias(tmp_path / "plane", p, (9, 17))
    assert np.load(path).shape == (17, 9)  # the last variable first
    back = read_openmm_bias(tmp_path / "plane", p.low, p.high, False, p.names)
    torch.testing.assert_close(back.values[::2, ::2], p.values)
    with pytest.raises(FileError, match="biasDir"):
        read_openmm_bias(tmp_path / "nothing", p.low, p.high, False, p.names)
    (tmp_path / "plane" / "bias_7_1.npy").write_bytes(b"not an array")
    with pytest.raises(FormatError, match="bias_7"):
        read_openmm_bias(tmp_path / "plane", p.low, p.high, False, p.names)
