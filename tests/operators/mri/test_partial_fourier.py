"""Partial Fourier masks, and the phase that makes half of k-space enough."""

import math

import pytest
import torch

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.linalg import cg
from invdiff.operators.fourier import fft2c
from invdiff.operators.mri.partial_fourier import PhaseConstraint, low_resolution_phase, partial_fourier_mask
from invdiff.operators.mri.sense import MRI


def scene(size=32):
    """A real object with edges under a smooth phase."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, size, dtype=torch.float64),) * 2, indexing="ij")
    real = y.new_ones(()) * ((y / 0.7) ** 2 + (x / 0.8) ** 2 < 1) + 0.5 * ((x - 0.2).abs() + (y + 0.1).abs() < 0.3)
    phase = 0.8 * x + 0.6 * y**2 - 0.3
    return real[None], phase[None]


@pytest.mark.parametrize(
    ("n", "fraction", "kept"), [(8, 5 / 8, 5), (8, 6 / 8, 6), (9, 0.6, 6), (10, 0.51, 6), (7, 1, 7)]
)
def test_masks(n, fraction, kept):
    first, last = partial_fourier_mask(n, fraction), partial_fourier_mask(n, fraction, start=False)
    assert int(first.sum()) == int(last.sum()) == kept
    assert bool(first[0]) and bool(last[-1]) and bool(first[n // 2]) and bool(last[n // 2])
    assert int(first.long().diff().abs().sum()) == (0 if kept == n else 1)


def test_with_the_phase_half_of_k_space_is_enough():
    real, phase = scene()
    image = torch.polar(real, phase)
    mask = partial_fourier_mask(32, 0.625)
    op = MRI(torch.ones(1, 32, 32, dtype=torch.complex128), mask)
    y = op.forward(image[None])
    zero_filled = op.adjoint(y)
    known = op @ PhaseConstraint(phase)
    found = cg(known.normal, known.adjoint(y), iterations=200, tolerance=1e-12)
    assert float((found - real).norm() / real.norm()) < 1e-6
    assert float((zero_filled - image).norm() / image.norm()) > 0.1


@pytest.mark.parametrize("axis", [-2, -1])
def test_phase_of_the_centre(axis):
    real, phase = scene(64)
    kspace, mask = fft2c(torch.polar(real, phase)), partial_fourier_mask(64, 0.75)
    shape = (64, 1) if axis == -2 else (64,)
    found = low_resolution_phase(kspace * mask.reshape(shape), mask, axis)
    inside = torch.nn.functional.avg_pool2d((real > 0).double(), 9, 1, 4) > 0.999  # away from the rim
    wrong = torch.angle(torch.polar(torch.ones_like(phase), found - phase)).abs()
    assert float(wrong[inside].max()) < 0.1 < float(phase[inside].abs().max())


def test_bad_input_is_refused():
    for n, fraction in ((8, 0.5), (8, 1.1), (8, math.nan), (0, 0.75)):
        with pytest.raises(InputError, match="partial_fourier_mask"):
            partial_fourier_mask(n, fraction)
    k = torch.ones(4, 6, dtype=torch.complex64)
    for mask, axis in ((torch.ones(4), -1), (torch.ones(6), 1), (torch.ones(1, 6), -1)):
        with pytest.raises(ShapeError, match="low_resolution_phase"):
            low_resolution_phase(k, mask.bool(), axis)
    with pytest.raises(InputError, match="centre"):
        low_resolution_phase(k, torch.arange(6) < 3, -1)
    with pytest.raises(ShapeError, match="C, "):
        PhaseConstraint(torch.tensor(1.0))
    with pytest.raises(DTypeError, match="radians"):
        PhaseConstraint(k)
    with pytest.raises(InputError, match="NaN"):
        PhaseConstraint(torch.full((1, 2, 2), math.nan))
