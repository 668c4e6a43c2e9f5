"""The conformance suite on the options that the registered examples do not take."""

import pytest
import torch

from invdiff.operators import (
    BeerLambert,
    Blur,
    Diagonal,
    Fourier,
    Inpainting,
    Matrix,
    PointSensors,
    Resample,
    Saturation,
    SliceProfile,
    SpaceVariantBlur,
    Strided,
    WindSpeed,
)
from invdiff.operators.algebra import stack
from invdiff.validation.operator_suite import check_operator

SPHERE = ("latitude", "longitude")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


def sensors(**more):
    lat, lon = torch.linspace(-75, 75, 6), torch.arange(8) * 45.0
    points = torch.rand(7, 2, generator=rng()) * torch.tensor([180.0, 360.0]) - torch.tensor([90.0, 0.0])
    return PointSensors((2, 6, 8), (lat, lon), points, SPHERE, vectors=(True, False), **more)


def dropped():
    axes = (torch.tensor([1000.0, 500.0, 100.0]), torch.linspace(50, 58, 4), torch.linspace(-10, 2, 5))
    points = torch.tensor([[700.0, 51.0, 359.0], [700.0, 49.0, 0.0], [100.0, 57.9, -10.0]])
    return PointSensors((2, 3, 4, 5), axes, points, ("log", *SPHERE), outside="drop")


VARIANTS = {
    "periodic": lambda: Blur(randn(3, 5), (2, 6, 7)),
    "zero": lambda: Blur(randn(4, 5), (1, 6, 7), "zero", (0, 4)),
    "valid": lambda: Blur(randn(3, 4), (1, 6, 7), "valid", (1, 1)),
    "complex kernel": lambda: Blur(randn(3, 3, dtype=torch.complex64), (1, 6, 7), "reflect", domain="complex"),
    "volume": lambda: Blur(randn(3, 1, 3), (1, 4, 5, 6), "reflect"),
    "line": lambda: Blur(randn(3), (2, 9), "valid"),
    "complex field": lambda: SpaceVariantBlur(randn(2, 3, 3), randn(2, 5, 6), (1, 5, 6), "reflect", domain="complex"),
    "area": lambda: Resample((2, 8, 9), (4, 3), "area"),
    "complex bicubic": lambda: Resample((1, 8, 9), (5, 12), domain="complex"),
    "complex stride": lambda: Strided((1, 8, 9), 2, domain="complex"),
    "complex slices": lambda: SliceProfile((1, 3, 9), 2.0, 3.0, "gaussian", 2, "complex"),
    "one channel each": lambda: sensors(channels=torch.tensor([0, 1, 1, 0, 1, 0, 0])),
    "complex sensors": lambda: sensors(domain="complex"),
    "levels, some outside": dropped,
    "complex mask": lambda: Inpainting(torch.eye(4), (2, 4, 4), "complex"),
    "coil": lambda: Inpainting(torch.eye(4), (1, 4, 4), "complex") @ Fourier((1, 4, 4)),
    "super-resolution": lambda: Strided((1, 6, 8), 2) @ Blur(randn(3, 3), (1, 6, 8)),
    "gram": lambda: Blur(randn(3, 3), (1, 6, 8)).gram(),
    "instruments": lambda: stack([sensors(), dropped_like(), 0.5 * Diagonal(randn(6, 8), (2, 6, 8))]),
    "speed of stations": lambda: WindSpeed((2, 7)) @ sensors(),
    "saturating": lambda: Saturation((1, 4, 5), high=0.6) @ Resample((1, 8, 10), (4, 5)),
    "masked rays": lambda: BeerLambert(Matrix(0.2 * randn(5, 4))[torch.tensor([True, False, True, True, True])]),
    "mixed": lambda: stack([WindSpeed((2, 6, 8)), Resample((2, 6, 8), (2, 4), "area")]),
}


def dropped_like():
    return sensors(outside="drop")[torch.tensor([True, False])[:, None]]


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_conforms(name):
    report = check_operator(VARIANTS[name]())
    assert report.ok, str(report)
