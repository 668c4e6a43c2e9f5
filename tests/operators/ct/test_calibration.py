"""The axis of rotation and the detector's tilt, found again from data made with known ones."""

import math
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.operators.ct import ConeCT, FanCT, ParallelCT, detector_tilt, rotation_centre

TURN = torch.arange(72, dtype=torch.float64) * (2 * math.pi / 72)
FAN: dict[str, Any] = {"source_axis": 90.0, "source_detector": 140.0}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path))


def blobs(*shape):
    axes = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2.0 for n in shape), indexing="ij")
    rng = torch.Generator().manual_seed(5)
    out = torch.zeros(shape)
    for _ in range(5):
        middle = (torch.rand(len(shape), generator=rng) - 0.5) * 0.5 * min(shape)
        out += torch.exp(-sum((a - m) ** 2 for a, m in zip(axes, middle, strict=True)) / 12)
    return 0.01 * out[None, None]


def noisy(y):
    return y + 0.002 * y.max() * torch.randn(y.shape, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize(
    ("make", "offset"),
    [
        (lambda o: ParallelCT((40, 40), TURN[:36], 64, detector_offset=o), 2.37),  # half a turn: by moments
        (lambda o: ParallelCT((40, 40), TURN, 64, detector_offset=o), -1.61),
        (lambda o: FanCT((40, 40), TURN, 110, detector_offset=o, **FAN), 3.3),
        (lambda o: FanCT((40, 40), TURN, 110, detector_offset=o, curved=True, **FAN), -0.45),
        # a detector shifted until one side of the object is out of view
        (lambda o: FanCT((40, 40), TURN, 70, detector_offset=o, truncated=True, **FAN), 12.2),
    ],
)
def test_the_axis_is_found(make, offset):
    y = noisy(make(offset).forward(blobs(40, 40)))[0]
    assumed = make(0.5 if abs(offset) < 5 else 11.0)  # found whatever was believed before
    assert rotation_centre(assumed, y) == pytest.approx(offset, abs=0.05)


@pytest.mark.parametrize("beam", ["parallel", "cone"])
def test_the_tilt_is_found(beam):
    def make(offset, tilt):
        if beam == "parallel":
            return ParallelCT((16, 20, 20), TURN[::2], (20, 40), **both(offset, tilt))
        return ConeCT((16, 20, 20), TURN[::2], (34, 52), **both(offset, tilt), **FAN)

    def both(offset, tilt):
        backend = "numba" if find_spec("numba") else "torch"
        return {"detector_offset": (0.0, offset), "detector_tilt": tilt, "backend": backend}

    y = noisy(make(1.7, 0.035).forward(blobs(16, 20, 20)))[0]
    offset, tilt = detector_tilt(make(0.0, 0.0), y)
    assert offset == pytest.approx(1.7, abs=0.05)
    assert tilt == pytest.approx(0.035, abs=0.003)


def test_what_does_not_tell_is_refused():
    half = FanCT((20, 20), TURN[:40], 50, **FAN)
    with pytest.raises(InputError, match="whole turn"):
        rotation_centre(half, torch.rand(half.range_shape))
    few = ParallelCT((20, 20), TURN[:10], 50)
    with pytest.raises(InputError, match="45 degrees"):
        rotation_centre(few, torch.rand(few.range_shape))
    with pytest.raises(InputError, match="constant"):
        rotation_centre(few, torch.zeros(few.range_shape))
    with pytest.raises(ShapeError):
        rotation_centre(few, torch.zeros(3, 50))
    with pytest.raises(InputError, match="row"):
        detector_tilt(half, torch.rand(half.range_shape))
