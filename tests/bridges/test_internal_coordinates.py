"""Internal coordinates: round trips, the volume element, forces, rotors that fold, windows."""

import math

import pytest
import torch
from torch import Tensor

from invdiff.bridges.internal_coordinates import Chart, ChartEnergy, ChartVariable, tree
from invdiff.bridges.target import Target
from invdiff.energies.analytic import pair_distances
from invdiff.energies.base import FromPotential
from invdiff.errors import InputError
from invdiff.molecules.parts import charted

# Butane-like: C0-C1-C2-C3, a methyl on C3 (4, 5, 6) and single atoms on C1 and C2 of different elements.
BONDS = [(0, 1), (1, 2), (2, 3), (3, 4), (3, 5), (3, 6), (1, 7), (2, 8)]
SYMBOLS = ("C", "C", "C", "C", "H", "H", "H", "F", "Cl")


def molecules(n: int = 40) -> Tensor:
    """Configurations near one, without clashes or straight angles."""
    rng = torch.Generator().manual_seed(0)
    chain = torch.tensor(
        [[0, 0, 0], [1.5, 0, 0], [2.0, 1.4, 0], [3.4, 1.5, 0.4], [3.8, 2.5, 0.6], [3.7, 0.9, 1.3], [4.0, 1.1, -0.5],
         [1.9, -0.6, 0.8], [1.5, 1.9, -0.9]],
        dtype=torch.float64,
    )  # fmt: skip
    return 0.1 * chain + 0.004 * torch.randn(n, 9, 3, generator=rng, dtype=torch.float64)


class End:
    """The distance of two atoms."""

    period, units = (None,), ("nm",)

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0] - x[:, 3]).norm(dim=1, keepdim=True)


def test_tree_places_every_atom_by_earlier_ones() -> None:
    rows, placed = tree(BONDS, SYMBOLS), set[int]()
    bonded = {frozenset(b) for b in BONDS}
    for n, (m, *others) in enumerate(rows):
        assert all(i in placed for i in others[: min(n, 3)]) and len(set(others[: min(n, 3)])) == min(n, 3)
        assert n == 0 or frozenset((m, others[0])) in bonded
        placed.add(m)
    with pytest.raises(InputError, match="connect"):
        tree(BONDS[:-1], SYMBOLS)


def test_round_trip_keeps_the_shape() -> None:
    x = molecules()
    chart = Chart(x, BONDS, SYMBOLS)
    y = chart.decode(chart.encode(x))
    # The methyl's dihedral folds into a third of a turn, which renames its hydrogens: compare without them.
    heavy = [0, 1, 2, 3, 7, 8]
    assert torch.allclose(pair_distances(x[:, heavy]), pair_distances(y[:, heavy]), atol=1e-9)
    q = chart.encode(x)
    assert torch.allclose(chart.encode(y), q, atol=1e-9)
    assert q.shape == (40, 21) and torch.allclose(q.std(0)[:15], torch.ones(15, dtype=q.dtype), atol=0.05)


def test_handedness_is_kept() -> None:
    x = molecules()
    chart = Chart(x, BONDS, SYMBOLS)
    y = chart.decode(chart.encode(x))
    volume = [torch.linalg.det(z[:, [0, 2, 7]] - z[:, [1]]) for z in (x, y)]
    assert torch.allclose(volume[0], volume[1], atol=1e-12)


def test_volume_element_is_the_determinant() -> None:
    # With six coordinates fixed (atom 0 at the origin, 1 on z, 2 in x-z) the determinant lacks r1^2 r2 sin(theta2),
    # which is what the integral over rotations brings back.
    x = molecules(3)
    chart = Chart(x, BONDS, SYMBOLS)
    order = [row[0] for row in chart.rows]

    def free(q: Tensor) -> Tensor:
        z = chart.decode(q[None])[0][order]
        return torch.cat([z[1][2:], z[2][[0, 2]], z[3:].reshape(-1)])

    values = []
    for q in chart.encode(x):
        jacobian = torch.autograd.functional.jacobian(free, q)
        r, theta, _ = chart._split(q[None])
        turned = (2 * r[0, 0].log() + r[0, 1].log() + theta[0, 0].sin().log()).item()
        values.append(torch.linalg.slogdet(jacobian)[1].item() + turned - chart.log_volume(q[None]).item())
    assert values[1] == pytest.approx(values[0], abs=1e-9) and values[2] == pytest.approx(values[0], abs=1e-9)


def test_energy_in_the_chart_has_its_force_and_counts_its_calls() -> None:
    x = molecules()
    springs = FromPotential(lambda z: 500 * (pair_distances(z) - 0.2).square().sum(1), (9, 3), "kJ/mol")
    chart = Chart(x, BONDS, SYMBOLS)
    energy = ChartEnergy(springs, chart, 2.5)
    q = chart.encode(x[:4])
    u, force = energy(q)
    expected = springs(chart.decode(q))[0] - 2.5 * chart.log_volume(q) + 2.5 * chart.wall(q)
    assert torch.allclose(u, expected) and energy.calls == springs.calls == 8
    h, step = 1e-6, torch.randn(q.shape, generator=torch.Generator().manual_seed(0), dtype=q.dtype)
    slope = (energy(q + h * step)[0] - energy(q - h * step)[0]) / (2 * h)
    assert torch.allclose(slope, -(force * step).sum(1), rtol=1e-5, atol=1e-4)


def test_impossible_coordinates_have_no_energy_and_spoil_no_other() -> None:
    x = molecules()
    chart = Chart(x, BONDS, SYMBOLS)
    springs = FromPotential(lambda z: pair_distances(z).sum(1), (9, 3), "kJ/mol")
    q = chart.encode(x[:2])
    q[0, 0] = -1e4  # a negative bond length
    u, force = ChartEnergy(springs, chart, 2.5)(q)
    assert not torch.isfinite(u[0]) and torch.isfinite(u[1]) and torch.isfinite(force[1]).all()


def test_failures_in_the_chart_count_for_the_molecule() -> None:
    x = molecules()
    chart = Chart(x, BONDS, SYMBOLS)
    target = Target(FromPotential(lambda z: pair_distances(z).sum(1), (9, 3), "kJ/mol"), 2.5, End())
    q = chart.encode(x[:3])
    q[1, 0] = -1e4
    inner = charted(target, chart)
    inner.evaluate(q)
    assert inner.failed == target.failed == 1


def test_rotors_fold_and_windows_cut_where_told() -> None:
    x = molecules()
    chart = Chart(x, BONDS, SYMBOLS)
    assert sorted(set(chart.half.tolist())) == [pytest.approx(math.pi / 3), pytest.approx(math.pi)]
    assert int((chart.half < 2).sum()) == 1
    dihedral = (3, 2, 1, 0)
    shifted = Chart(x, BONDS, SYMBOLS, {dihedral: 0.5})
    c = chart.rows[3:].index(dihedral)
    assert float(shifted.mean[2][c]) == pytest.approx(0.5 + math.pi)
    with pytest.raises(InputError, match="windows"):
        Chart(x, BONDS, SYMBOLS, {(0, 1, 2, 5): 0.0})
    q = chart.encode(x[:1])
    assert float(chart.wall(q)) == 0
    q[0, 15 + c] += 1.1 * 2 * math.pi / float(chart.scale[2][c])
    assert float(chart.wall(q)) > 1


def test_variable_of_x_is_one_of_q() -> None:
    x = molecules()
    chart = Chart(x, BONDS, SYMBOLS)
    assert torch.allclose(ChartVariable(End(), chart).forward(chart.encode(x)), End().forward(x), atol=1e-12)
