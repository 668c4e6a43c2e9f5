"""Collective variables against their definitions, other programs' numbers, and degenerate geometries."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from invdiff.errors import FileError, InputError, ShapeError
from invdiff.operators.molecular import (
    NOE,
    RMSD,
    SAXS,
    TICA,
    Angle,
    Combination,
    Coordination,
    Distance,
    Karplus,
    Learned,
    Path,
    RadiusOfGyration,
    Together,
    Torsion,
)

DOUBLE = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=DOUBLE)


def turned(x, seed=0):
    """x rotated and shifted, each molecule its own way."""
    r = torch.as_tensor(Rotation.random(len(x), random_state=seed).as_matrix())
    return x @ r.mT + randn(len(x), 1, 3, seed=seed + 1)


ALL = [Distance, Angle, Torsion, Coordination, RMSD, RadiusOfGyration, Combination, Path, TICA, NOE, Karplus, SAXS]


@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.__name__)
def test_invariant_under_rotation_and_translation(kind):
    op = kind.example(rng()).to(DOUBLE)
    x = randn(6, *op.domain_shape)
    torch.testing.assert_close(op.forward(turned(x)), op.forward(x), rtol=1e-9, atol=1e-10)
    assert len(op.period) == len(op.units) == op.range_shape[0]


@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.__name__)
@pytest.mark.parametrize("shape", ["all atoms on one spot", "on a line"])
def test_derivatives_are_finite_at_degenerate_geometry(kind, shape):
    op = kind.example(rng()).to(DOUBLE)
    x = torch.zeros(2, *op.domain_shape, dtype=DOUBLE)
    if shape == "on a line":
        x[..., 0] = torch.arange(op.domain_shape[0])
    y = op.forward(x)
    slope = op.vjp(x, torch.ones_like(y))
    assert bool(torch.isfinite(y).all()) and bool(torch.isfinite(slope).all())


def test_signs_and_values_of_simple_geometry():
    x = torch.tensor([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]]], dtype=DOUBLE)
    # looking along 1 -> 2 (+z), from x to y is clockwise: +90 degrees in the IUPAC sense
    assert float(Torsion([0, 1, 2, 3], 4).forward(x)) == pytest.approx(math.pi / 2)
    assert float(Torsion([3, 2, 1, 0], 4).forward(x)) == pytest.approx(math.pi / 2)  # the same read backwards
    mirrored = x * torch.tensor([1.0, -1, 1], dtype=DOUBLE)
    assert float(Torsion([0, 1, 2, 3], 4).forward(mirrored)) == pytest.approx(-math.pi / 2)
    assert float(Angle([0, 1, 2], 4).forward(x)) == pytest.approx(math.pi / 2)
    assert float(Distance([0, 3], 4).forward(x)) == pytest.approx(math.sqrt(3))
    both = Combination(Distance([[0, 1], [0, 3]], 4), [1.0, -1.0], [0.5])
    assert float(both.forward(x)) == pytest.approx(1 - math.sqrt(3) + 0.5)


def test_periodic_difference():
    torsion = Torsion([0, 1, 2, 3], 4)
    assert torsion.period == (2 * math.pi,)
    d = torsion.difference(torch.tensor([[3.1]]), torch.tensor([[-3.1]]))
    assert float(d) == pytest.approx(6.2 - 2 * math.pi, abs=1e-6)
    mixed = Together(torsion, Distance([0, 1], 4))
    assert mixed.period == (2 * math.pi, None) and mixed.units == ("rad", "nm")
    d = mixed.difference(torch.tensor([[3.1, 3.1]]), torch.tensor([[-3.1, -3.1]]))
    assert d.tolist()[0] == pytest.approx([6.2 - 2 * math.pi, 6.2], abs=1e-6)


def test_torsions_and_sizes_against_mdtraj():
    md = pytest.importorskip("mdtraj")
    x = randn(20, 6, 3)
    topology = md.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for _ in range(6):
        topology.add_atom("C", md.element.carbon, residue)
    frames = md.Trajectory(x.numpy(), topology)
    rows = [[0, 1, 2, 3], [5, 2, 0, 4]]
    # mdtraj works in single precision
    np.testing.assert_allclose(Torsion(rows, 6).forward(x), md.compute_dihedrals(frames, rows), atol=2e-5)
    np.testing.assert_allclose(Angle([[0, 1, 2]], 6).forward(x), md.compute_angles(frames, [[0, 1, 2]]), atol=2e-5)
    np.testing.assert_allclose(RadiusOfGyration(6).forward(x)[:, 0], md.compute_rg(frames), rtol=1e-5)
    deviation = RMSD(x[7], 6).forward(x)[:, 0]
    np.testing.assert_allclose(deviation, md.rmsd(frames, frames, 7), atol=2e-4)


def test_radius_of_gyration_about_the_centre_of_mass():
    x, m = randn(3, 6, 3), torch.tensor([12.0, 1, 1, 16, 1, 0], dtype=DOUBLE)
    pairs = torch.cdist(x, x).square()  # sum_i m_i |x_i - c|^2 = sum_ij m_i m_j r_ij^2 / (2 M)
    expected = (torch.einsum("i,j,nij->n", m, m, pairs) / (2 * m.sum() ** 2)).sqrt()
    torch.testing.assert_close(RadiusOfGyration(6, m).forward(x)[:, 0], expected)


def test_rmsd_is_the_least_over_rotations_and_never_a_reflection():
    x = randn(1, 5, 3)
    op = RMSD(x[0], 5)
    assert float(op.forward(turned(x)).abs().max()) < 1e-7
    mirrored = x * torch.tensor([-1.0, 1, 1], dtype=DOUBLE)
    found = float(op.forward(mirrored))
    best = math.inf
    a, b = (mirrored - mirrored.mean(1))[0].numpy(), (x - x.mean(1))[0].numpy()
    rotations = Rotation.random(20000, random_state=0).as_matrix()
    best = np.sqrt(((a - b @ rotations.transpose(0, 2, 1)) ** 2).sum((1, 2)).min() / 5)
    assert found > 0.1 and found <= best and best < found * 1.02  # 20000 random turns come within 2 %


def test_coordination_as_the_formula_reads():
    r = torch.linspace(0.05, 9, 50, dtype=DOUBLE)
    x = torch.zeros(50, 2, 3, dtype=DOUBLE)
    x[:, 1, 0] = r
    for n, m, d0 in ((6, 12, 0.0), (6, 8, 0.1), (4, 5, 0.0)):
        z = ((r - d0).clamp_min(0)) / 1.5
        found = Coordination([0, 1], 2, 1.5, d0, n, m).forward(x)[:, 0]
        torch.testing.assert_close(found, (1 - z**n) / (1 - z**m), rtol=1e-9, atol=1e-12)
    at = torch.zeros(1, 2, 3, dtype=DOUBLE)
    at[0, 1, 0] = 1.5
    assert float(Coordination([0, 1], 2, 1.5).forward(at)) == pytest.approx(0.5)  # n/m at z = 1
    far = torch.zeros(1, 2, 3)
    far[0, 1, 0] = 1e8  # z^12 would overflow in single precision
    slope = Coordination([0, 1], 2, 1.5).vjp(far, torch.ones(1, 1))
    assert float(Coordination([0, 1], 2, 1.5).forward(far)) == 0 and bool(torch.isfinite(slope).all())


def test_path_counts_frames_and_measures_distance():
    start, end = randn(5, 3), randn(5, 3, seed=1)
    frames = torch.stack([start + t * (end - start) for t in torch.linspace(0, 1, 9, dtype=DOUBLE)])
    path = Path(frames, 5)
    s = path.forward(turned(frames))
    assert bool((s[1:, 0] > s[:-1, 0]).all())
    assert float(s[0, 0]) < 1.3 and float(s[-1, 0]) > 8.7 and float(s[4, 0]) == pytest.approx(5, abs=0.1)
    assert float(path.forward(frames[4:5] + 0.3 * randn(1, 5, 3, seed=2))[0, 1]) > float(s[4, 1]) + 0.02


def test_tica_finds_the_slow_direction():
    # a slow two-state distance beside a fast, larger one
    steps = 4000
    flips = torch.rand(steps, generator=rng(3)) < 0.01
    state = torch.cumsum(flips, 0) % 2
    x = torch.zeros(steps, 3, 3, dtype=DOUBLE)
    x[:, 1, 0] = 1 + 0.3 * state + 0.02 * randn(steps, seed=4)
    x[:, 2, 1] = 2 + 0.5 * randn(steps, seed=5)
    tica = TICA.fit(Distance([[0, 1], [0, 2]], 3), x, lag=5, components=1)
    s = tica.forward(x)[:, 0]
    assert abs(float(np.corrcoef(s, state)[0, 1])) > 0.99
    assert float(s.var()) == pytest.approx(1, abs=0.02)
    angles = TICA.fit(Torsion([[0, 1, 2, 3]], 4), randn(50, 4, 3), lag=1)
    assert angles.weights.shape == (1, 2)  # cosine and sine
    with pytest.raises(InputError, match="frames"):
        TICA.fit(Distance([[0, 1]], 3), x[:3], lag=5)


def test_learned_from_a_file(tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).to(DOUBLE)
    torch.jit.trace(network, torch.zeros(2, 4, 3, dtype=DOUBLE)).save(str(tmp_path / "cv.pt"))
    op = Learned(tmp_path / "cv.pt", 4, 2, period=1.0)
    x = randn(3, 4, 3)
    torch.testing.assert_close(op.forward(x), network(x))
    assert op.period == (1.0, 1.0)
    assert op.to(torch.float32).forward(x.float()).dtype == torch.float32
    with pytest.raises(InputError, match="not \\(2, 1\\)"):
        Learned(tmp_path / "cv.pt", 4, 1)
    (tmp_path / "bad.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="TorchScript"):
        Learned(tmp_path / "bad.pt", 4)
    with pytest.raises(FileError):
        Learned(tmp_path / "missing.pt", 4)


def test_observables():
    x = randn(4, 6, 3)
    r = torch.cdist(x, x)
    noe = NOE([[[0, 1]], [[2, 3], [2, 4], [2, 5]]], 6).forward(x)
    torch.testing.assert_close(noe[:, 0], r[:, 0, 1])
    torch.testing.assert_close(noe[:, 1], (r[:, 2, 3:].pow(-6).mean(1)).pow(-1 / 6))
    f, q = torch.rand(6, generator=rng(1), dtype=DOUBLE), torch.tensor([0.0, 0.5, 2.0], dtype=DOUBLE)
    intensity = SAXS(q, f).forward(x)
    qr = q[:, None, None] * r[:, None] + 1e-30
    expected = (f[:, None] * f * torch.sin(qr) / qr).sum((-2, -1))
    torch.testing.assert_close(intensity, expected)
    torch.testing.assert_close(intensity[:, 0], f.sum().square().expand(4))
    phi = Torsion([0, 1, 2, 3], 6).forward(x) - math.pi / 3
    expected = 8.40 * phi.cos() ** 2 - 1.36 * phi.cos() + 0.33
    torch.testing.assert_close(Karplus([0, 1, 2, 3], 6).forward(x), expected)
    md = pytest.importorskip("mdtraj")
    from mdtraj.nmr.scalar_couplings import J3_HN_HA_coefficients

    a, b, c = (J3_HN_HA_coefficients["Bax2007"][k] for k in "ABC")
    assert md and (a, b, c) == (8.40, -1.36, 0.33)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Distance([0, 5], 5), InputError, "0 to 4"),
        (lambda: Distance([0, -1], 5), InputError, "0 to 4"),
        (lambda: Distance([0.5, 1], 5), InputError, "indices"),
        (lambda: Angle([0, 1], 5), ShapeError, "3 per group"),
        (lambda: Torsion([0, 1, 2, 2], 5), InputError, "twice"),
        (lambda: Torsion([], 5), InputError, "no atoms"),
        (lambda: Coordination([0, 1], 5, -1.0), InputError, "r0"),
        (lambda: Coordination([0, 1], 5, 1.0, 0.0, 6, 6), InputError, "n < m"),
        (lambda: RadiusOfGyration(3, [1.0, 2.0]), ShapeError, "weights"),
        (lambda: RadiusOfGyration(2, [0.0, 0.0]), InputError, "weights"),
        (lambda: RMSD(torch.zeros(4, 3), 5), ShapeError, "reference"),
        (lambda: Combination(Torsion([0, 1, 2, 3], 4), [1.0]), InputError, "periodic"),
        (lambda: Combination(Distance([0, 1], 4), [1.0, 2.0]), ShapeError, "weights"),
        (lambda: Together(Distance([0, 1], 4), Distance([0, 1], 5)), ShapeError, "one molecule"),
        (lambda: Path(torch.zeros(1, 4, 3), 4), InputError, "2 frames"),
        (lambda: NOE([[]], 4), InputError, "empty"),
        (lambda: SAXS([-1.0], [1.0, 2.0]), InputError, "below 0"),
        (lambda: Karplus([0, 1, 2, 3], 4, (1.0, 2.0)), ShapeError, "coefficients"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
