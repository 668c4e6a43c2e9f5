"""Analytic energies: forces against differences, symmetries, known minima, what is refused."""

import math

import pytest
import torch

from invdiff.energies.analytic import (
    Coordinates,
    DoubleWell,
    LennardJones,
    MullerBrown,
    PairwiseDoubleWell,
    pair_distances,
)
from invdiff.energies.base import Energy, FromPotential, thermal_energy
from invdiff.errors import InputError, ShapeError

CASES = {
    "double well": DoubleWell(),
    "muller-brown": MullerBrown(),
    "dw-4": PairwiseDoubleWell(),
    "lj-13": LennardJones(),
}


def configurations(energy: Energy, count: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, *energy.domain_shape, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_force_is_minus_the_slope(name: str) -> None:
    energy = CASES[name]
    x = configurations(energy, 8)
    u, force = energy(x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    h = 1e-6
    slope = (energy(x + h * direction)[0] - energy(x - h * direction)[0]) / (2 * h)
    expected = -(force * direction).flatten(1).sum(1)
    # Central differences leave h^2 U''' / 6 and 1e-16 U / h.
    assert torch.allclose(slope, expected, rtol=1e-5, atol=1e-6 * float(1 + u.abs().max()))


def test_double_well_is_the_formula() -> None:
    u, _ = DoubleWell()(torch.tensor([[2.0, 1.0], [-2.0, 1.0], [0.0, 0.0]]))
    assert u.tolist() == pytest.approx([1.5, -1.5, 10.0])


def test_muller_brown_has_its_published_minima() -> None:
    x = torch.tensor([[-0.558224, 1.441726], [0.623499, 0.028038], [-0.050011, 0.466694]], dtype=torch.float64)
    u, force = MullerBrown(scale=1.0)(x)
    assert u.tolist() == pytest.approx([-146.6995, -108.1667, -80.7678], abs=1e-3)
    assert float(force.abs().max()) < 5e-2  # of forces of some 100 a tenth of a length away


def test_clusters_do_not_see_where_they_are_or_who_is_who() -> None:
    for energy in (PairwiseDoubleWell(), LennardJones(5)):
        x = 2 * configurations(energy, 4)
        turned = torch.linalg.qr(torch.randn(x.shape[-1], x.shape[-1], dtype=x.dtype))[0]
        order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0))
        assert torch.allclose(energy(x)[0], energy((x @ turned + 3.0)[:, order])[0], rtol=1e-9)


def test_two_lennard_jones_particles() -> None:
    # Two particles at distance 1: the pair counts 2 (1 - 2), the trap 1/2 (1/4 + 1/4).
    u, _ = LennardJones(2)(torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64))
    assert float(u) == pytest.approx(-2 + 0.25, abs=1e-9)


def test_lennard_jones_clash_is_finite_and_repels() -> None:
    near, nearer = torch.zeros(1, 2, 3, dtype=torch.float64), torch.zeros(1, 2, 3, dtype=torch.float64)
    near[0, 1, 0], nearer[0, 1, 0] = 0.3, 0.1
    energy = LennardJones(2)
    assert torch.isfinite(energy(nearer)[0]).all() and energy(nearer)[0] > energy(near)[0] > 1e3
    assert energy(nearer)[1][0, 1, 0] > 0


def test_calls_are_counted_and_shapes_checked() -> None:
    energy = DoubleWell()
    energy(torch.zeros(3, 2))
    energy(torch.zeros(4, 2))
    assert energy.calls == 7
    with pytest.raises(ShapeError, match="expects"):
        energy(torch.zeros(3, 3))
    with pytest.raises(InputError, match="at least 2"):
        LennardJones(1)


def test_units_and_temperature() -> None:
    assert thermal_energy(DoubleWell(), None) == 1
    in_kj = FromPotential(lambda x: x.square().sum(1), (2,), "kJ/mol")
    assert thermal_energy(in_kj, 300.0) == pytest.approx(2.494339, abs=1e-6)
    for energy, temperature in ((DoubleWell(), 300.0), (in_kj, None), (in_kj, -1.0), (in_kj, math.nan)):
        with pytest.raises(InputError, match="temperature"):
            thermal_energy(energy, temperature)
    with pytest.raises(InputError, match="units"):
        FromPotential(lambda x: x.sum(1), (2,), "eV")


def test_coordinates_and_distances() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert Coordinates((2, 0))(x).tolist() == [[3.0, 1.0]]
    square = torch.tensor([[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    assert pair_distances(square)[0].tolist() == pytest.approx([1.0, 1.0, math.sqrt(2)], abs=1e-5)
