"""Sensors, levels and coarse grids on the sphere: against scipy, closed forms and symmetry."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from invdiff.errors import InputError, ShapeError
from invdiff.operators import Coarsen, PointSensors, VerticalInterpolation, WindSpeed
from invdiff.operators.fields.sphere import block_axis, cell_areas
from invdiff.operators.fields.wind import wind_components, wind_from_components

SPHERE = ("latitude", "longitude")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=rng(seed), dtype=torch.float64)


def centres(n):
    """Latitudes of cell centres, ascending."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) * 180 / n - 90


def around(n, start=0.0):
    return start + torch.arange(n, dtype=torch.float64) * 360 / n


@pytest.mark.parametrize("flip", [(), (0,), (1,), (0, 1)])
def test_rectilinear_grid_equals_scipy(flip):
    axes = [torch.tensor([0.0, 1.0, 1.5, 4.0]), torch.tensor([-3.0, -1.0, 0.0, 2.0, 2.5])]
    points = rand(40, 2) * torch.tensor([4.0, 5.5]) + torch.tensor([0.0, -3.0])
    points[:2] = torch.tensor([[0.0, -3.0], [4.0, 2.5]])  # the corners
    field = randn(2, 3, 4, 5)
    given, axes2 = field, list(axes)
    for a in flip:
        given, axes2[a] = given.flip(a + 2), axes[a].flip(0)
    found = PointSensors((3, 4, 5), axes2, points).forward(given)
    for n in range(2):
        for c in range(3):
            f = RegularGridInterpolator([a.numpy() for a in axes], field[n, c].numpy())
            np.testing.assert_allclose(found[n, c].numpy(), f(points.numpy()), atol=1e-6)


def smooth(lat, lon):
    """A smooth scalar on the sphere: a polynomial of the position."""
    lat, lon = lat * math.pi / 180, lon * math.pi / 180
    x, y, z = torch.cos(lat) * torch.cos(lon), torch.cos(lat) * torch.sin(lon), torch.sin(lat)
    return x + 0.5 * y - 0.7 * z + 0.6 * x * y + 0.3 * y * z


GRIDS = {
    "cells 0..360": (centres(36), around(72)),
    "descending": (centres(36).flip(0), around(72)),
    "-180..180": (centres(36), around(72, -180.0)),
    "jump in the middle": (centres(36), (around(72) + 180) % 360 - 180),
    "with poles": (torch.linspace(90, -90, 37, dtype=torch.float64), around(72)),
    "longitude descending": (centres(36), around(72).flip(0)),
    "first meridian twice": (centres(36), torch.linspace(0, 360, 73, dtype=torch.float64)),
    "shifted": (centres(36), around(72, 1234.0 - 1080.0)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_smooth_field_everywhere_on_the_sphere(name):
    lat, lon = GRIDS[name]
    field = smooth(lat[:, None], lon[None])[None, None]
    points = torch.stack([rand(400) * 180 - 90, rand(400, seed=1) * 720 - 360], 1)
    points[:6] = torch.tensor([[90.0, 17.0], [-90.0, 3.0], [89.9, -170.0], [0.0, 359.99], [0.0, -0.01], [-88.0, 180.0]])
    op = PointSensors((1, len(lat), len(lon)), (lat, lon), points, SPHERE)
    found = op.forward(field)[0, 0]
    # Linear interpolation on steps of 5 degrees: at most h^2/8 |f''| an axis, |f''| below 4 here.
    assert float((found - smooth(points[:, 0], points[:, 1])).abs().max()) < 2 * (5 * math.pi / 180) ** 2 / 8 * 4


def test_all_conventions_agree():
    lat, lon = centres(18), around(36)
    field = randn(1, 1, 18, 36)
    points = torch.stack([rand(200) * 178 - 89, rand(200, seed=1) * 360], 1)
    first = PointSensors((1, 18, 36), (lat, lon), points, SPHERE).forward(field)
    moved = points - torch.tensor([0.0, 360.0])
    rolled = field.roll(18, -1)
    same = [
        PointSensors((1, 18, 36), (lat, lon), moved, SPHERE).forward(field),
        PointSensors((1, 18, 36), (lat, around(36, -180.0)), points, SPHERE).forward(rolled),
        PointSensors((1, 18, 36), (lat.flip(0), lon), points, SPHERE).forward(field.flip(-2)),
        PointSensors((1, 18, 36), (lat * math.pi / 180, lon * math.pi / 180), points * math.pi / 180, SPHERE,
                     units="radians").forward(field),
    ]  # fmt: skip
    for other in same:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-5)


def test_wind_is_continuous_across_the_pole():
    # A uniform flow over the pole along the x axis: u = -sin(lon), v = -sin(lat) cos(lon); of length 1 near the pole.
    lat, lon = centres(90), around(180)
    a, b = lat[:, None] * math.pi / 180, lon[None] * math.pi / 180
    wind = torch.stack([-torch.sin(b).expand(90, 180), -torch.sin(a) * torch.cos(b)])[None]
    points = torch.tensor([[89.7, 40.0], [89.95, 250.0], [-89.8, 10.0]], dtype=torch.float64)
    p, q = points[:, 0] * math.pi / 180, points[:, 1] * math.pi / 180
    true = torch.stack([-torch.sin(q), -torch.sin(p) * torch.cos(q)])
    found = PointSensors((2, 90, 180), (lat, lon), points, SPHERE, vectors=(True, True)).forward(wind)[0]
    torch.testing.assert_close(found, true, rtol=0, atol=2e-3)
    scalar = PointSensors((2, 90, 180), (lat, lon), points, SPHERE).forward(wind)[0]
    assert float((scalar - true).abs().max()) > 0.5  # without the change of sign the components cancel


def test_a_band_of_latitudes_is_not_closed_over_the_pole():
    lat = torch.linspace(-60, 60, 25, dtype=torch.float64)
    with pytest.raises(InputError, match="outside the grid"):
        PointSensors((1, 25, 36), (lat, around(36)), torch.tensor([[75.0, 0.0]]), SPHERE)


def test_pressure_is_interpolated_in_its_logarithm():
    levels = torch.tensor([1000.0, 850.0, 500.0, 250.0])
    lat, lon = centres(18), around(36)
    field = (3 * levels.double().log()[:, None, None] + lat[:, None]).expand(1, 1, 4, 18, 36)
    points = torch.tensor([[850.0, 10.0, 5.0], [700.0, -20.0, 359.0], [300.0, 0.0, 180.0]], dtype=torch.float64)
    op = PointSensors((1, 4, 18, 36), (levels, lat, lon), points, ("log", *SPHERE))
    torch.testing.assert_close(op.forward(field)[0, 0], 3 * points[:, 0].log() + points[:, 1], rtol=0, atol=1e-5)
    column = VerticalInterpolation((1, 4, 18, 36), levels.flip(0), [925.0, 500.0]).forward(field.flip(2))
    expected = 3 * torch.tensor([925.0, 500.0]).double().log()[:, None, None] + lat[:, None]
    torch.testing.assert_close(column[0, 0], expected.expand(2, 18, 36), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="same unit"):
        VerticalInterpolation((1, 4, 18, 36), levels, [50000.0])
    with pytest.raises(InputError, match="above 0"):
        VerticalInterpolation((1, 4, 18, 36), levels, [0.0])


@pytest.mark.parametrize("channels", [None, [0, 1, 1, 0, 1, 0]])
def test_sparse_matrix_is_the_operator(channels):
    base = PointSensors.example(rng())
    chosen = None if channels is None else torch.tensor(channels)
    op = PointSensors((2, 4, 8), base.axes, base.points, SPHERE, chosen, vectors=(True, False))
    x = randn(3, 2, 4, 8)
    dense = op.sparse().to_dense().double()
    torch.testing.assert_close(op.forward(x).flatten(1), x.flatten(1) @ dense.mT, rtol=0, atol=1e-6)
    y = randn(3, *op.range_shape)
    torch.testing.assert_close(op.adjoint(y).flatten(1), y.flatten(1) @ dense, rtol=0, atol=1e-6)
    if channels is not None:
        everything = PointSensors((2, 4, 8), base.axes, base.points, SPHERE, vectors=(True, False)).forward(x)
        torch.testing.assert_close(op.forward(x), everything[:, chosen, torch.arange(6)], rtol=0, atol=1e-12)


def test_sensors_outside_are_refused_or_dropped():
    axes = (torch.linspace(50, 58, 33), torch.linspace(-10, 2, 49))
    points = torch.tensor([[51.0, 359.0], [49.0, 0.0], [57.9, -10.0]])
    with pytest.raises(InputError, match=r"1 of 3 sensors lie outside.*\[49.0, 0.0\]"):
        PointSensors((1, 33, 49), axes, points, SPHERE)
    op = PointSensors((1, 33, 49), axes, points, SPHERE, outside="drop")
    assert op.range_mask is not None and op.range_mask.tolist() == [True, False, True] and op.size == 2
    y = op.forward(torch.ones(1, 1, 33, 49))
    torch.testing.assert_close(y[0, 0], torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(InputError, match="no sensor"):
        PointSensors((1, 33, 49), axes, points[1:2], SPHERE, outside="drop")


def test_single_precision_leaves_no_point_outside():
    lon = torch.arange(350.1, 360.05, 0.1).float()  # begins at 350.1000061
    op = PointSensors((1, 5, len(lon)), (torch.arange(50, 60, 2.0), lon), torch.tensor([[55.0, -9.9]]).double(), SPHERE)
    x = torch.arange(float(len(lon))).expand(1, 1, 5, -1)
    torch.testing.assert_close(op.forward(x)[0, 0], torch.zeros(1))


def test_bad_coordinates_are_refused():
    lat, lon, ok = centres(18), around(36), torch.tensor([[45.0, 10.0]])
    turn = math.pi / 180

    def build(lat=lat, lon=lon, points=ok, **more):
        return PointSensors((1, 18, 36), (lat, lon), points, SPHERE, **more)

    build()
    with pytest.raises(InputError, match="NaN"):
        build(points=torch.tensor([[45.0, math.nan]]))
    with pytest.raises(InputError, match="NaN"):
        build(lat=torch.cat([lat[:-1], torch.tensor([math.nan])]))
    with pytest.raises(InputError, match="in this order"):
        build(points=torch.tensor([[120.0, 45.0]]))  # longitude first
    with pytest.raises(InputError, match="radians"):
        build(lat=lat * turn, lon=lon * turn)
    many = torch.stack([rand(30) * 3 - 1.5, rand(30, seed=1) * 6], 1)
    with pytest.raises(InputError, match="look like radians"):
        build(points=many)
    assert build(points=many, units="degrees").range_shape == (1, 30)
    with pytest.raises(InputError, match="neither ascends"):
        build(lat=lat.roll(1))
    with pytest.raises(InputError, match="more than a turn"):
        build(lon=torch.arange(36) * 11.0)
    with pytest.raises(InputError, match="must follow"):
        PointSensors((1, 18, 36), (lat, lon), ok, ("latitude", "linear"))
    with pytest.raises(ShapeError, match="18 nodes"):
        build(lat=lat[:-1])
    with pytest.raises(InputError, match="channels outside"):
        build(channels=torch.tensor([1]))


def test_coarsening_keeps_the_global_mean_and_weights_by_area():
    lat, lon = centres(36), around(72)
    op = Coarsen((2, 36, 72), lat, lon, block_axis(lat, 4), block_axis(lon, 3))
    x = randn(3, 2, 36, 72)
    y = op.forward(x)
    before = (x * cell_areas(lat)[:, None]).mean((-2, -1))
    after = (y * cell_areas(block_axis(lat, 4))[:, None]).mean((-2, -1))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-7)
    # sum w x / sum w, with w the area between the parallels of each cell
    edges = torch.sin((lat[:1] - 2.5 + 5 * torch.arange(37)) * math.pi / 180)
    w = edges.diff()[:4, None]
    torch.testing.assert_close(y[..., 0, 0], (x[..., :4, :3] * w).sum((-2, -1)) / (3 * w.sum()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, -180.0, 360.0])
def test_coarsening_in_any_convention(shift):
    lat, lon = centres(12), around(24, 7.5)
    coarse = (torch.tensor([60.0, 0.0, -60.0]), around(4, 45.0))
    x = randn(1, 1, 12, 24)
    first = Coarsen((1, 12, 24), lat, lon, *coarse).forward(x)
    rolled = x.roll(12 if shift == -180 else 0, -1)
    other = Coarsen((1, 12, 24), lat.flip(0), lon + shift, coarse[0].flip(0), coarse[1]).forward(rolled.flip(-2))
    torch.testing.assert_close(other.flip(-2), first, rtol=0, atol=1e-6)
    offset = Coarsen((1, 12, 24), lat, lon, coarse[0], around(4, 10.0)).forward(x)  # cells over the seam
    torch.testing.assert_close(offset.mean(-1), first.mean(-1), rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="inside the old one"):
        Coarsen((1, 4, 24), lat[4:8], lon, coarse[0], coarse[1])


def test_wind():
    # From the north (0 or 360 degrees) the wind blows southward; from the east, westward.
    u, v = wind_components(torch.tensor([2.0, 3.0, 1.0]), torch.tensor([360.0, 90.0, 225.0]))
    torch.testing.assert_close(u, torch.tensor([0.0, -3.0, math.sqrt(0.5)]), rtol=0, atol=1e-6)
    torch.testing.assert_close(v, torch.tensor([-2.0, 0.0, math.sqrt(0.5)]), rtol=0, atol=1e-6)
    speed, direction = rand(50) * 20 + 0.1, rand(50, seed=1) * 359 + 0.5
    back = wind_from_components(*wind_components(speed, direction))
    torch.testing.assert_close(back[0], speed)
    torch.testing.assert_close(back[1], direction)
    for bad in [(-1.0, 10.0), (1.0, -5.0), (1.0, 361.0), (math.nan, 0.0)]:
        with pytest.raises(InputError):
            wind_components(*(torch.tensor([b]) for b in bad))
    op: Any = WindSpeed((2, 3)) @ PointSensors((2, 4, 5), (torch.arange(4), torch.arange(5)), rand(3, 2) * 3)
    x = randn(1, 2, 4, 5)
    np.testing.assert_allclose(op.forward(x).numpy(), op.inner.forward(x).norm(dim=1, keepdim=True).numpy(), rtol=1e-6)
    calm = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    assert torch.equal(op.vjp(calm, torch.ones(1, 1, 3, dtype=torch.float64)), calm)
    with pytest.raises(InputError, match="two different"):
        WindSpeed((2, 3), 0, 0)
