"""Procedural ground truths: reproducible, finite, in range, and with the features that they promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch

from invdiff.datasets.phantoms import KINDS, body_phantom, ground_truth, head, head_phantom, pool, smooth_phase
from invdiff.datasets.phantoms.coils import coil_maps
from invdiff.datasets.phantoms.ct import WATER, ct_slice, from_hounsfield
from invdiff.datasets.phantoms.fields import band_field, cover, grid, line_distance, smooth_field
from invdiff.datasets.phantoms.head import cortex
from invdiff.datasets.phantoms.leaves import dead_leaves
from invdiff.errors import InputError, UnknownNameError


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    """Small images: threads would cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("size", [64, 101])
def test_image_contract(kind: str, size: int) -> None:
    for seed in range(4):
        image = KINDS[kind](generator(seed), size)
        assert image.shape == (size, size)
        assert image.dtype == torch.float32
        assert torch.isfinite(image).all()
        assert image.min() >= (-0.4 if kind == "ct" else 0.0)  # sharp kernels overshoot at the edge of bone and air
        assert image.max() <= {"leaves": 1.4, "ct": 1.6}.get(kind, 1.2 + 1e-5)
        assert image.std() > 0.03


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_seed_decides(kind: str) -> None:
    make = KINDS[kind]
    first = make(generator(3), 96)
    torch.rand(5)  # the global state must not matter
    assert torch.equal(first, make(generator(3), 96))
    assert not torch.allclose(first, make(generator(4), 96), atol=1e-2)


@pytest.mark.parametrize("make", [head_phantom, body_phantom])
def test_background_is_dark_and_object_is_not(make: Callable[[torch.Generator, int], torch.Tensor]) -> None:
    images = torch.stack([make(generator(seed), 128) for seed in range(16)])
    dark = (images < 0.05).float().mean((1, 2))
    assert (dark > 0.1).float().mean() > 0.7  # nearly every field of view has air around the object
    assert (images > 0.2).float().mean((1, 2)).min() > 0.02
    assert (images > 0.2).float().mean() > 0.15


def test_tomography_has_its_absolute_values() -> None:
    images = torch.stack([ct_slice(generator(seed), 64) for seed in range(40)])
    hu = 1000 * (images / WATER - 1)
    soft, air, bone = (hu > -150) & (hu < 150), hu < -700, hu > 500
    assert from_hounsfield(0) == WATER and from_hounsfield(-1000) == 0
    for part, least in ((soft, 0.2), (air, 0.25), (bone, 0.01)):  # nearly all of it is one of the three
        assert float(part.float().mean()) > least
    assert float((soft | air | bone).float().mean()) > 0.85
    assert float((hu > 1900).float().mean()) < 0.01
    fat = ((hu > -130) & (hu < -60)).float().mean((1, 2))
    assert float((fat > 0.01).float().mean()) > 0.5  # under the skin


def test_small_tomographs_are_averages_of_fine_ones() -> None:
    fine = ct_slice(generator(5), 256)
    assert torch.allclose(ct_slice(generator(5), 64), fine.reshape(64, 4, 64, 4).mean((1, 3)), atol=1e-5)


def test_cortex_folds_near_the_surface_only() -> None:
    x, y = grid(256)
    depth = 100.0 - torch.sqrt(x**2 + y**2)
    side, up = x.expand(256, 256), y.expand(256, 256)
    rim = (depth > 6) & (depth < 10)
    core = (depth > 60) & (side.abs() > 25)
    for seed in range(6):
        fluid = cortex(generator(seed), 256, 1.0, depth, side, up, False)
        buried = (fluid < depth - 2.0) & rim  # nearer to a sulcus than to the surface
        assert 0.3 < float(buried.sum() / rim.sum()) < 1.0
        assert float(fluid[rim].std()) > 1.2  # sulci and gyri alternate; a smooth surface has 4 / sqrt(12) = 1.15
        assert float(fluid[core].min()) > 4.0  # no sulcus reaches the core


def test_head_shows_its_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = [head_phantom(generator(seed), 128) for seed in range(8)]
    monkeypatch.setattr(head, "cortex", lambda *args: cortex(*args) + 99.0)
    change = [float((head_phantom(generator(k), 128) - image).std()) for k, image in enumerate(folded)]
    assert sorted(change)[4] > 0.02


def test_dead_leaves_show_all_sizes() -> None:
    """Steps are heavy-tailed (flat leaves, sharp edges): kurtosis far above a Gaussian's 3."""
    image = dead_leaves(generator(1), 256)
    step = (image[:, 1:] - image[:, :-1]).flatten()
    assert ((step - step.mean()) ** 4).mean() / step.var() ** 2 > 6.0
    coarse = torch.nn.functional.avg_pool2d(image[None, None], 16)
    assert coarse.std() > 0.5 * image.std()  # large leaves survive a 16-fold average; small ones keep 0.1-0.3


def test_smooth_phase_is_smooth_and_varies_in_strength() -> None:
    phase = smooth_phase(generator(), (200, 64, 64))
    assert phase.shape == (200, 64, 64)
    assert phase.dtype == torch.float32
    spread = phase.amax((1, 2)) - phase.amin((1, 2))
    assert spread.min() < 0.3
    assert spread.max() > 3.0
    assert (phase[:, 1:] - phase[:, :-1]).abs().max() < 1.0  # radians per pixel of 64: no jumps, no aliasing
    constant = torch.polar(torch.ones(200), phase.mean((1, 2))).mean().abs()
    assert constant < 4 / math.sqrt(200)  # uniform on the circle: 4 standard errors of a mean phasor
    assert smooth_phase(generator(), (40, 56)).shape == (40, 56)


def test_fields_have_the_stated_moments() -> None:
    smooth = smooth_field(generator(), (400, 48, 64), 2.5)
    assert smooth.shape == (400, 48, 64)
    assert abs(float(smooth.square().mean()) - 1.0) < 0.1  # 400 fields of about 20 modes: s.e. below 0.02
    band = band_field(generator(), 128, 16.0, 0.2)
    assert abs(float(band.std()) - 1.0) < 1e-4
    power = torch.fft.rfft(band).abs().square().mean(0)
    assert 4 <= int(power.argmax()) <= 9  # a ring of radius 128 / 16 = 8 seen along one axis


def test_line_distance_is_in_pixels() -> None:
    ramp = 0.25 * (torch.arange(32.0)[None, :] - 10.0).expand(32, 32).contiguous()
    distance, slope = line_distance(ramp)
    assert torch.allclose(distance[5, 5:20], torch.arange(5.0, 20.0) - 10.0)
    across, _ = line_distance(ramp.T.contiguous())
    assert torch.allclose(across, distance.T)
    assert torch.allclose(slope[5, 5:20], torch.tensor(0.25))
    assert cover(torch.tensor([-0.5, 0.0, 0.25, 0.5])).tolist() == [0.0, 0.5, 0.75, 1.0]


def test_ground_truth_is_complex_with_phase() -> None:
    image = ground_truth(generator(2), 96)
    assert image.shape == (1, 96, 96)
    assert image.dtype == torch.complex64
    assert torch.allclose(image.abs()[0], head_phantom(generator(2), 96), atol=1e-6)
    assert image.imag.abs().max() > 1e-3


def test_coil_maps() -> None:
    maps = coil_maps(generator(), 8, (96, 80))
    assert maps.shape == (8, 96, 80)
    assert maps.dtype == torch.complex64
    rss = maps.abs().square().sum(0).sqrt()
    assert torch.allclose(rss, torch.ones(96, 80), atol=1e-5)
    for seed in range(8):  # smooth, also where an angle wraps: a sign flip of the strongest coil would be near 2
        maps = coil_maps(generator(seed), 8, (96, 80))
        assert (maps[:, 1:] - maps[:, :-1]).abs().max() < 0.2
        assert (maps[:, :, 1:] - maps[:, :, :-1]).abs().max() < 0.2
    gram = torch.einsum("chw,dhw->cd", maps, maps.conj()).abs()
    power = gram.diagonal()
    overlap = gram / torch.sqrt(power[:, None] * power[None, :]) - torch.eye(8)
    assert overlap.max() < 0.97  # the coils see different things
    assert torch.equal(maps, coil_maps(generator(7), 8, (96, 80)))
    assert torch.allclose(coil_maps(generator(), 1, (16, 16)).abs(), torch.ones(1, 16, 16), atol=1e-6)
    with pytest.raises(InputError, match="n_coils=0"):
        coil_maps(generator(), 0, (8, 8))


def test_pool_depends_on_seed_and_index_only() -> None:
    images = pool(5, 6, 48, ("head", "leaves"), workers=0)
    assert images.shape == (6, 48, 48)
    assert images.dtype == torch.float16
    assert torch.equal(images, pool(5, 6, 48, ("head", "leaves"), workers=2))
    assert torch.equal(images[:3], pool(5, 3, 48, ("head", "leaves"), workers=0))
    assert not torch.equal(images, pool(6, 6, 48, ("head", "leaves"), workers=0))
    assert len({float(image.float().sum()) for image in images}) == 6
    assert pool(0, 0, 32, workers=0).shape == (0, 32, 32)


def test_pool_refuses_nonsense() -> None:
    with pytest.raises(UnknownNameError, match="brain"):
        pool(0, 1, 64, ("brain",), workers=0)
    with pytest.raises(InputError, match="size is 4"):
        pool(0, 1, 4, workers=0)
