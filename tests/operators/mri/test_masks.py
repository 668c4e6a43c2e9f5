"""Masks: fastMRI's bits, exact budgets, distances kept, seeds, and absurd options refused."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.mri import masks

ALL: dict[str, Callable[[int], Tensor]] = {
    "random": lambda seed: masks.random_mask(320, 4, seed=seed),
    "equispaced": lambda seed: masks.equispaced_mask(320, 8, seed=seed),
    "fraction": lambda seed: masks.equispaced_fraction_mask(320, 8, 0.04, seed=seed),
    "gaussian 1-D": lambda seed: masks.gaussian_mask(320, 4, seed=seed),
    "gaussian 2-D": lambda seed: masks.gaussian_mask((64, 80), 6, 12, seed=seed),
    "poisson": lambda seed: masks.poisson_disc_mask((64, 80), 6, 12, seed=seed),
    "poisson variable": lambda seed: masks.poisson_disc_mask((64, 81), 6, 12, spread=3, ellipse=True, seed=seed),
    "radial": lambda seed: masks.radial_mask((64, 80), 9, seed=seed),
}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
def test_seed_decides(make: Callable[[int], Tensor]) -> None:
    first = make(0)
    assert first.dtype == torch.bool
    assert torch.equal(first, make(0))
    # Equispaced masks differ by one of few offsets, so not any two seeds do.
    assert any(not torch.equal(first, make(seed)) for seed in range(1, 6))


@pytest.mark.parametrize("width", [320, 368, 321])
@pytest.mark.parametrize(("acceleration", "center_fraction"), [(4, 0.08), (8, 0.04), (6, 0.0)])
@pytest.mark.parametrize("seed", [0, 7, tuple(map(ord, "file_brain_1.h5"))])
@pytest.mark.parametrize("name", ["random", "equispaced", "fraction"])
def test_equals_fastmri(
    name: str, width: int, acceleration: int, center_fraction: float, seed: int | tuple[int, ...]
) -> None:
    pytest.importorskip("fastmri")
    subsample = pytest.importorskip("fastmri.data.subsample")
    pairs: dict[str, tuple[Any, Any]] = {
        "random": (subsample.RandomMaskFunc, masks.random_mask),
        "equispaced": (subsample.EquiSpacedMaskFunc, masks.equispaced_mask),
        "fraction": (subsample.EquispacedMaskFractionFunc, masks.equispaced_fraction_mask),
    }
    theirs, ours = pairs[name]
    expected, _ = theirs([center_fraction], [acceleration])((1, 10, width, 2), seed=seed)
    assert torch.equal(ours(width, acceleration, center_fraction, seed=seed), expected.flatten() == 1)


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_offset_equals_fastmri(offset: int) -> None:
    subsample = pytest.importorskip("fastmri.data.subsample")
    for theirs, ours in (
        (subsample.EquiSpacedMaskFunc, masks.equispaced_mask),
        (subsample.EquispacedMaskFractionFunc, masks.equispaced_fraction_mask),
    ):
        expected, _ = theirs([0.08], [4])((1, 10, 368, 2), offset=offset)
        assert torch.equal(ours(368, 4, 0.08, offset=offset), expected.flatten() == 1)


def test_a_random_state_goes_on() -> None:
    rng = np.random.RandomState(3)
    first, second = masks.random_mask(320, 4, seed=rng), masks.random_mask(320, 4, seed=rng)
    assert torch.equal(first, masks.random_mask(320, 4, seed=3))
    assert not torch.equal(first, second)


def test_centre_is_sampled() -> None:
    assert masks.random_mask(320, 8, 0.04)[160 - 6 : 160 + 6].all()  # 13 columns about 160
    assert masks.gaussian_mask(321, 8, 24)[160 - 12 : 160 + 12].all()
    for mask in (
        masks.poisson_disc_mask((64, 81), 8, (10, 12)),
        masks.gaussian_mask((64, 81), 8, (10, 12)),
        masks.radial_mask((64, 81), 3, calibration=(10, 12)),
    ):
        assert mask[32 - 5 : 32 + 5, 40 - 6 : 40 + 6].all()


def test_achieved_acceleration_is_a_count() -> None:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:, :2] = True
    assert masks.achieved_acceleration(mask) == 3.0
    assert masks.achieved_acceleration(masks.equispaced_mask(368, 4, 0.08, offset=0)) == pytest.approx(3.23, abs=0.01)
    with pytest.raises(InputError, match="samples nothing"):
        masks.achieved_acceleration(torch.zeros(5, dtype=torch.bool))


@pytest.mark.parametrize("acceleration", [1.0, 1.1, 1.5, 2, 4, 8, 20])
@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_exact_number_of_samples(acceleration: float, spread: float) -> None:
    expected = round(96 * 80 / acceleration)
    assert int(masks.poisson_disc_mask((96, 80), acceleration, 8, spread=spread).sum()) == expected
    assert int(masks.gaussian_mask((96, 80), acceleration, 8).sum()) == expected


def nearest(mask: Tensor) -> Tensor:
    """Distance from every sample to the nearest other, in grid steps."""
    points = torch.nonzero(mask).double()
    return torch.cdist(points, points).fill_diagonal_(torch.inf).amin(0)


def test_poisson_points_keep_their_distance() -> None:
    distances = nearest(masks.poisson_disc_mask((96, 80), 8, 0))
    # No room is left at 0.70 points per r^2, so r is near sqrt(0.70 * 8) = 2.37; a stage lower is 2.25. Independent
    # points stand a mean of 0.5 sqrt(8) = 1.41 apart, and some always touch.
    assert distances.min() >= 2.0
    assert 2.3 < distances.mean() < 3.2
    rng = torch.Generator().manual_seed(0)
    assert nearest(torch.rand(96, 80, generator=rng) < 1 / 8).min() == 1


def test_variable_density_and_ellipse() -> None:
    mask = masks.poisson_disc_mask((128, 128), 8, 0, spread=4, ellipse=True)
    i = torch.arange(128) - 64
    rho = torch.sqrt(i[:, None] ** 2 + i**2) / 64
    assert not mask[rho > 1].any()
    inner, outer = nearest(mask & (rho < 0.15)), nearest(mask & (rho > 0.8))
    assert outer.min() > 2 * inner.min()
    density = [float(mask[(rho >= a) & (rho < a + 0.2)].double().mean()) for a in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert density == sorted(density, reverse=True)
    # 1 / (1 + 3 rho)^2 falls 7.8-fold between the means of these rings; lattice effects in the centre lower it.
    assert 4 < density[0] / density[-1] < 10


def test_gaussian_width() -> None:
    mask = masks.gaussian_mask((400, 400), 50, 0, std=0.1, seed=1)
    i, j = torch.nonzero(mask, as_tuple=True)
    # 3200 draws, hardly exhausting the centre: the spread of i is std * 400 = 40, within 1.3 % times 3, and a little
    # more because a point is taken once only.
    assert (i - 200.0).std().item() == pytest.approx(40, rel=0.10)
    assert (j - 200.0).std().item() == pytest.approx(40, rel=0.10)
    assert abs((i - 200.0).mean().item()) < 3


def test_radial_spokes() -> None:
    assert masks.radial_mask((9, 9), 1).nonzero()[:, 0].unique().tolist() == [4]
    two = masks.radial_mask((9, 11), 2, golden=False)
    expected = torch.zeros(9, 11, dtype=torch.bool)
    expected[4, :], expected[:, 5] = True, True
    assert torch.equal(two, expected)
    golden = masks.radial_mask((256, 256), 2)
    expected_angle = np.deg2rad(111.246)
    i, j = 128 + 100 * np.sin(expected_angle), 128 + 100 * np.cos(expected_angle)
    assert golden[round(i), round(j)]
    # A spoke of 256 points and no gaps: every row is met by a steep one.
    assert golden.any(1).sum() >= 236


def test_poisson_is_fast() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        masks.poisson_disc_mask((320, 320), 8, spread=3)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: masks.random_mask(320, 0.5), "acceleration is 0.5"),
        (lambda: masks.random_mask(320, float("nan")), "acceleration is nan"),
        (lambda: masks.random_mask(0, 4), "size of k-space is .0,."),
        (lambda: masks.random_mask(320, 4, 1.5), "center_fraction is 1.5"),
        (lambda: masks.random_mask(320, 4, seed=-1), "seed is -1"),
        (lambda: masks.random_mask(320, 16, 0.08), "26 of 320 columns.*at most acceleration 12.31"),
        (lambda: masks.random_mask(4, 1e6, 0.0), "none of 4 columns"),
        (lambda: masks.equispaced_fraction_mask(320, 16, 0.08), "centre of at most 20 columns"),
        (lambda: masks.equispaced_mask(320, 2.5), "integer"),  # type: ignore[arg-type]
        (lambda: masks.equispaced_mask(320, 4, offset=320), "offset is 320"),
        (
            lambda: masks.poisson_disc_mask((32, 32), 8, 24),
            "576 of 1024 positions.*at most acceleration 1.778",
        ),
        (lambda: masks.poisson_disc_mask((32, 32), 1.1, 8, ellipse=True), "the ellipse holds"),
        (lambda: masks.poisson_disc_mask((32, 32), 4, 40), "calibration is 40"),
        (lambda: masks.poisson_disc_mask((32, 32), 4, 4, spread=0), "spread 0"),
        (lambda: masks.gaussian_mask(320, 4, std=-1), "std -1"),
        (lambda: masks.gaussian_mask(320, 16, 24), "24 of 320 positions"),
        (lambda: masks.radial_mask((32, 32), 0), "0 spokes"),
    ],
)
def test_absurd_options(call: Callable[[], Tensor], said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()


def test_wrong_rank() -> None:
    with pytest.raises(ShapeError, match="expects .H, W."):
        masks.poisson_disc_mask((8, 8, 8), 2, 2)  # type: ignore[arg-type]


def test_the_whole_budget_in_the_centre() -> None:
    assert int(masks.equispaced_fraction_mask(320, 4, 0.25).sum()) == 80  # fastMRI divides by zero here
    assert int(masks.random_mask(320, 4, 0.25).sum()) == 80
    assert masks.random_mask(320, 1, 1.0).all()
