"""The operators' behaviour: views as subsets, units, files, the cache of matrices, and input that is refused."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from invdiff.errors import InputError, MissingExtraError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ConeCT, FanCT, ParallelCT, cache, helix, joseph, matrix, tomography

TURN = torch.arange(24, dtype=torch.float64) * (2 * math.pi / 24)
FAN: dict[str, Any] = {"source_axis": 60.0, "source_detector": 90.0}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INVDIFF_CACHE_LIMIT", raising=False)


def some(shape, seed=0):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backend", ["matrix", "torch"])
def test_views_make_ordered_subsets(backend):
    op = FanCT((16, 18), TURN, 42, backend=backend, **FAN)
    x, y = some(op.domain_shape), some(op.range_shape, 1)
    full, total = op.forward(x), torch.zeros_like(x)
    for first in range(4):
        part = op[first::4]
        assert isinstance(part, FanCT) and part.range_shape == (6, 42)
        torch.testing.assert_close(part.forward(x), full[:, first::4])
        total += part.adjoint(y[:, first::4].contiguous())
    torch.testing.assert_close(total, op.adjoint(y), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(op[[5, -1]].forward(x), full[:, [5, 23]])


def test_a_mask_leaves_out_single_rays_and_bad_views_are_refused():
    op = ParallelCT((12, 12), TURN[:12], 20)
    good = torch.ones(op.range_shape, dtype=torch.bool)
    good[:, 7] = False  # a dead channel
    x = some(op.domain_shape)
    torch.testing.assert_close(op[good].forward(x), op.forward(x) * good)
    with pytest.raises(InputError, match="twice"):
        op[[1, 1]]
    with pytest.raises(ShapeError, match="between 0 and 11"):
        op[[12]]


def test_subsets_stay_where_the_operator_is():
    op = ParallelCT((8, 8), TURN[:12], 12).to(torch.float64)
    assert isinstance(op, ParallelCT)
    part = op[2:5]
    assert isinstance(part, ParallelCT)
    assert part._home.dtype == torch.float64 and part.has_matrix
    assert isinstance(part.norm(), float)


def test_slices_of_a_parallel_beam_are_independent():
    volume = ParallelCT((5, 12, 12), TURN[:12], (5, 20))
    plane = ParallelCT((12, 12), TURN[:12], 20)
    x = some(volume.domain_shape)
    for d in range(5):
        torch.testing.assert_close(volume.forward(x)[:, :, d], plane.forward(x[:, :, d]))
    general = ParallelCT((5, 12, 12), TURN[:12], (7, 20), detector_tilt=1e-12, detector_spacing=0.8, truncated=True)
    fast = ParallelCT((5, 12, 12), TURN[:12], (7, 20), detector_spacing=0.8, truncated=True)
    assert fast._heights is not None and general._heights is None
    torch.testing.assert_close(fast.forward(x), general.forward(x), atol=1e-4, rtol=1e-4)
    y = some(fast.range_shape)
    torch.testing.assert_close(fast.adjoint(y), general.adjoint(y), atol=1e-4, rtol=1e-4)


def test_lengths_are_counted_in_their_unit():
    x = some((1, 12, 12)).abs()
    one = ParallelCT((12, 12), TURN, 20, unit="pixel")
    two = ParallelCT((12, 12), TURN, 20, pixel_size=2.0)
    torch.testing.assert_close(two.forward(x), 2 * one.forward(x))
    assert one.coords()["x"][2]["units"] == "1" and two.coords()["y"][2]["units"] == "mm"
    np.testing.assert_allclose(two.coords()["x"][1], np.arange(12) * 2 - 11)
    assert "lengths in pixel" in repr(one)
    with pytest.raises(InputError, match="unit 'pixel'"):
        ParallelCT((12, 12), TURN, 20, unit="pixel", pixel_size=0.7)
    with pytest.raises(InputError, match="unit is 'cm'"):
        ParallelCT((12, 12), TURN, 20, unit="cm")


@pytest.mark.parametrize(
    "op",
    [
        lambda: ParallelCT((6, 7), TURN, 14, pixel_size=(0.5, 0.4), image_centre=(0.1, 0.2), unit="mm"),
        lambda: ParallelCT((3, 6, 7), TURN, (4, 14), detector_tilt=0.1, backend="torch"),
        lambda: FanCT((6, 7), -TURN, 20, detector_offset=1.5, **FAN),
        lambda: ConeCT((3, 6, 7), TURN, (8, 20), curved=True, z=TURN / 9, truncated=True, **FAN),
    ],
)
def test_a_measurement_keeps_its_geometry_in_a_file(op, tmp_path):
    op = op()
    x = some(op.domain_shape)[:1]
    m = Measurement(op.forward(x)[0], op, Gaussian(0.1), coords=op.coords())
    back = Measurement.load(m.save(tmp_path / "scan.h5")).operator
    assert isinstance(back, type(op)) and back.geometry == op.geometry and repr(back) == repr(op)
    assert torch.equal(back.forward(x)[0], m.y)


# ---- input that no scanner gives ------------------------------------------------------------------------------------
def test_degrees_are_not_taken_for_radians():
    with pytest.raises(InputError, match="degrees"):
        ParallelCT((16, 16), torch.arange(0, 180, 1.0), 24)
    with pytest.raises(InputError, match="degrees"):
        FanCT((16, 16), torch.arange(0, 360, 2.0), 40, **FAN)
    angles, z = helix(20, 60, 5.0)  # 126 radians, but a helix
    assert ConeCT((8, 8, 8), angles, (30, 30), z=z, backend="torch", **FAN).geometry.views == 1200
    with pytest.raises(InputError, match="degrees"):
        ConeCT((8, 8, 8), torch.rad2deg(angles), (30, 30), z=z, backend="torch", **FAN)
    for few in (torch.arange(12.0), torch.linspace(-5, 5, 11), [0.0, 10.0], [90.0]):
        with pytest.raises(InputError, match="degrees"):
            ParallelCT((16, 16), few, 24)
    angles, z = helix(20, 400, 5.0)
    with pytest.raises(InputError, match="degrees"):  # 0.9 degrees a view
        ConeCT((8, 8, 8), torch.rad2deg(angles), (30, 30), z=z, backend="torch", **FAN)
    overscan = torch.linspace(0, 2.2 * math.pi, 200)
    assert ParallelCT((16, 16), overscan, 24).geometry.views == 200


def test_numbers_come_as_arrays_too():
    sizes: dict[str, Any] = {"pixel_size": np.array([1.0, 1.1]), "image_centre": torch.tensor([0.5, 0.0])}
    op = ParallelCT((8, 9), TURN, 14, **sizes)
    assert op.geometry.spacing == (1.0, 1.0, 1.1) and op.geometry.centre == (0.0, 0.5, 0.0)
    with pytest.raises(ShapeError, match="pixel_size is 'large'"):
        ParallelCT((8, 9), TURN, 14, pixel_size="large")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda **o: ParallelCT((32, 32), TURN, 24, **o),
        lambda **o: ParallelCT((32, 32), TURN, 40, detector_offset=9.0, **o),
        lambda **o: FanCT((32, 32), TURN, 36, **FAN, **o),  # the fan magnifies by 1.5
        lambda **o: FanCT((32, 32), TURN, 36, curved=True, **FAN, **o),
        lambda **o: FanCT((32, 32), TURN, 60, image_centre=(12.0, 0.0), **FAN, **o),
        lambda **o: ConeCT((32, 16, 16), TURN, (32, 40), **FAN, **o),  # too few rows
        lambda **o: ParallelCT((32, 16, 16), TURN, (20, 40), **o),
    ],
)
def test_a_detector_too_small_to_see_the_object_is_said(make):
    with pytest.raises(InputError, match="too small.*truncated=True"):
        make()
    assert make(truncated=True).truncated


def test_detectors_that_just_see_the_object_pass():
    ParallelCT((32, 32), TURN, 32)
    ParallelCT((32, 32, 32), TURN, (32, 32))
    FanCT((32, 32), TURN, 52, **FAN)
    ConeCT((16, 16, 16), TURN, (24, 26), **FAN)


BAD = {
    "source inside": (lambda: FanCT((64, 64), TURN, 400, source_axis=40.0, source_detector=90.0), "inside the image"),
    "metres": (lambda: FanCT((64, 64), TURN, 400, source_axis=0.6, source_detector=0.9), "check the units"),
    "swapped": (lambda: FanCT((16, 16), TURN, 60, source_axis=90.0, source_detector=60.0), "less than source_axis"),
    "arc": (lambda: FanCT((16, 16), TURN, 400, curved=True, **FAN), "half a turn"),
    "infinite": (lambda: FanCT((16, 16), TURN, 60, source_axis=math.inf, source_detector=60.0), "finite length"),
    "nan angle": (lambda: ParallelCT((16, 16), [0.1, math.nan], 24), "NaN"),
    "angle shape": (lambda: ParallelCT((16, 16), torch.zeros(3, 2), 24), "views"),
    "no angle": (lambda: ParallelCT((16, 16), [], 24), "views"),
    "pixel size": (lambda: ParallelCT((16, 16), TURN, 24, pixel_size=0.0), "pixel_size"),
    "spacing": (lambda: ParallelCT((16, 16), TURN, 24, detector_spacing=-1.0), "detector_spacing"),
    "shape": (lambda: ParallelCT((16,), TURN, 24), "image_shape"),
    "fraction": (lambda: ParallelCT((16, 16.5), TURN, 24), "whole numbers"),  # type: ignore[arg-type]
    "detector": (lambda: ParallelCT((16, 16), TURN, (4, 24)), "detector_shape"),
    "fan volume": (lambda: FanCT((4, 16, 16), TURN, 60, **FAN), "ConeCT"),
    "cone image": (lambda: ConeCT((16, 16), TURN, (4, 60), **FAN), "FanCT"),
    "tilt": (lambda: ParallelCT((4, 16, 16), TURN, (4, 24), detector_tilt=5.0), "radians"),
    "tilt in 2D": (lambda: ParallelCT((16, 16), TURN, 24, detector_tilt=0.1), "2D"),
    "heights": (lambda: ConeCT((4, 16, 16), TURN, (8, 60), z=[0.0, 1.0], **FAN), "one height a view"),
    "backend": (lambda: ParallelCT((16, 16), TURN, 24, backend="cuda"), "backend"),
    "helix": (lambda: helix(0, 60, 1.0), "turns"),
}


@pytest.mark.parametrize("case", BAD)
def test_absurd_input_is_refused_in_words(case):
    make, words = BAD[case]
    with pytest.raises(InputError, match=words):
        make()


# ---- projectors and the cache ---------------------------------------------------------------------------------------
def test_a_matrix_is_kept_only_within_the_budget(monkeypatch):
    small = ParallelCT((16, 16), TURN, 24)
    assert small.has_matrix
    bytes_of = sum(t.numel() * t.element_size() for t in (*small._csr("a"), *small._csr("t")))
    assert matrix.matrix_bytes(small.geometry) == pytest.approx(
        bytes_of, rel=0.2
    )  # the smaller the grid, the more the rim counts
    monkeypatch.setattr(tomography, "MATRIX_LIMIT", bytes_of // 2)
    large = ParallelCT((16, 16), TURN, 24)
    assert not large.has_matrix
    x = some(small.domain_shape)
    torch.testing.assert_close(large.forward(x), small.forward(x), atol=1e-4, rtol=1e-5)


def test_without_numba_plain_torch_projects(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert joseph.chosen("auto", torch.device("cpu")) == joseph.chosen("auto", torch.device("cuda")) == "torch"
    op = ParallelCT((8, 8), TURN[:4], 12, backend="numba")
    with pytest.raises(MissingExtraError, match=r"invdiff\[ct\]"):
        op.forward(torch.zeros(1, 1, 8, 8))


def test_a_kernel_on_the_wrong_device_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(InputError, match="runs on cuda"):
        joseph.chosen("triton", torch.device("cpu"))
    assert joseph.chosen("auto", torch.device("cuda")) == "triton"


def test_matrices_come_back_from_disk(monkeypatch):
    monkeypatch.setattr(matrix, "_WORTH_KEEPING", 1)
    first = ParallelCT((16, 16), TURN, 24)
    (path,) = cache.folder().glob("*.npz")
    monkeypatch.setattr(matrix, "build", lambda g: pytest.fail("built again"))
    second = ParallelCT((16, 16), TURN, 24)
    assert all(torch.equal(a, b) for a, b in zip(first._csr("a"), second._csr("a"), strict=True))
    monkeypatch.undo()
    monkeypatch.setenv("INVDIFF_CACHE", str(path.parent.parent))
    path.write_bytes(path.read_bytes()[:-200])  # damaged: computed again
    third = ParallelCT((16, 16), TURN, 24)
    assert torch.equal(third._csr("a").value, first._csr("a").value)


def test_a_file_with_other_indices_is_not_believed(monkeypatch):
    g = ParallelCT((16, 16), TURN, 24).geometry
    arrays = {"start": np.zeros(g.rays + 1, np.int32), "column": np.array([999], np.int32), "value": np.ones(1, "f4")}
    arrays["start"][1:] = 1
    cache.store(g.key(), arrays)
    assert ParallelCT((16, 16), TURN, 24)._csr("a").value.numel() > 1


def test_geometries_differ_in_their_keys():
    a = ParallelCT((16, 16), TURN, 24).geometry
    others = [
        ParallelCT((16, 16), TURN + 1e-9, 24).geometry,
        ParallelCT((16, 16), TURN, 24, detector_offset=1e-9).geometry,
        ParallelCT((16, 16), TURN, 25).geometry,
    ]
    assert len({a.key(), *(g.key() for g in others)}) == 4 and a.key() == ParallelCT((16, 16), TURN, 24).geometry.key()


def test_the_cache_stays_within_its_limit(monkeypatch):
    import os

    arrays = {"start": np.array([0, 1000]), "column": np.zeros(1000, np.int32), "value": np.zeros(1000, np.float32)}
    size = sum(a.nbytes for a in arrays.values()) + 4096
    monkeypatch.setenv("INVDIFF_CACHE_LIMIT", str(2 * size + 100))
    for n, key in enumerate("abc"):
        cache.store(key * 32, arrays)
        os.utime(cache._path(key * 32), (n, n))
        if key == "b":
            assert cache.load("a" * 32) is not None  # used just now, so b is the oldest
    assert cache.load("b" * 32) is None and cache.load("a" * 32) is not None and cache.load("c" * 32) is not None
    assert sum(p.stat().st_size for p in cache.folder().iterdir()) <= cache.limit()
    monkeypatch.setenv("INVDIFF_CACHE_LIMIT", "0")
    cache.store("d" * 32, arrays)
    assert cache.load("d" * 32) is None
    monkeypatch.setenv("INVDIFF_CACHE_LIMIT", "much")
    with pytest.raises(InputError, match="INVDIFF_CACHE_LIMIT"):
        cache.limit()


def test_a_folder_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(matrix, "_WORTH_KEEPING", 1)
    assert ParallelCT((16, 16), TURN, 24).has_matrix


def test_state_is_json_and_tensors():
    state = ConeCT((3, 6, 7), TURN, (8, 20), **FAN).state()
    json.dumps({k: v for k, v in state.items() if not isinstance(v, torch.Tensor)})
