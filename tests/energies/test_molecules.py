"""The shipped molecules: geometry, chirality, symmetry; and structures in memory."""

import math

import pytest
import torch

from invdiff.datasets.molecules.internal import from_internal
from invdiff.datasets.molecules.structure import Structure
from invdiff.energies.molecules import alanine_dipeptide, chloride_exchange, force_field, glycine_dipeptide
from invdiff.errors import InputError, ShapeError
from invdiff.operators.molecular import Angle, Distance, Torsion

DOUBLE = torch.float64


def test_internal_coordinates_come_back():
    g = torch.Generator().manual_seed(0)
    rows, places = [], [(0, 0, 0), (0, 0, 0), (1, 0, 0), (2, 1, 0), (1, 2, 3), (4, 1, 0)]
    for i, j, k in places:
        u = torch.rand(3, generator=g)
        rows.append((i, 0.1 + 0.1 * float(u[0]), j, 60 + 100 * float(u[1]), k, 360 * float(u[2]) - 180))
    x = from_internal(rows)[None]
    for n in range(3, 6):
        i, length, j, angle, k, dihedral = rows[n]
        assert float(Distance([n, i], 6).forward(x)) == pytest.approx(length)
        assert math.degrees(float(Angle([n, i, j], 6).forward(x))) == pytest.approx(angle)
        assert math.degrees(float(Torsion([n, i, j, k], 6).forward(x))) == pytest.approx(dihedral)
    with pytest.raises(InputError, match="come before"):
        from_internal([(0, 0, 0, 0, 0, 0), (1, 0.1, 0, 0, 0, 0)])


@pytest.mark.parametrize(("phi", "psi"), [(-80.0, 75.0), (60.0, -120.0)])
def test_alanine_dipeptide_is_left_handed_with_the_dihedrals_asked_for(phi, psi):
    pytest.importorskip("openmm")
    s = alanine_dipeptide(phi, psi)
    rows = [[4, 6, 8, 14], [6, 8, 14, 16], [1, 4, 6, 8], [8, 14, 16, 18]]
    found = torch.rad2deg(Torsion(rows, 22).forward(s.positions))[0].abs() * torch.tensor([1, 1, 1, 1])
    assert found.tolist() == pytest.approx([abs(phi), abs(psi), 180, 180], abs=1e-6)
    signed = torch.rad2deg(Torsion(rows[:2], 22).forward(s.positions))[0]
    assert signed.tolist() == pytest.approx([phi, psi], abs=1e-6)
    # seen from HA towards CA, CO, CB, N run clockwise in an L amino acid
    x = s.positions[0] - s.positions[0, 8]
    assert float(torch.linalg.cross(x[14], x[10]) @ x[6]) > 0 and s.names[10] == "CB"
    assert len(s.bonds) == 21 and s.atoms == 22 and float(s.masses().sum()) == pytest.approx(144.17, abs=0.01)


def test_glycine_dipeptide_has_no_hand():
    pytest.importorskip("openmm")
    from invdiff.energies.openmm_torch import TorchSystem

    right, left = glycine_dipeptide(70.0, -40.0), glycine_dipeptide(-70.0, 40.0)
    mirrored = right.positions * torch.tensor([1.0, 1.0, -1.0], dtype=DOUBLE)
    energy = TorchSystem(right.system)
    torch.testing.assert_close(energy(mirrored)[0], energy(right.positions)[0])
    swapped = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 9, *range(11, 19)]  # the two hydrogens of CA change places
    phi = Torsion([[4, 6, 8, 11], [6, 8, 11, 13]], 19)
    torch.testing.assert_close(phi.forward(mirrored), phi.forward(left.positions))
    torch.testing.assert_close(energy(mirrored[:, swapped])[0], energy(right.positions)[0], rtol=1e-9, atol=1e-6)


def test_chloride_exchange_is_symmetric():
    near, far = Distance([0, 4], 6), Distance([0, 5], 6)
    x = chloride_exchange(0.18, 0.3).positions
    assert float(near.forward(x)) == pytest.approx(0.18) and float(far.forward(x)) == pytest.approx(0.3)
    y = chloride_exchange(0.3, 0.18).positions * torch.tensor([1.0, 1.0, -1.0], dtype=DOUBLE)
    torch.testing.assert_close(y[:, [0, 1, 2, 3, 5, 4]], x)
    assert chloride_exchange().charge == -1


def test_structures_and_force_fields_that_do_not_fit():
    pytest.importorskip("openmm")
    s = alanine_dipeptide()
    with pytest.raises(ShapeError, match="22"):
        Structure(s.positions[:, :5], s.symbols)
    with pytest.raises(InputError, match="NaN"):
        Structure(s.positions * math.nan, s.symbols)
    with pytest.raises(ShapeError, match="particles"):
        Structure(s.positions[:, :5], s.symbols[:5], system=s.system)
    with pytest.raises(InputError, match="topology"):
        force_field(chloride_exchange())
    with pytest.raises(InputError, match="solvent"):
        alanine_dipeptide(solvent="wine")
    with pytest.raises(InputError, match="does not fit"):
        force_field(s, files=("tip3p.xml",))
    vacuum = force_field(s, solvent=None)
    assert vacuum.system.getNumForces() == s.system.getNumForces() - 1
    assert float(chloride_exchange().masses()[4]) == pytest.approx(35.45, abs=0.01)
