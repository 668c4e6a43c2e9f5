import math

import numpy as np
import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.metrics.image import nmse, psnr, ssim


def pair(slices: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    truth = torch.randn(slices, 20, 24, generator=g).abs().cumsum(1) / 10
    truth[0] *= 0.3  # slices of different maxima, so that it matters whose maximum is used
    return truth, truth + 0.05 * torch.randn(slices, 20, 24, generator=g).abs()


def test_agreement_with_fastmri():
    evaluate = pytest.importorskip("fastmri.evaluate", reason="fastmri (with requests) is not installed")
    truth, estimate = pair()
    a, b = truth.double().numpy(), estimate.double().numpy()
    assert nmse(truth, estimate) == pytest.approx(float(evaluate.nmse(a, b)), rel=1e-12)
    assert psnr(truth, estimate) == pytest.approx(float(evaluate.psnr(a, b)), rel=1e-12)
    assert ssim(truth, estimate) == pytest.approx(float(evaluate.ssim(a, b)[0]), rel=1e-12)
    assert psnr(truth, estimate, 2.0) == pytest.approx(float(evaluate.psnr(a, b, 2.0)), rel=1e-12)
    assert ssim(truth, estimate, 2.0) == pytest.approx(float(evaluate.ssim(a, b, 2.0)[0]), rel=1e-12)


def test_known_values():
    truth = torch.full((8, 8), 2.0)
    assert nmse(truth, truth + 0.2) == pytest.approx(0.01, rel=1e-6)
    assert psnr(truth, truth + 0.2) == pytest.approx(20.0, rel=1e-6)
    assert psnr(truth, truth + 0.2, data_range=20.0) == pytest.approx(40.0, rel=1e-6)
    assert psnr(truth, truth) == math.inf
    assert ssim(truth, truth) == pytest.approx(1.0)


def test_phase_is_not_judged():
    truth, estimate = pair()
    turned = torch.polar(estimate, torch.rand(estimate.shape, generator=torch.Generator().manual_seed(1)))
    for metric in (nmse, psnr, ssim):
        assert metric(truth, turned) == pytest.approx(metric(truth, estimate), rel=1e-5)


def test_leading_axes_are_slices():
    truth, estimate = pair(4)
    for metric in (nmse, psnr, ssim):
        assert metric(truth.reshape(2, 2, 20, 24), estimate.reshape(2, 2, 20, 24)) == metric(truth, estimate)
        assert metric(truth[0], estimate[0]) == metric(truth[:1], estimate[:1])


def test_nan_is_not_hidden():
    truth, estimate = pair()
    estimate[0, 0, 0] = torch.nan
    assert np.isnan([nmse(truth, estimate), psnr(truth, estimate)]).all()


def test_wrong_input_is_refused():
    truth, estimate = pair()
    with pytest.raises(ShapeError, match="truth has shape"):
        psnr(truth, estimate[:2])
    with pytest.raises(ShapeError, match="truth has shape"):
        nmse(truth[0, 0], estimate[0, 0])
    with pytest.raises(ShapeError, match="at least 7"):
        ssim(truth[..., :6], estimate[..., :6])
    with pytest.raises(InputError, match="zero everywhere"):
        nmse(0 * truth, estimate)
    with pytest.raises(InputError, match="NaN"):
        nmse(truth * torch.nan, estimate)
    with pytest.raises(InputError, match="data_range"):
        psnr(truth, estimate, 0.0)
