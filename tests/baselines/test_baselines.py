"""What the linear reconstructions share: shapes, scales, batches, refusals, and the CG solution itself."""

from typing import Any

import pytest
import torch
from torch import Tensor

from invdiff.baselines.cg_sense import cg_sense
from invdiff.baselines.fista import fista
from invdiff.baselines.problem import Problem
from invdiff.baselines.tv import tv
from invdiff.baselines.wavelet import wavelet
from invdiff.baselines.zero_filled import zero_filled
from invdiff.errors import InputError
from invdiff.linalg import inner
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian, Noise
from invdiff.operators.base import Operator
from invdiff.operators.matrix import Identity, Matrix
from invdiff.operators.mri.sense import MRI

METHODS = {"cg_sense": cg_sense, "tv": tv, "wavelet": wavelet}
SIGMA = 0.05


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complex_case(problems: int = 1, factor: float = 1.0, gain: float = 1.0) -> Any:
    """Blocks seen by four coils, y and sigma times `factor`, the operator times `gain`."""
    maps = torch.randn(problems, 4, 16, 20, generator=rng(0), dtype=torch.complex64) / 2
    op = MRI(gain * maps, torch.rand(16, 20, generator=rng(1)) < 0.6)
    x = torch.zeros(problems, 1, 16, 20, dtype=torch.complex64)
    for p in range(problems):
        x[p, :, 3 : 9 + p, 5:14] = torch.tensor(1 + 1j)
        x[p, :, 6:12, 10:18] = torch.tensor(0.5j)
    clean = MRI(maps, op.mask).forward(x)
    y = factor * Gaussian(SIGMA).sample(clean, rng(2)) * op.mask[:, None]
    return Measurement(y if problems > 1 else y[0], op, Gaussian(SIGMA * factor), batched=problems > 1)


@pytest.mark.parametrize("method", METHODS)
def test_shape_type_and_determinism(method):
    case = complex_case()
    x = METHODS[method](case, 3.0, 20)
    assert x.shape == (1, 1, 16, 20) and x.dtype == torch.complex64
    assert bool((METHODS[method](case, 3.0, 20) == x).all())
    assert not bool((METHODS[method](case, 30.0, 20) == x).all())


@pytest.mark.parametrize("method", METHODS)
def test_strength_has_no_unit(method):
    # The same problem with data in another unit, and with x in another unit.
    x = METHODS[method](complex_case(), 3.0, 20)
    torch.testing.assert_close(METHODS[method](complex_case(factor=1e4), 3.0, 20), 1e4 * x, rtol=1e-3, atol=30.0)
    torch.testing.assert_close(METHODS[method](complex_case(gain=1e-3), 3.0, 20), 1e3 * x, rtol=1e-3, atol=3.0)


@pytest.mark.parametrize("method", METHODS)
def test_sigma_per_datum(method):
    # Sigma given as a tensor; and data with infinite noise (nearly) count as if they had not been taken.
    case = complex_case()
    x = METHODS[method](case, 3.0, 20)
    same = Measurement(case.y, case.operator, Gaussian(torch.full((4, 16, 20), SIGMA)))
    torch.testing.assert_close(METHODS[method](same, 3.0, 20), x, rtol=1e-3, atol=1e-3)
    sigma = torch.full((4, 1, 1), SIGMA)
    sigma[2] = 1e5 * SIGMA
    blind = Measurement(case.y, case.operator, Gaussian(sigma))
    keep = torch.tensor([0, 1, 3])
    fewer = Measurement(case.y[keep], MRI(case.operator.coil_maps[:, :, keep], case.operator.mask), Gaussian(SIGMA))
    torch.testing.assert_close(METHODS[method](blind, 3.0, 20), METHODS[method](fewer, 3.0, 20), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_batch_of_problems_is_each_alone(method):
    case = complex_case(problems=2)
    x = METHODS[method](case, 3.0, 15)
    for p in range(2):
        torch.testing.assert_close(x[p : p + 1], METHODS[method](case.take([p]), 3.0, 15), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(40,), (2, 12, 15), (1, 8, 9, 10)])
def test_real_images_of_any_rank(method, shape):
    y = torch.zeros(shape)
    y[..., 3:6] = 1.0
    y += 0.1 * torch.randn(shape, generator=rng(0))
    x = METHODS[method](Measurement(y, Identity(shape), Gaussian(0.1)), 3.0, 20)
    assert x.shape == (1, *shape) and x.dtype == torch.float32
    as_complex = Measurement(y.to(torch.complex64), Identity(shape, "complex"), Gaussian(0.1))
    torch.testing.assert_close(METHODS[method](as_complex, 3.0, 20), x.to(torch.complex64), rtol=1e-4, atol=1e-5)


def test_zero_filled_is_the_adjoint():
    case = complex_case(problems=2)
    assert bool((zero_filled(case) == case.operator.adjoint(case.data)).all())


def test_cg_sense_solves_the_normal_equations():
    g = rng(3)
    matrix = torch.randn(12, 8, generator=g, dtype=torch.complex128)
    y = torch.randn(12, generator=g, dtype=torch.complex128)
    case = Measurement(y, Matrix(matrix), Gaussian(0.25))
    start = Problem(case, 2.0, 1, "cg_sense").start[0]
    backprojected = matrix.mH @ y  # the best multiple of it, and its scale, written out
    image = backprojected * (backprojected.abs() ** 2).sum() / ((matrix @ backprojected).abs() ** 2).sum()
    torch.testing.assert_close(start, image)
    scale2 = float((image.abs() ** 4).sum() / (image.abs() ** 2).sum())
    ridge = 2.0 * 0.25**2 / scale2 * torch.eye(8, dtype=torch.complex128)
    expected = torch.linalg.solve(matrix.mH @ matrix + ridge, matrix.mH @ y)
    torch.testing.assert_close(cg_sense(case, 2.0, 20)[0], expected, rtol=1e-9, atol=1e-9)


def test_fista_corrects_a_curvature_that_is_too_low():
    g = rng(4)
    root = torch.randn(2, 9, 9, generator=g, dtype=torch.float64)
    n = root @ root.mT
    b = (n @ torch.randn(2, 9, 1, generator=g, dtype=torch.float64))[..., 0]

    def precision(x: Tensor) -> Tensor:
        return (n @ x[..., None])[..., 0]

    low = 0.3 * torch.linalg.eigvalsh(n)[:, -1]
    x = fista(precision, b, lambda v, t: v, torch.zeros_like(b), low, iterations=3000)
    assert float((inner(precision(x) - b, precision(x) - b) / inner(b, b)).max()) < 1e-8


def test_fista_restarts_its_momentum():
    # A condition number of 1000: momentum that is never stopped overshoots for thousands of steps.
    d = torch.logspace(-3, 0, 50, dtype=torch.float64)[None]
    x = fista(lambda v: d * v, d, lambda v, t: v, 0 * d, torch.ones(1).double(), iterations=800)
    assert float((x - 1).abs().max()) < 1e-4


class Square(Operator):
    domain_shape = range_shape = (3,)

    def _forward(self, x: Tensor) -> Tensor:
        return x**2


@pytest.mark.parametrize("method", METHODS)
def test_refusals(method):
    case = complex_case()
    for strength, iterations in ((0.0, 5), (-1.0, 5), (float("nan"), 5), (float("inf"), 5), (1.0, 0)):
        with pytest.raises(InputError, match=f"{method} got strength"):
            METHODS[method](case, strength, iterations)
    with pytest.raises(InputError, match="A\\^H y is zero"):
        METHODS[method](Measurement(0 * case.y, case.operator, case.noise), 1.0, 5)
    with pytest.raises(InputError, match="needs a linear operator"):
        METHODS[method](Measurement(torch.ones(3), Square(), Gaussian(1.0)), 1.0, 5)
    with pytest.raises(InputError, match="Gaussian noise"):
        METHODS[method](Measurement(case.y, case.operator, Noise()), 1.0, 5)


def test_zero_filled_refuses_nonlinear_operators():
    with pytest.raises(InputError, match="needs a linear operator"):
        zero_filled(Measurement(torch.ones(3), Square(), Gaussian(1.0)))
