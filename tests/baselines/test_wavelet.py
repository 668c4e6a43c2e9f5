import itertools

import numpy as np
import pytest
import torch

from invdiff.baselines.problem import Problem
from invdiff.baselines.wavelet import Wavelets, wavelet
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.operators.mri.sense import MRI


def image(*shape: int) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)


@pytest.mark.parametrize("shape", [(32, 32), (23, 50), (40,), (9, 10, 12), (3, 4)])
def test_transform_preserves_norms_at_any_size(shape):
    bases = Wavelets(shape, image(*shape))
    power = sum(filters.abs().square().sum(0) for _, filters in bases.bands)
    torch.testing.assert_close(power, torch.ones(shape, dtype=torch.float64))
    # Hence nothing is lost where nothing is shrunk, and everything where all is.
    x = image(1, *shape)
    torch.testing.assert_close(bases.shrink(x, torch.tensor([1e-12])), x)
    assert float(bases.shrink(x, torch.tensor([1e9])).abs().max()) < 1e-12


@pytest.mark.parametrize("shape", [(16, 24), (32, 32)])
def test_shrinkage_is_the_mean_over_all_shifts_of_the_orthogonal_basis(shape):
    pywt = pytest.importorskip("pywt", reason="PyWavelets is not installed")
    x, weight = image(*shape)[0].numpy(), 0.7
    bases = Wavelets(shape, image(*shape))
    block = 2**bases.levels
    total = np.zeros_like(x)
    for shift in itertools.product(range(block), repeat=2):
        rolled = np.roll(x, shift, (0, 1))
        parts = [
            pywt.coeffs_to_array(pywt.wavedec2(part, "db4", mode="periodization", level=bases.levels))
            for part in (rolled.real, rolled.imag)
        ]
        c, where = parts[0][0] + 1j * parts[1][0], parts[0][1]
        c = c * (1 - weight / np.maximum(np.abs(c), weight))
        back = [
            pywt.waverec2(pywt.array_to_coeffs(part, where, output_format="wavedec2"), "db4", mode="periodization")
            for part in (c.real, c.imag)
        ]
        total += np.roll(back[0] + 1j * back[1], (-shift[0], -shift[1]), (0, 1))
    found = bases.shrink(torch.from_numpy(x)[None], torch.tensor([weight], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(found, total / block**2, rtol=0, atol=1e-12)


def test_each_example_has_its_own_weight():
    x = image(1, 20, 20)
    bases = Wavelets((20, 20), x)
    both = bases.shrink(x.expand(2, -1, -1, -1), torch.tensor([0.1, 1.0]))
    for i, weight in enumerate((0.1, 1.0)):
        torch.testing.assert_close(both[i : i + 1], bases.shrink(x, torch.tensor([weight])))


def small_mri() -> Measurement:
    g = torch.Generator().manual_seed(0)
    op = MRI(torch.randn(3, 18, 23, generator=g, dtype=torch.complex128), torch.rand(18, 23, generator=g) < 0.5)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 18), torch.linspace(-1, 1, 23), indexing="ij")
    x = torch.exp(-4 * (rows**2 + columns**2) + 1j * columns).to(torch.complex128)[None, None]
    noise = Gaussian(0.3)
    return Measurement((noise.sample(op.forward(x), g) * op.mask)[0], op, noise)


def test_reconstruction_is_a_fixed_point():
    # x = prox(x - step * gradient), for the step that the solver takes: one over the largest curvature.
    case, strength = small_mri(), 3.0
    x = wavelet(case, strength, 600)
    problem = Problem(case, strength, 1, "wavelet")
    step = 1 / problem.lipschitz()
    moved = x - step * (problem.precision(x) - problem.information)
    bases = Wavelets((18, 23), x)
    again = bases.shrink(moved, step * strength / problem.scale)
    # A few percent of doubt about the step, none about the penalty: twice or half of it is told apart.
    assert float((again - x).norm() / x.norm()) < 1e-3
    for wrong in (0.5, 2.0):
        away = bases.shrink(moved, wrong * step * strength / problem.scale)
        assert float((away - x).norm() / x.norm()) > 1e-2


def test_more_iterations_change_nothing():
    case = small_mri()
    x = wavelet(case, 3.0)
    assert float((wavelet(case, 3.0, 1000) - x).norm() / x.norm()) < 1e-3


def test_denoising_is_one_shrinkage():
    # With A = 1 the step is 1 and the fixed point is the shrinkage of the data itself.
    y = image(20, 20)
    case = Measurement(y, Identity((1, 20, 20), "complex"), Gaussian(1.0))
    scale = float((y.abs() ** 4).sum() / (y.abs() ** 2).sum()) ** 0.5
    expected = Wavelets((20, 20), y).shrink(y[None], torch.tensor([2.0 / scale], dtype=torch.float64))
    torch.testing.assert_close(wavelet(case, 2.0, 300), expected, rtol=0, atol=1e-6)
