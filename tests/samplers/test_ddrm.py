"""DDRM and DDNM+: one step in the spectral basis, every way to a spectrum, and the noise left after a step."""

import math

import pytest
import torch

from invdiff.errors import InputError, UnknownNameError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.imaging.blur import Blur
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.operators.matrix import Matrix
from invdiff.operators.mri.sense import MRI
from invdiff.priors.gaussian import GaussianPrior, normal
from invdiff.random import Streams, generator
from invdiff.samplers.ddnm_plus import DDNMPlus
from invdiff.samplers.ddrm import DDRM, spectral_step
from invdiff.samplers.spectrum import _dense, spectrum
from invdiff.solvers import State
from invdiff.validation.linear_gaussian import components


class NoNoise(Streams):
    def normal(self, like):
        return torch.zeros_like(like)


@pytest.mark.parametrize("eta_b", [1.0, 0.6])
def test_a_step_is_the_papers(eta_b):
    # Four directions: no data, noisier than the step, cleaner, and hardly seen.
    scales = torch.tensor([2.0, 0.1, 0.0, 1e-4])
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator(0)))
    measurement = Measurement(torch.randn(4, generator=generator(1)), Matrix(scales[:, None] * turn.T), Gaussian(0.2))
    x, x0 = torch.randn(2, 2, 4, generator=generator(2))
    t, s, eta = 1.1, 0.7, 0.85
    known = spectrum(measurement, "test")
    streams = Streams(3, range(2))
    z = Streams(3, range(2)).normal(x) @ turn
    c, c0, kept = x @ turn, x0 @ turn, math.sqrt(1 - eta**2)
    expected = torch.empty_like(x)
    ybar, n = measurement.y / scales, 0.2 / scales
    free = c0 + kept * s / t * (c - c0) + eta * s * z
    low = c0 + kept * s / n * (ybar - c0) + eta * s * z
    high = (1 - eta_b) * c0 + eta_b * ybar + (s**2 - eta_b**2 * n**2).clamp_min(0).sqrt() * z
    expected[:, 0], expected[:, 1], expected[:, 2], expected[:, 3] = high[:, 0], low[:, 1], free[:, 2], low[:, 3]
    found = spectral_step(known, x, x0, t, s, eta, eta_b, streams)
    torch.testing.assert_close(found @ turn, expected, rtol=1e-4, atol=1e-4)


def kernel(shape):
    return torch.rand(shape, generator=generator(9))


OPERATORS = {
    "mask": lambda: Inpainting(torch.rand(4, 5, generator=generator(0)) < 0.6, (1, 4, 5)),
    "blur": lambda: Blur(kernel((3, 3)), (1, 4, 5)),
    "single-coil k-space": lambda: MRI(
        torch.ones(1, 4, 5, dtype=torch.complex64), torch.rand(4, 5, generator=generator(0)) < 0.5
    ),
    "matrix": lambda: Matrix(torch.randn(3, 5, generator=generator(0), dtype=torch.complex64)),
}


@pytest.mark.parametrize("eta_b", [1.0, 0.6])
@pytest.mark.parametrize("name", OPERATORS)
def test_structure_and_decomposition_agree(name, eta_b):
    op = OPERATORS[name]()
    dtype = torch.complex64 if op.domain == "complex" else torch.float32
    truth, x, x0 = normal((3, *op.domain_shape), dtype, generator(1))[:, None]
    measurement = Measurement(op.forward(truth)[0], op, Gaussian(0.3))
    decomposed = _dense(op, measurement.data, 0.3)
    decomposed.__dict__["level"] = None  # as if the noise differed between coefficients
    for s in (0.1, 3.0):
        steps = [
            spectral_step(k, x, x0, 2 * s, s, 0.85, eta_b, Streams(0, [0]))
            for k in (spectrum(measurement, "test"), decomposed)
        ]
        torch.testing.assert_close(steps[0], steps[1], rtol=2e-3, atol=2e-3)


def test_without_noise_the_data_are_met_and_ddnm_plus_is_ddrm():
    a = torch.randn(3, 6, generator=generator(0))
    prior = GaussianPrior(torch.zeros(6), torch.eye(6))
    measurement = Measurement(torch.randn(3, generator=generator(1)), Matrix(a), Gaussian(1e-6))
    like = torch.empty(4, 6)
    *_, ddrm = DDRM(nfe=30).steps(prior, measurement, like, Streams(0, range(4)))
    assert float(measurement.residual(ddrm.x).abs().max()) < 0.02  # the last step's x0 pulls by sigma_min^2
    state = State(3, 10, 1.0, torch.randn(4, 6, generator=generator(2)))
    plus, same = (
        next(make(nfe=10).steps(prior, measurement, like, Streams(0, range(4)), state)).x for make in (DDNMPlus, DDRM)
    )
    assert torch.equal(plus, same)


@pytest.mark.parametrize("sigma_y", [1e-3, 0.5, 10.0])
def test_the_simplified_step_leaves_the_noise_it_should(sigma_y):
    # A = identity and the truth denoised: x_s - x_true has variance s^2 whatever the noise of the data.
    op = Matrix(torch.eye(400))
    y = sigma_y * torch.randn(400, generator=generator(0))  # the truth is 0
    step = DDNMPlus()._simplified(Measurement(y, op, Gaussian(sigma_y)))
    t, s = 1.0, 0.6
    x = t * torch.randn(1, 400, generator=generator(1))
    found = step(x, torch.zeros(1, 400), t, s, Streams(5, [0]))
    # 400 numbers: their variance is known to 7 %
    assert abs(float(found.var()) / s**2 - 1) < 0.25


def test_ddnm_plus_runs_on_multi_coil_mri_with_time_travel():
    op = MRI(normal((4, 48, 40), torch.complex64, generator(0)), torch.rand(40, generator=generator(1)) < 0.5)
    with pytest.raises(InputError, match="ddnm, dds or mmps"):
        spectrum(Measurement(torch.zeros(op.range_shape, dtype=torch.complex64), op, Gaussian(0.1)), "DDRM")
    truth = normal((1, 1, 48, 40), torch.complex64, generator(2))
    measurement = Measurement(op.forward(truth)[0], op, Gaussian(0.1))

    class White(GaussianPrior):
        def __init__(self):
            self.domain, self.scale, self.sigma_min, self.sigma_max = "complex", 1.0, 0.01, 10.0

        def denoise(self, x, sigma):
            return x / (1 + sigma**2)

    sampler = DDNMPlus(nfe=13, repeats=3)
    *_, last = sampler.steps(White(), measurement, torch.empty_like(truth), Streams(0, [0]))
    assert last.total == 4 and sampler.counts.nfe == 3 * 3 + 1
    assert float(measurement.chi2(last.x)) < 0.2 * float(measurement.chi2(torch.zeros_like(truth)))
    assert bool(torch.isfinite(components(last.x)).all())


def test_noise_that_differs_between_data_is_whitened():
    a = torch.randn(3, 5, generator=generator(0))
    sigma = torch.tensor([0.1, 1.0, 3.0])
    y = torch.randn(3, generator=generator(1))
    mixed = spectrum(Measurement(y, Matrix(a), Gaussian(sigma)), "test")
    white = spectrum(Measurement(y / sigma, Matrix(a / sigma[:, None]), Gaussian(1.0)), "test")
    torch.testing.assert_close(mixed.noise, white.noise)
    torch.testing.assert_close(mixed.synthesis(mixed.data), white.synthesis(white.data), rtol=1e-4, atol=1e-4)


def test_even_levels_fall_from_three_scales_by_equal_steps():
    prior = GaussianPrior(torch.zeros(6), 4 * torch.eye(6))
    measurement = Measurement(torch.ones(3), Matrix(torch.eye(6)[:3]), Gaussian(0.1))
    states = list(DDRM(nfe=8, levels="even").steps(prior, measurement, torch.zeros(4, 6), Streams(0, range(4))))
    assert [s.sigma for s in states[:-1]] == pytest.approx(
        torch.linspace(3 * prior.scale, prior.sigma_min, 8)[1:].tolist()
    )
    assert len(states) == 8 and states[-1].sigma == 0 and prior.sigma_max > 3 * prior.scale
    with pytest.raises(UnknownNameError, match="known: ddpm, even"):
        DDRM(levels="karras")
