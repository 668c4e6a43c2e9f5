"""Noise levels found in simulations whose noise is known."""

import functools

import numpy as np
import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.operators.fourier import fft2c
from invdiff.operators.mri.coils import espirit
from invdiff.operators.mri.noise_level import noise_level, residual_noise_level
from invdiff.operators.mri.sense import MRI

SIZE = (144, 128)


@functools.cache
def image(seed, full):
    """Overlapping discs of random grey, with smooth phase: up to the corners, or within an ellipse."""
    rng = np.random.default_rng(seed)
    yy, xx = np.meshgrid(*(np.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    x = np.zeros(SIZE)
    for _ in range(150):
        radius = min(0.05 * rng.random() ** -0.7, 0.8)
        centre = rng.uniform(-1.1, 1.1, 2)
        cover = 1 / (1 + np.exp(np.clip((np.hypot(yy - centre[0], xx - centre[1]) - radius) * 100, -50, 50)))
        x = x * (1 - cover) + cover * rng.random()
    if not full:
        x = x * (np.hypot(yy / 0.85, xx / 0.75) < 1)
    return torch.from_numpy(x * np.exp(1j * (1.5 * yy + xx * yy)))


def sensitivities(coils):
    yy, xx = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in SIZE), indexing="ij")
    angle = 2 * torch.pi * torch.arange(coils, dtype=torch.float64)[:, None, None] / coils
    maps = torch.polar(torch.exp(-((yy - 1.3 * angle.sin()) ** 2 + (xx - 1.3 * angle.cos()) ** 2) / 1.6), angle)
    return maps / torch.linalg.vector_norm(maps, dim=0).mean() if coils > 1 else torch.ones(1, *SIZE)


def sampling(kind, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mask = torch.rand(SIZE, generator=rng) < 0.15
    if kind == "columns":
        mask = (torch.rand(SIZE[1], generator=rng) < 0.2).expand(SIZE).clone()
        mask[:, SIZE[1] // 2 - 12 : SIZE[1] // 2 + 12] = True
    mask[SIZE[0] // 2 - 12 : SIZE[0] // 2 + 12, SIZE[1] // 2 - 12 : SIZE[1] // 2 + 12] = True
    return mask | (kind == "full")


def measured(coils, sigma, kind, full=True, seed=0):
    mask = sampling(kind)
    kspace = fft2c(sensitivities(coils) * image(seed, full))
    noise = torch.randn(2, *kspace.shape, generator=torch.Generator().manual_seed(seed + 100), dtype=torch.float64)
    return ((kspace + sigma * torch.complex(*noise)) * mask).to(torch.complex64), mask


@pytest.mark.parametrize("full", [True, False], ids=["to the corners", "an ellipse"])
@pytest.mark.parametrize("kind", ["points", "columns", "full"])
@pytest.mark.parametrize("sigma", [0.01, 0.04])
@pytest.mark.parametrize("coils", [4, 8, 15])
def test_within_five_per_cent(coils, sigma, kind, full):
    found = noise_level(*measured(coils, sigma, kind, full))
    # 4 coils and little noise is the hardest case; there the uncertainty is part of the answer.
    assert abs(found.sigma - sigma) < max(0.05 * sigma, (coils == 4) * 2 * found.uncertainty)
    assert found.uncertainty < (0.05 if coils > 4 else 0.25) * sigma


@pytest.mark.parametrize("kind", ["points", "columns"])
def test_one_coil(kind):
    found = noise_level(*measured(1, 0.1, kind))
    assert abs(found.sigma - 0.1) < 0.05 * 0.1
    # Signal above the noise everywhere: not to be told from it, and said so.
    lost = noise_level(*measured(1, 0.003, kind))
    assert lost.uncertainty > 0.3 * lost.sigma and abs(lost.sigma - 0.003) < 2 * lost.uncertainty


def test_uncertainty_is_honest():
    """Over independent noise and images, errors in units of the stated uncertainty have the size of one."""
    errors = []
    for seed in range(12):
        found = noise_level(*measured(8, 0.02, "points", seed=seed))
        errors.append((found.sigma - 0.02) / found.uncertainty)
    assert 0.3 < np.sqrt(np.mean(np.square(errors))) < 2


def test_scales_with_the_data_and_ignores_what_was_not_sampled():
    kspace, mask = measured(8, 0.02, "points")
    found = noise_level(kspace, mask)
    assert noise_level(300 * kspace, mask).sigma == pytest.approx(300 * found.sigma, rel=1e-4)
    assert noise_level(kspace + 1e3 * ~mask, mask) == found


def test_zero_padded_kspace():
    kspace, mask = measured(8, 0.02, "points")
    padded = torch.nn.functional.pad(kspace, (30, 30, 40, 40)), torch.nn.functional.pad(mask, (30, 30, 40, 40))
    assert noise_level(*padded) == pytest.approx(noise_level(kspace, mask))


def test_coils_of_different_noise():
    kspace, mask = measured(8, 0.0, "columns")
    sigmas = torch.linspace(0.02, 0.04, 8, dtype=torch.float64)
    noise = torch.complex(*torch.randn(2, 8, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    found = noise_level(kspace + sigmas[:, None, None] * noise * mask, mask)
    mean = float(sigmas.square().mean().sqrt())
    assert abs(found.sigma - mean) < 2 * found.uncertainty and 0.02 * mean < found.uncertainty < 0.2 * mean


@pytest.mark.parametrize(("coils", "kind"), [(4, "columns"), (8, "points"), (8, "columns")])
@pytest.mark.parametrize("sigma", [0.01, 0.04])
def test_residual_with_the_true_maps(coils, kind, sigma):
    kspace, mask = measured(coils, sigma, kind)
    found = residual_noise_level(kspace, MRI(sensitivities(coils).to(torch.complex64), mask))
    assert abs(found.sigma - sigma) < 4 * found.uncertainty
    assert found.uncertainty < 0.03 * sigma


def test_residual_with_estimated_maps():
    kspace, mask = measured(8, 0.02, "columns", full=False)
    found = residual_noise_level(kspace, MRI(espirit(kspace, margin=2)[0], mask))
    assert found.sigma == pytest.approx(0.02, rel=0.05)


def test_an_acquisition(data_dir):
    """Both estimates agree, though they look at different things."""
    kspace = torch.from_numpy(np.load(data_dir / "mri" / "brain_8coil_kspace.npy"))
    mask = (kspace != 0).any(0)
    spectral = noise_level(kspace, mask)
    residual = residual_noise_level(kspace, MRI(espirit(kspace)[0], mask))
    assert abs(spectral.sigma - residual.sigma) < 2 * spectral.uncertainty
    assert spectral.uncertainty < 0.15 * spectral.sigma


def test_errors():
    kspace, mask = measured(4, 0.02, "points")
    with pytest.raises(ShapeError, match=r"\(1, 4, 144, 128\)"):
        noise_level(kspace[None], mask)
    with pytest.raises(ShapeError, match=r"\(128, 144\)"):
        noise_level(kspace, mask.T)
    with pytest.raises(InputError, match="false everywhere"):
        noise_level(kspace, mask & False)
    with pytest.raises(InputError, match="NaN"):
        noise_level(kspace / 0, mask)
    with pytest.raises(InputError, match="80"):
        noise_level(kspace, torch.nn.functional.pad(mask[68:76, 60:68], (60, 60, 68, 68)))
    with pytest.raises(InputError, match="exactly zero"):
        noise_level(kspace * 0, mask)
    op = MRI(sensitivities(1).to(torch.complex64), mask)
    with pytest.raises(InputError, match="takes up"):
        residual_noise_level(kspace[:1], op)
    with pytest.raises(ShapeError, match="4, 144"):
        residual_noise_level(kspace, op)
    with pytest.raises(ShapeError, match="one problem"):
        residual_noise_level(kspace, MRI(torch.ones(2, 4, *SIZE, dtype=torch.complex64), mask))
