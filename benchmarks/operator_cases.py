"""Our operators at the sizes they are used at, by the names they are registered under."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import entry_points

import torch
from torch import Tensor

from invdiff.operators.base import Operator

__all__ = ["built_in", "make"]


def built_in() -> list[str]:
    """Names of the operators that invdiff itself registers, the ones with a size below first."""
    points = entry_points(group="invdiff.operators")
    names = [p.name for p in points if p.dist is not None and p.dist.name == "invdiff"]
    return [n for n in _SIZED if n in names] + sorted(set(names) - set(_SIZED))


def make(name: str, quick: bool) -> tuple[Operator, bool]:
    """The operator, and whether it is at a size of use; else it is the small example of its class."""
    loaded = next(p for p in entry_points(group="invdiff.operators") if p.name == name).load()
    rng = torch.Generator().manual_seed(0)
    if name in _SIZED:
        return _SIZED[name](loaded, rng, quick), True
    return loaded.example(rng), False


Build = Callable[..., Operator]


def _mri(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    coils, n = (4, 64) if quick else (15, 320)
    mask = torch.rand(n, n, generator=rng) < 0.25
    return cls(_maps(coils, n, rng), mask)


def _nufft(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    """Radial spokes by the golden angle, twice oversampled in readout."""
    coils, n, spokes = (2, 32, 21) if quick else (8, 256, 201)
    angle = torch.arange(spokes, dtype=torch.float64) * math.pi * (math.sqrt(5) - 1) / 2
    radius = (torch.arange(2 * n, dtype=torch.float64) - n) / (2 * n)
    points = torch.stack([radius * angle.sin()[:, None], radius * angle.cos()[:, None]], -1)
    return cls(_maps(coils, n, rng), points.reshape(-1, 2))


def _maps(coils: int, n: int, rng: torch.Generator) -> Tensor:
    return torch.randn(coils, n, n, generator=rng, dtype=torch.complex64) / math.sqrt(2 * coils)


def _angles(views: int, span: float) -> Tensor:
    return torch.arange(views, dtype=torch.float64) * (span / views)


def _parallel(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    n, views = (32, 24) if quick else (256, 180)
    return cls((n, n), _angles(views, math.pi), math.ceil(n * math.sqrt(2)))


def _fan(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    n, views = (32, 24) if quick else (256, 180)
    far = {"source_axis": 4.0 * n, "source_detector": 6.0 * n}
    return cls((n, n), _angles(views, 2 * math.pi), 2 * n, **far, detector_spacing=1.2)


def _cone(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    n, views = (16, 12) if quick else (64, 60)
    far = {"source_axis": 4.0 * n, "source_detector": 6.0 * n}
    pixels = math.ceil(1.5 * n)
    return cls((n,) * 3, _angles(views, 2 * math.pi), (pixels, pixels), **far, detector_spacing=1.2)


def _blur(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    n, k = (64, 7) if quick else (256, 25)
    kernel = torch.rand(k, k, generator=rng)
    return cls(kernel / kernel.sum(), (3, n, n))


def _variant(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    n, k = (64, 7) if quick else (256, 25)
    weights = torch.rand(4, n, n, generator=rng)
    return cls(torch.rand(4, k, k, generator=rng) / k**2, weights / weights.sum(0), (1, n, n))


def _image(n: int) -> Callable[[bool], tuple[int, int, int]]:
    return lambda quick: (3, n // 4, n // 4) if quick else (3, n, n)


_rgb = _image(256)


def _resample(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    shape = _rgb(quick)
    return cls(shape, (shape[1] // 4, shape[2] // 4), "bicubic")


def _slices(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    n = 16 if quick else 96
    return cls((1, n, n, n), 4.0)


def _sensors(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    """Stations on a one-degree grid that stays clear of the poles, two fields."""
    lat, lon, stations = (19, 36, 50) if quick else (161, 360, 5000)
    axes = [torch.linspace(80, -80, lat), torch.arange(lon) * (360 / lon)]
    u = torch.rand(stations, 2, generator=rng)
    points = torch.stack([160 * u[:, 0] - 80, 360 * u[:, 1]], 1)
    return cls((2, lat, lon), axes, points, kinds=("latitude", "longitude"), units="degrees")


def _coarsen(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    lat, lon, f = (18, 36, 3) if quick else (180, 360, 5)
    fine = [90 - 180 * (i + 0.5) / lat for i in range(lat)], [360 * (i + 0.5) / lon for i in range(lon)]
    wide = [sum(a[i : i + f]) / f for a in fine[:1] for i in range(0, lat, f)]
    return cls((2, lat, lon), *fine, wide, [sum(fine[1][i : i + f]) / f for i in range(0, lon, f)])


def _matrix(cls: Build, rng: torch.Generator, quick: bool) -> Operator:
    m, d = (64, 128) if quick else (1024, 4096)
    return cls(torch.randn(m, d, generator=rng) / math.sqrt(m))


_SIZED: dict[str, Callable[[Build, torch.Generator, bool], Operator]] = {
    "mri": _mri,
    "nufft": _nufft,
    "ct-parallel": _parallel,
    "ct-fan": _fan,
    "ct-cone": _cone,
    "blur": _blur,
    "space-variant-blur": _variant,
    "resample": _resample,
    "strided": lambda cls, rng, quick: cls(_rgb(quick), 4),
    "slice-profile": _slices,
    "inpainting": lambda cls, rng, quick: cls(torch.rand(_rgb(quick)[1:], generator=rng) < 0.3, _rgb(quick)),
    "fourier": lambda cls, rng, quick: cls(_rgb(quick)),
    "point-sensors": _sensors,
    "coarsen": _coarsen,
    "band-response": lambda cls, rng, quick: cls(torch.rand(4, 31, generator=rng), (31, *_rgb(quick)[1:])),
    "coded-aperture": lambda cls, rng, quick: cls(
        (torch.rand(_rgb(quick)[1:], generator=rng) < 0.5).float(), (28, *_rgb(quick)[1:]), 2
    ),
    "matrix": _matrix,
}
