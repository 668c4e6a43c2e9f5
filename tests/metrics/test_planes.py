import math

import numpy as np
import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.metrics.image import psnr, ssim
from invdiff.metrics.planes import PLANES, plane_scores, planes_of, roughness

RNG = torch.Generator().manual_seed(0)
TRUTH = torch.rand(8, 9, 10, generator=RNG)


def test_planes_are_slices_along_z_y_and_x():
    off = TRUTH.clone()
    off[3] += 0.1  # one axial slice is wrong: it alone scores in the axial plane, every slice of the others does
    found, span = plane_scores(TRUTH, off), float(TRUTH.max())
    assert tuple(found) == PLANES
    axial, coronal = found["axial"][0], found["coronal"][0]
    assert axial == pytest.approx(psnr(TRUTH[3], off[3], span))  # the others are perfect and have no finite PSNR
    assert coronal == pytest.approx(sum(psnr(TRUTH[:, k], off[:, k], span) for k in range(9)) / 9)
    assert found["sagittal"][1] == pytest.approx(sum(ssim(TRUTH[..., k], off[..., k], span) for k in range(10)) / 10)


def test_empty_slices_are_left_out():
    truth, estimate = TRUTH.clone(), TRUTH + 0.1
    truth[:2] = 0
    span = float(truth.max())
    expected = sum(psnr(truth[k], estimate[k], span) for k in range(2, 8)) / 6
    assert plane_scores(truth, estimate)["axial"][0] == pytest.approx(expected)


def test_thin_volumes_have_no_ssim_from_the_side():
    found = plane_scores(TRUTH[:5], TRUTH[:5] + 0.1)
    assert found["axial"][1] is not None and found["coronal"][1] is None
    with pytest.raises(ShapeError):
        plane_scores(TRUTH, TRUTH[:5])


def test_roughness_is_along_z():
    white = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(1))
    zero = torch.zeros_like(white)
    assert roughness(zero, white) == pytest.approx(1, abs=0.15)  # 6 000 numbers on each side
    smooth = (white + white.roll(1, 0)) / 2  # along z: cos^2(k/2), mean over the upper half 0.18
    assert roughness(zero, smooth) == pytest.approx((0.5 - 1 / math.pi) * 2, abs=0.06)
    assert roughness(zero, smooth.transpose(0, 2)) > 1.3


def test_planes_are_named_by_how_a_volume_stands():
    axial = np.array([[0, 0, 2.0, 0], [0, -2, 0, 0], [3, 0.1, 0, 0], [0, 0, 0, 1]])  # slices to the head
    assert planes_of(axial) == PLANES
    sagittal = np.array([[1.0, 0.2, 0, 0], [0.1, 0, -1, 0], [0, 1, 0.2, 0], [0, 0, 0, 1]])  # slices right to left
    assert planes_of(sagittal) == ("sagittal", "axial", "coronal")
    oblique = np.array([[1, 0.9, 0, 0], [0.5, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # two axes to the left
    assert planes_of(oblique) == PLANES
    found = plane_scores(TRUTH, TRUTH + 0.1, planes_of(sagittal))
    assert found["sagittal"] == plane_scores(TRUTH, TRUTH + 0.1)["axial"]
