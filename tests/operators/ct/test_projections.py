"""Projections against exact line integrals (Gaussian blobs, discs, balls) and against scikit-image.

The rays are written out here once more from the documented axes, in (x, y, z), without the package's geometry.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.operators.ct import ConeCT, FanCT, ParallelCT, helix


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path))


def detector(n, spacing, offset):
    return (np.arange(n) - (n - 1) / 2) * spacing + offset


def rays(angles, u, v=(0.0,), *, axis=None, total=None, curved=False, tilt=0.0, z=None):
    """A point and a direction (x, y, z) of each ray, ``(views, rows, channels, 3)``."""
    points, directions = [], []
    for k, t in enumerate(np.asarray(angles)):
        along = np.array([-math.sin(t), math.cos(t), 0])
        across, up = np.array([math.cos(t), math.sin(t), 0]), np.array([0, 0, 1.0])
        height = (0.0 if z is None else float(z[k])) * up
        turned = math.cos(tilt) * across + math.sin(tilt) * up, math.cos(tilt) * up - math.sin(tilt) * across
        for b in v:
            for a in u:
                if axis is None:
                    points.append(height + a * turned[0] + b * turned[1])
                    directions.append(along)
                    continue
                source = height - axis * along
                if curved:
                    ray = total * (math.cos(a / total) * along + math.sin(a / total) * turned[0]) + b * turned[1]
                else:
                    ray = total * along + a * turned[0] + b * turned[1]
                points.append(source)
                directions.append(ray / np.linalg.norm(ray))
    shape = (len(angles), len(v), len(u), 3)
    return np.array(points).reshape(shape), np.array(directions).reshape(shape)


def blob(lines, middle, width):
    """Line integral of exp(-|r - middle|^2 / (2 width^2))."""
    points, directions = lines
    away = middle - points
    away = away - (away * directions).sum(-1, keepdims=True) * directions
    return width * math.sqrt(2 * math.pi) * np.exp(-(away**2).sum(-1) / (2 * width**2))


def ball(lines, middle, radius):
    points, directions = lines
    away = middle - points
    away = away - (away * directions).sum(-1, keepdims=True) * directions
    return 2 * np.sqrt(np.maximum(0, radius**2 - (away**2).sum(-1)))


def positions(shape, size, centre):
    """x, y, z of the middle of each pixel; arguments in the order of the array's axes."""
    axes = [(np.arange(n) - (n - 1) / 2) * s + c for n, s, c in zip(shape, size, centre, strict=True)]
    mesh = np.meshgrid(*axes, indexing="ij")[::-1]
    return np.stack(mesh if len(shape) == 3 else [*mesh, np.zeros(shape)], -1)


def image_of(op, value):
    return torch.from_numpy(value).float().reshape(1, *op.domain_shape)


def apart(found, exact):
    found = found.numpy().reshape(exact.shape)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


SHAPE, SIZE, CENTRE = (41, 50), (1.1, 0.8), (1.3, -2.1)
ANGLES = np.array([0.0, 0.3, 1.1, math.pi / 4, 2.0, 3.0, 3.9, 5.5])
PLANAR: dict[str, Any] = {
    "parallel": (lambda **o: ParallelCT(SHAPE, ANGLES, 71, detector_spacing=0.9, detector_offset=1.7, **o), {}),
    "flat fan": (
        lambda **o: FanCT(
            SHAPE, ANGLES, 80, source_axis=70, source_detector=110, detector_spacing=1.3, detector_offset=-2.0, **o
        ),
        {"axis": 70, "total": 110},
    ),
    "curved fan": (
        lambda **o: FanCT(
            SHAPE, ANGLES, 80, source_axis=60, source_detector=90, detector_spacing=1.2, curved=True, **o
        ),
        {"axis": 60, "total": 90, "curved": True},
    ),
}
COORDINATES = {
    "parallel": detector(71, 0.9, 1.7),
    "flat fan": detector(80, 1.3, -2.0),
    "curved fan": detector(80, 1.2, 0.0),
}


@pytest.mark.parametrize("backend", ["matrix", "numba", "torch"])
@pytest.mark.parametrize("beam", PLANAR)
def test_planar_beams_measure_line_integrals(beam, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    make, arguments = PLANAR[beam]
    op = make(pixel_size=SIZE, image_centre=CENTRE, truncated=True, backend=backend)
    middle, width = np.array([3.0, -4.0, 0.0]), 3.0  # off the centre on both axes: a flip or a swap moves it
    place = positions(SHAPE, SIZE, CENTRE)
    image = np.exp(-((place - middle) ** 2).sum(-1) / (2 * width**2))
    exact = blob(rays(ANGLES, COORDINATES[beam], **arguments), middle, width)
    # Linear interpolation widens the blob's variance by h^2/6 at most: 2 % of its height at width 3, less in the norm.
    assert apart(op.forward(image_of(op, image)), exact) < 0.012


def test_a_shift_of_a_fifth_of_a_pixel_is_seen():
    make, arguments = PLANAR["flat fan"]
    op = make(pixel_size=SIZE, image_centre=CENTRE, truncated=True)
    middle, place = np.array([3.0, -4.0, 0.0]), positions(SHAPE, SIZE, CENTRE)
    found = op.forward(image_of(op, np.exp(-((place - middle) ** 2).sum(-1) / 18)))
    wrong = blob(rays(ANGLES, COORDINATES["flat fan"] + 0.3, **arguments), middle, 3.0)  # 0.19 at the axis
    assert apart(found, wrong) > 0.03


def test_a_disc_has_its_chords():
    n, radius = 128, 40.0
    op = ParallelCT((n, n), ANGLES, 200)
    fine = positions((4 * n, 4 * n), (0.25, 0.25), (0, 0))  # pixels partly covered count in part
    inside = (np.linalg.norm(fine - np.array([7.0, -5.0, 0.0]), axis=-1) < radius).astype(float)
    image = inside.reshape(n, 4, n, 4).mean((1, 3))
    exact = ball(rays(ANGLES, detector(200, 1.0, 0.0)), np.array([7.0, -5.0, 0.0]), radius)
    found = op.forward(image_of(op, image))
    assert apart(found, exact) < 0.01  # all of it at the rim, where pixels are half covered


VOLUME, VOXEL, MIDDLE = (23, 26, 24), (1.0, 0.9, 1.1), (0.5, -0.7, 0.9)
HELIX_ANGLES, HELIX_Z = helix(1.5, 6, 4.0)
SOLID: dict[str, Any] = {
    "parallel": (
        lambda **o: ParallelCT(VOLUME, ANGLES, (30, 44), detector_spacing=(0.9, 0.8), detector_offset=(0.6, 0.0), **o),
        (ANGLES, detector(44, 0.8, 0.0), detector(30, 0.9, 0.6)),
        {},
    ),
    "parallel, tilted": (
        lambda **o: ParallelCT(VOLUME, ANGLES, (30, 44), detector_spacing=(0.9, 0.8), detector_tilt=0.2, **o),
        (ANGLES, detector(44, 0.8, 0.0), detector(30, 0.9, 0.0)),
        {"tilt": 0.2},
    ),
    "flat cone, tilted": (
        lambda **o: ConeCT(
            VOLUME, ANGLES, (33, 40), source_axis=50, source_detector=80, detector_spacing=(1.3, 1.2),
            detector_offset=(1.0, -2.0), detector_tilt=-0.1, **o
        ),
        (ANGLES, detector(40, 1.2, -2.0), detector(33, 1.3, 1.0)),
        {"axis": 50, "total": 80, "tilt": -0.1},
    ),
    "curved helix": (
        lambda **o: ConeCT(
            VOLUME, HELIX_ANGLES, (33, 40), source_axis=50, source_detector=80, detector_spacing=1.2, z=HELIX_Z,
            curved=True, **o
        ),
        (HELIX_ANGLES, detector(40, 1.2, 0.0), detector(33, 1.2, 0.0)),
        {"axis": 50, "total": 80, "curved": True, "z": HELIX_Z},
    ),
    "cone open beyond 45 degrees": (
        lambda **o: ConeCT(
            VOLUME, ANGLES, (40, 40), source_axis=40, source_detector=42, detector_spacing=(3.0, 1.2), **o
        ),
        (ANGLES, detector(40, 1.2, 0.0), detector(40, 3.0, 0.0)),
        {"axis": 40, "total": 42},
    ),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["matrix", "numba", "torch"])
@pytest.mark.parametrize("beam", SOLID)
def test_volumes_are_measured_along_lines(beam, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    make, where, arguments = SOLID[beam]
    op = make(pixel_size=VOXEL, image_centre=MIDDLE, truncated=True, backend=backend)
    middle, width = np.array([2.0, -3.0, 1.5]), 3.0
    image = np.exp(-((positions(VOLUME, VOXEL, MIDDLE) - middle) ** 2).sum(-1) / (2 * width**2))
    exact = blob(rays(*where, **arguments), middle, width)
    assert apart(op.forward(image_of(op, image)), exact) < 0.025  # bilinear: twice that of the plane


@pytest.mark.parametrize("beam", SOLID)
def test_kernels_agree(beam):
    make, _, _ = SOLID[beam]
    reference = make(pixel_size=VOXEL, truncated=True, backend="matrix")
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(2, *reference.domain_shape, generator=rng)
    y = torch.randn(2, *reference.range_shape, generator=rng)
    for backend in ("numba", "torch"):
        if backend == "numba":
            pytest.importorskip("numba")
        op = make(pixel_size=VOXEL, truncated=True, backend=backend)
        assert not op.has_matrix
        for found, expected in ((op.forward(x), reference.forward(x)), (op.adjoint(y), reference.adjoint(y))):
            assert float((found - expected).norm() / expected.norm()) < 1e-6  # rounding of single precision


def test_a_ball_seen_by_a_cone():
    n, radius = 32, 10.0
    op = ConeCT((n, n, n), ANGLES, (48, 48), source_axis=60, source_detector=90, detector_spacing=1.5)
    middle = np.array([1.0, -2.0, 0.5])
    fine = positions((2 * n,) * 3, (0.5,) * 3, (0, 0, 0))
    inside = np.clip((radius - np.linalg.norm(fine - middle, axis=-1)) / 0.5 + 0.5, 0, 1)
    image = inside.reshape(n, 2, n, 2, n, 2).mean((1, 3, 5))
    exact = ball(rays(ANGLES, detector(48, 1.5, 0.0), detector(48, 1.5, 0.0), axis=60, total=90), middle, radius)
    found = op.forward(image_of(op, image))
    assert apart(found, exact) < 0.06  # the rim is a larger part of a ball ten voxels in radius
    assert float(found.sum()) == pytest.approx(exact.sum(), rel=2e-3)


def test_parallel_beams_beside_scikit_image():
    from skimage.transform import radon

    n, degrees = 64, np.array([0.0, 20.0, 45.0, 77.0, 90.0, 130.0])
    rng = np.random.default_rng(0)
    image = np.zeros((n, n))
    image[20:44, 18:40] = np.kron(rng.random((4, 4)), np.ones((6, 6)))[:24, :22]
    theirs = radon(image, degrees, circle=True).T
    # It rotates about pixel n // 2 and counts angles the other way round, in an image whose rows run down.
    op = ParallelCT((n, n), np.deg2rad(-degrees), n, image_centre=(-0.5, -0.5), detector_offset=-0.5, truncated=True)
    assert apart(op.forward(image_of(op, image)), theirs) < 0.03  # it interpolates the rotated image bilinearly


def test_astra_agrees():
    astra = pytest.importorskip("astra")
    n = 32
    op = ParallelCT((n, n), ANGLES, 50)
    grid, beam = astra.create_vol_geom(n, n), astra.create_proj_geom("parallel", 1.0, 50, ANGLES)
    matrix = astra.OpTomo(astra.create_projector("linear", beam, grid))
    x = torch.rand(1, 1, n, n, generator=torch.Generator().manual_seed(0))
    theirs = (matrix @ x[0, 0].flip(0).numpy().ravel()).reshape(len(ANGLES), 50)  # their y axis points up
    assert apart(op.forward(x), theirs) < 1e-3
